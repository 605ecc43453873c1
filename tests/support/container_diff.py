# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between what two programs made of the same compose file.

Labels of the programs, ids, times, and what the engine chose (free ports, addresses) do not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

OWN_LABELS = ("com.docker.compose.", "immutable.delivery.")
# As compose writes them; a program that shares projects with it writes the same.
SHARED_LABELS = tuple(
    f"com.docker.compose.{name}"
    for name in (
        "container-number",
        "depends_on",
        "oneoff",
        "project",
        "project.environment_file",
        "project.working_dir",
        "service",
        "network",
        "volume",
    )
)
# Lists that come in the order of a map.
UNORDERED = (
    "Env",
    "Binds",
    "Aliases",
    "Links",
    "ExtraHosts",
    "Ulimits",
    "com.docker.compose.depends_on",
)
HEX = re.compile(r"(?<!sha256:)\b[0-9a-f]{64}\b")
PLACES = ("Driver", "EnableIPv6", "Internal", "Attachable", "Options", "Scope")
# From which the engine takes the addresses of networks that name none.
POOLS = ("172.", "192.168.")
LEFT_OUT = {
    "Id",
    "Created",
    "LogPath",
    "ResolvConfPath",
    "HostnamePath",
    "HostsPath",
    "GraphDriver",
    "RestartCount",
    "ExecIDs",
    "State",
    "NetworkSettings",
    "AppArmorProfile",
}


def comparable(containers: Iterable[Mapping[str, Any]], revision: str) -> dict[str, Any]:
    """Return the containers by name, without what may differ.

    :param containers: as the engine's ``inspect`` returns them.
    :param revision: a word of the project's files that may differ.
    """
    found = list(containers)
    names: dict[str, str] = {}
    for one in found:
        names[one["Id"]] = names[one["Id"][:12]] = f"<{one['Name'].lstrip('/')}>"

    def told(value: Any, below: str = "") -> Any:
        if isinstance(value, Mapping):
            return {told(name): told(item, name) for name, item in value.items()}
        if isinstance(value, list):
            items = [told(item) for item in value]
            return sorted(items, key=str) if below in UNORDERED else items
        if not isinstance(value, str):
            return value
        for number, name in names.items():
            value = value.replace(number, name)
        return HEX.sub("<id>", value).replace(revision, "<revision>")

    return {one["Name"].lstrip("/"): told(_container(one)) for one in found}


def comparable_places(kind: str, found: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return networks or volumes likewise; their names begin with what they are."""
    places = {}
    for one in found:
        kept = {name: one.get(name) for name in PLACES}
        kept["Labels"] = _labels(one.get("Labels"))
        ipam = one.get("IPAM") or {}
        kept["Subnets"] = [
            config for config in ipam.get("Config") or () if not config["Subnet"].startswith(POOLS)
        ]
        places[f"{kind} {one['Name']}"] = kept
    return places


def _labels(given: Mapping[str, str] | None) -> dict[str, Any]:
    return {
        name: value
        for name, value in (given or {}).items()
        if name in SHARED_LABELS or not name.startswith(OWN_LABELS)
    }


def _container(one: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in one.items() if name not in LEFT_OUT}
    config, host = dict(kept["Config"]), dict(kept["HostConfig"])
    config["Labels"] = _labels(config.get("Labels"))
    depends_on = config["Labels"].get("com.docker.compose.depends_on")
    if depends_on is not None:
        config["Labels"]["com.docker.compose.depends_on"] = depends_on.split(",")
    host["Mounts"] = sorted(host.get("Mounts") or (), key=lambda mount: str(mount["Target"]))
    bindings = host.get("PortBindings") or {}
    settings = one["NetworkSettings"]
    return {
        **kept,
        "Config": config,
        "HostConfig": host,
        "Mounts": sorted(kept["Mounts"], key=lambda mount: str(mount["Destination"])),
        "State": {name: one["State"][name] for name in ("Status", "ExitCode")},
        "Ports": {
            port: _ports(places, bindings.get(port) or ())
            for port, places in (settings["Ports"] or {}).items()
        },
        "Networks": {
            name: {
                "IPAMConfig": network["IPAMConfig"],
                "Links": list(set(network["Links"] or ())),
                "Aliases": list(set(network["Aliases"] or ())),
                "DriverOpts": network["DriverOpts"],
            }
            for name, network in settings["Networks"].items()
        },
    }


def _ports(
    places: Iterable[Mapping[str, str]] | None, bindings: Iterable[Mapping[str, str]]
) -> list[str]:
    chosen = {one["HostIp"] for one in bindings if not one["HostPort"].strip("0").isdecimal()}
    if "" in chosen:
        chosen |= {"0.0.0.0", "::"}
    return sorted(
        f"{place['HostIp']}:{'<free>' if place['HostIp'] in chosen else place['HostPort']}"
        for place in places or ()
    )


def differences(compose: Any, ours: Any, path: str = "") -> Iterator[str]:
    """Yield what differs, a line each."""
    if isinstance(compose, Mapping) and isinstance(ours, Mapping):
        for name in sorted({*compose, *ours}):
            below = f"{path} {name}".strip()
            yield from differences(compose.get(name), ours.get(name), below)
    elif isinstance(compose, list) and isinstance(ours, list) and len(compose) == len(ours):
        for number, pair in enumerate(zip(compose, ours, strict=True)):
            yield from differences(*pair, f"{path} {number}".strip())
    # The engine shows nothing in several ways.
    elif compose != ours and (compose or ours):
        yield f"{path}: compose has {compose!r}, this has {ours!r}"
