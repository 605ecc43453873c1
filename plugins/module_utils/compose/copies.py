# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A created container made once more under another name, with other labels and given volumes.

Compose creates no second container of a name or a number, and none with volumes taken over, while
the former one is there. So the one that it creates beside the former one is a model for the real
one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from posixpath import normpath
from typing import TYPE_CHECKING, Any

from ..engine.errors import engine_errors
from .engine_state import Mount

with suppress(ImportError):  # the module reports what is missing
    from docker.utils import version_lt

if TYPE_CHECKING:
    from docker import DockerClient

# Networks whose containers have no addresses or aliases of their own.
WITHOUT_ENDPOINT = ("host", "none")
# The version of the API that takes more than one network at creation: that of engine 25.0.
SEVERAL_NETWORKS = "1.44"
ENDPOINT = ("IPAMConfig", "Links", "DriverOpts", "MacAddress", "GwPriority")


def copy_created(
    client: DockerClient,
    seen: Mapping[str, Any],
    name: str,
    *,
    final_name: str,
    labels: Mapping[str, str],
    volumes: Iterable[Mount] = (),
    hostname: str = "",
    platform: str | None = None,
) -> str:
    """Create a container like one that was never started; return its id.

    :param seen: what the engine says of that one.
    :param name: the name to create it under.
    :param final_name: the name by which others in its networks shall reach it.
    :param labels: in place of its labels of those names.
    :param volumes: in place of its anonymous volumes.
    :param hostname: the one that the files give it; the engine has made up any other.
    :raises DeliveryError: the engine refused.
    """
    former = seen["Name"].lstrip("/")
    config = {
        **seen["Config"],
        "Hostname": hostname,
        "Labels": {**(seen["Config"].get("Labels") or {}), **labels},
        "HostConfig": _host_config(seen["HostConfig"], volumes),
    }
    networks = {
        network: _endpoint(values, seen["Id"], former, final_name)
        for network, values in (seen["NetworkSettings"].get("Networks") or {}).items()
        if network not in WITHOUT_ENDPOINT
    }
    at_once = dict(networks)
    if version_lt(client.api.api_version, SEVERAL_NETWORKS):
        first = _first_network(client, seen["HostConfig"].get("NetworkMode") or "", networks)
        at_once = {name: values for name, values in networks.items() if name == first}
    if at_once:
        config["NetworkingConfig"] = {"EndpointsConfig": at_once}
    with engine_errors(f"create the container {final_name}"):
        create: Any = client.api.create_container_from_config
        made = create(config, name, platform=platform)
        container_id = str(made["Id"])
    for network, endpoint in networks.items():
        if network in at_once:
            continue
        address = endpoint.get("IPAMConfig") or {}
        links = [tuple(link.split(":", 1)) for link in endpoint.get("Links") or ()]
        with engine_errors(f"connect the container {final_name} to the network {network}"):
            client.api.connect_container_to_network(
                container_id,
                network,
                ipv4_address=address.get("IPv4Address"),
                ipv6_address=address.get("IPv6Address"),
                link_local_ips=address.get("LinkLocalIPs"),
                aliases=endpoint.get("Aliases"),
                links=links or None,
                driver_opt=endpoint.get("DriverOpts"),
                mac_address=endpoint.get("MacAddress"),
            )
    return container_id


def _first_network(client: DockerClient, mode: str, networks: Mapping[str, Any]) -> str:
    """Return the name of the network of a container's mode: compose gives an external one's id."""
    if not networks or mode in networks:
        return mode
    with engine_errors(f"inspect the network {mode}"):
        return str(client.api.inspect_network(mode)["Name"])


def _host_config(seen: Mapping[str, Any], volumes: Iterable[Mount]) -> dict[str, Any]:
    """Return the host's part with *volumes* mounted as compose mounts those it takes over."""
    given = {one.place: one for one in volumes}
    mounts = [one for one in seen.get("Mounts") or () if normpath(one["Target"]) not in given]
    mounts += [
        {"Type": "volume", "Source": one.name, "Target": place, "ReadOnly": one.read_only}
        for place, one in given.items()
    ]
    return {**seen, "Mounts": mounts} if mounts else dict(seen)


def _endpoint(
    seen: Mapping[str, Any], container_id: str, former: str, final_name: str
) -> dict[str, Any]:
    kept = {name: seen[name] for name in ENDPOINT if seen.get(name)}
    # The engine adds the beginning of the id by itself.
    aliases = [one for one in seen.get("Aliases") or () if one != container_id[:12]]
    if aliases:
        kept["Aliases"] = [final_name if one == former else one for one in aliases]
    return kept
