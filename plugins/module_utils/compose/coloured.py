# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The second project that ``blue_green`` brings up beside the first: pure.

Only services that may run twice are in it. What keeps data, its volumes and its networks are the
first project's, and both colours use them. In a network of its own each service finds those of its
own colour by their names; in the first project's it finds those that are not doubled, and bears no
name there, since two would bear it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .project import Project
from .service import Service
from .suitable import Unsuitable

# On the containers of a colour: the project that it is a colour of.
LABEL = "immutable.delivery.colour_of"


@dataclass(frozen=True)
class Joint:
    """What a colour uses of the first project.

    :param networks: by service, the names of the first project's networks that it is in.
    :param volumes: by the name of each volume, its key in the compose files.
    """

    networks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    volumes: Mapping[str, str] = field(default_factory=dict)


def only(base: Project, names: Collection[str]) -> Project:
    """Return a project with these of its services alone."""
    return replace(base, services={n: one for n, one in base.services.items() if n in names})


def coloured(base: Project, doubled: Collection[str], name: str) -> tuple[Project, Joint]:
    """Return the colour *name* of a project, and what it uses of that.

    :param doubled: the services that are in it.
    :raises Unsuitable: one of them asks for what two containers cannot both have.
    """
    suffix = name.removeprefix(f"{base.name}-")
    inside = only(base, doubled)
    specs = {one: _spec(base, service, doubled) for one, service in inside.services.items()}
    networks, joined = _networks(base, specs, name, suffix)
    volumes, shared = _volumes(base, specs, name, suffix)
    model = {**base.model, "name": name, "services": specs}
    model["networks"], model["volumes"] = networks, volumes
    services = {
        one: replace(service, spec=specs[one], image=specs[one]["image"])
        for one, service in inside.services.items()
    }
    return replace(base, name=name, model=model, services=services), Joint(joined, shared)


def _spec(base: Project, service: Service, doubled: Collection[str]) -> dict[str, Any]:
    left_out = {"build", "depends_on", "links"}
    spec = {key: value for key, value in service.spec.items() if key not in left_out}
    # Built once, for both colours.
    spec["image"] = service.image
    spec["labels"] = {**(spec.get("labels") or {}), LABEL: base.name}
    depends_on = {n: how for n, how in service.depends_on.items() if n in doubled}
    if depends_on:
        spec["depends_on"] = depends_on
    links = [entry for entry in service.spec.get("links") or () if _inside(service, entry, doubled)]
    if links:
        spec["links"] = links
    return spec


def _inside(service: Service, link: str, doubled: Collection[str]) -> bool:
    """Tell whether a link is to a service of the colour.

    :raises Unsuitable: it gives a service of the first project another name.
    """
    name, _colon, alias = link.partition(":")
    if name not in doubled and alias not in {"", name}:
        raise Unsuitable(
            f"service {service.name} has the link {link}, and {name} is not doubled",
            next_step=f"Use the name {name} in {service.name}, and remove the link.",
        )
    return name in doubled


def _networks(
    base: Project, specs: Mapping[str, Mapping[str, Any]], name: str, suffix: str
) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    written = base.model.get("networks") or {}
    outside = {
        key
        for service, one in base.services.items()
        if service not in specs
        for key in one.spec.get("networks") or ()
    }
    found: dict[str, Any] = {}
    joined: dict[str, tuple[str, ...]] = {}
    for service, spec in specs.items():
        for key, wish in (spec.get("networks") or {}).items():
            network = written.get(key) or {}
            found[key] = network if network.get("external") else _own(base, key, network, suffix)
            if (wish or {}).get("ipv4_address") or (wish or {}).get("ipv6_address"):
                raise Unsuitable(
                    f"service {service} has a fixed address in the network {key}, which two "
                    "containers cannot both have",
                    next_step=f"Remove the address; others find {service} by its name.",
                )
        keys = [key for key in spec.get("networks") or () if key in outside]
        names = (written[key]["name"] for key in keys if not (written[key] or {}).get("external"))
        joined[service] = tuple(names)
    return found, joined


def _own(base: Project, key: str, network: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    """Return a network of the colour's own; its range is the engine's to choose."""
    own = {name: value for name, value in network.items() if name != "ipam"}
    return {**own, "name": _named(base, base.real_name("networks", key), suffix)}


def _volumes(
    base: Project, specs: Mapping[str, Mapping[str, Any]], name: str, suffix: str
) -> tuple[dict[str, Any], dict[str, str]]:
    written = base.model.get("volumes") or {}
    used: dict[str, bool] = {}
    for service, spec in specs.items():
        for mount in spec.get("volumes") or ():
            if mount.get("type") == "volume" and mount.get("source"):
                key = mount["source"]
                # What an image fills anew is each colour's own.
                used[key] = used.get(key, False) or base.services[service].static
    found: dict[str, Any] = {}
    shared: dict[str, str] = {}
    for key, own in used.items():
        volume = written.get(key) or {}
        real = base.real_name("volumes", key)
        if own and not volume.get("external"):
            found[key] = {**volume, "name": _named(base, real, suffix)}
        else:
            found[key] = {"name": real, "external": True}
            if not volume.get("external"):
                shared[real] = key
    return found, shared


def _named(base: Project, real: str, suffix: str) -> str:
    """Return the colour's name of what the first project calls *real*."""
    inside = real.removeprefix(f"{base.name}_")
    return f"{base.name}-{suffix}_{inside}" if inside != real else f"{real}-{suffix}"
