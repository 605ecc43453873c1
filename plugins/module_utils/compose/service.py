# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One service of a compose project as it is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from posixpath import normpath
from typing import Any

from ..engine.containers import NO_RESTART
from .claims import Port, wanted_ports

NAMESPACES = ("network_mode", "ipc", "pid")
# The conditions of deploy.restart_policy in the words of the engine.
CONDITIONS = {"none": NO_RESTART, "any": "always"}


@dataclass(frozen=True)
class Service:
    """One service as it is wanted.

    :param spec: as ``docker compose config`` renders it.
    :param image: the name of its image.
    :param hash: the label that compose gives its containers, unless they refer to others.
    :param named: the kinds of namespaces that it shares with a container which the files name, with
        the service that this is of.
    :param orphan: the compose files do not have it any more.
    :param ends: it holds data or does one thing, and is well once it has ended with 0.
    """

    name: str
    spec: Mapping[str, Any] = field(repr=False)
    image: str
    scale: int
    hash: str = ""
    ends: bool = False
    static: bool = False
    orphan: bool = False
    named: Mapping[str, str] = field(default_factory=dict)

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
    def volumes_of_others(self) -> tuple[tuple[str, bool], ...]:
        """Whose volumes it mounts, as they are written, and whether it may write to them."""
        return tuple(
            (entry.removesuffix(":ro").removesuffix(":rw"), not entry.endswith(":ro"))
            for entry in self.spec.get("volumes_from") or ()
        )

    @property
    def shares(self) -> Mapping[str, str]:
        """The kinds of namespaces it shares, with the service it shares each with."""
        return {**self._written_shares, **self.named}

    @property
    def _written_shares(self) -> dict[str, str]:
        written = {kind: str(self.spec.get(kind) or "") for kind in NAMESPACES}
        return {
            kind: value.partition(":")[2]
            for kind, value in written.items()
            if value.startswith("service:")
        }

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

    def anonymous_places(self, declared: Iterable[str]) -> set[str]:
        """Return where its containers have anonymous volumes, normalised.

        :param declared: the places that its image declares.
        """
        places = set(declared)
        for volume in self.spec.get("volumes") or ():
            place = normpath(volume["target"])
            if volume.get("type") == "volume" and not volume.get("source"):
                places.add(place)
            else:
                places.discard(place)
        return places - {normpath(one.split(":")[0]) for one in self.spec.get("tmpfs") or ()}

    @property
    def environment_names(self) -> tuple[str, ...]:
        """The names of its environment variables; the values may be secrets."""
        return tuple(sorted(self.spec.get("environment") or ()))

    def resolved(self, ids: Mapping[str, str]) -> dict[str, Any]:
        """Return the spec with *ids*, by service, in place of the services it needs.

        It is what compose makes of it before it creates a container: the mode of an entry of
        ``volumes_from`` gets lost.
        """
        spec = dict(self.spec)
        if spec.get("volumes_from"):
            spec["volumes_from"] = [_source(entry, ids) for entry in spec["volumes_from"]]
        for kind, service in self._written_shares.items():
            spec[kind] = f"container:{ids[service]}"
        return spec

    def pointed(self, spec: Mapping[str, Any], ids: Mapping[str, str]) -> dict[str, Any]:
        """Return a resolved *spec* with *ids* in place of the names of containers.

        The engine takes the container that has the name when this one is created. That is the
        former one.
        """
        return {**spec, **{kind: f"container:{ids[one]}" for kind, one in self.named.items()}}


def _source(entry: str, ids: Mapping[str, str]) -> str:
    """Return the container that an entry of ``volumes_from`` means."""
    first, _colon, rest = entry.partition(":")
    return rest.split(":")[0] if first == "container" else ids[first]


def without_name(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return *spec* without ``container_name``, which the former container still has."""
    return {name: value for name, value in spec.items() if name != "container_name"}


def creatable(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resolved *spec* as a compose file may have it, without ``container_name``."""
    made = without_name(spec)
    if made.get("volumes_from"):
        made["volumes_from"] = [f"container:{one}" for one in made["volumes_from"]]
    return made
