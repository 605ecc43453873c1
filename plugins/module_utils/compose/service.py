# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One service of a compose project as it is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..engine.containers import NO_RESTART
from .claims import Port, wanted_ports
from .hashing import Hashing

NAMESPACES = ("network_mode", "ipc", "pid")
# The conditions of deploy.restart_policy in the words of the engine.
CONDITIONS = {"none": NO_RESTART, "any": "always"}


@dataclass(frozen=True)
class Service:
    """One service as it is wanted.

    :param spec: as ``docker compose config`` renders it.
    :param image: the name of its image.
    :param ends: it holds data or does one thing, and is well once it has ended with 0.
    """

    name: str
    spec: Mapping[str, Any] = field(repr=False)
    image: str
    scale: int
    hashing: Hashing
    ends: bool = False
    static: bool = False

    @property
    def built(self) -> bool:
        """Whether its image is built from this project."""
        return "build" in self.spec

    @property
    def container_name(self) -> str | None:
        """The fixed name of its only container, where it has one."""
        return self.spec.get("container_name")

    @property
    def depends_on(self) -> Mapping[str, Mapping[str, Any]]:
        """The services that it depends on, with the conditions."""
        return self.spec.get("depends_on") or {}

    @property
    def volumes_from(self) -> tuple[str, ...]:
        """The services whose containers' volumes it mounts."""
        return tuple(
            entry.split(":")[0]
            for entry in self.spec.get("volumes_from") or ()
            if not entry.startswith("container:")
        )

    @property
    def shares(self) -> Mapping[str, str]:
        """The kinds of namespaces it shares, with the service it shares each with."""
        found = {}
        for kind in NAMESPACES:
            value = str(self.spec.get(kind) or "")
            if value.startswith("service:"):
                found[kind] = value.partition(":")[2]
        return found

    @property
    def references(self) -> frozenset[str]:
        """The services whose very containers it needs."""
        return frozenset(self.volumes_from) | frozenset(self.shares.values())

    @property
    def ports(self) -> tuple[Port, ...]:
        """The host's ports that each of its containers needs, or ranges of them."""
        return wanted_ports(self.spec)

    @property
    def fixed_ports(self) -> tuple[str, ...]:
        """The host ports that only one container can have."""
        return tuple(str(port.first) for port in self.ports if port.first == port.last)

    @property
    def restart(self) -> str:
        """The restart policy of its containers, as the engine's CLI writes it."""
        policy = (self.spec.get("deploy") or {}).get("restart_policy")
        if policy is None:
            return str(self.spec.get("restart") or NO_RESTART)
        condition = str(policy.get("condition") or "any")
        most = policy.get("max_attempts")
        kind = CONDITIONS.get(condition, condition)
        return f"{kind}:{most}" if most else kind

    @property
    def environment_names(self) -> tuple[str, ...]:
        """The names of its environment variables; the values may be secrets."""
        return tuple(sorted(self.spec.get("environment") or ()))

    def resolved(self, ids: Mapping[str, str]) -> dict[str, Any]:
        """Return the spec with *ids*, by service, in place of the services it needs.

        They are written as the compose file may name containers.
        """
        spec = dict(self.spec)
        if self.volumes_from:
            spec["volumes_from"] = [
                entry if entry.startswith("container:") else f"container:{ids[entry.split(':')[0]]}"
                for entry in spec["volumes_from"]
            ]
        for kind, service in self.shares.items():
            spec[kind] = f"container:{ids[service]}"
        return spec

    def hashes(self, ids: Mapping[str, str], inherited: Mapping[str, str]) -> set[str]:
        """Return the labels that a container of this configuration may bear.

        :param ids: of the containers it refers to, by service.
        :param inherited: the anonymous volumes that it was given, by their place.
        """
        spec = self.resolved(ids)
        if "volumes_from" in spec:
            spec["volumes_from"] = [
                entry.removeprefix("container:") for entry in spec["volumes_from"]
            ]
        found = set()
        for given in (spec, without_name(spec)):
            found.add(self.hashing.of(given))
            if inherited:
                found.add(self.hashing.of(with_volumes(given, inherited)))
        return found


def without_name(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return *spec* as it is while its container stands beside the one that has the name."""
    return {name: value for name, value in spec.items() if name != "container_name"}


def with_volumes(spec: Mapping[str, Any], inherited: Mapping[str, str]) -> dict[str, Any]:
    """Return *spec* with volumes, by their place, taken over from an earlier container."""
    volumes = [v for v in spec.get("volumes") or () if v.get("target") not in inherited]
    volumes += [
        {"type": "volume", "source": name, "target": place, "volume": {}}
        for place, name in sorted(inherited.items())
    ]
    # The place of the entry matters to the digest; compose renders the fields in this order.
    done = {name: value for name, value in spec.items() if name not in {"volumes", "volumes_from"}}
    done["volumes"] = volumes
    if "volumes_from" in spec:
        done["volumes_from"] = spec["volumes_from"]
    later = [name for name in done if name > "volumes_from"]
    for name in later:
        done[name] = done.pop(name)
    return done
