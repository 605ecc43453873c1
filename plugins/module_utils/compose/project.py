# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wanted: the compose files as compose itself reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import enumerate_words
from .cli import Compose, ComposeError
from .hashing import Hashing

COMPLETED = "service_completed_successfully"
NAMESPACES = ("network_mode", "ipc", "pid")
DEFAULT_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
KEY = re.compile(r"""(\s*)["']?([^\s"'#:]+)["']?\s*:""")
# What compose does between creating a container and starting it, or outside of any container.
NOT_BY_STARTING = {
    "post_start": "its hook would not be run",
    "pre_stop": "its hook would not be run",
    "provider": "it is no container",
    "links": "they would name the container that is replaced",
}


class Unsuitable(ComposeError):
    """The compose files hold what the strategy cannot do."""

    kind = "unsuitable"


@dataclass(frozen=True)
class Service:
    """One service as it is wanted.

    :param spec: as ``docker compose config`` renders it.
    :param image: the name of its image.
    :param digest: of what its image is built from; None where it is not built or not known.
    :param ends: it holds data or does one thing, and is well once it has ended with 0.
    """

    name: str
    spec: Mapping[str, Any] = field(repr=False)
    image: str
    scale: int
    hashing: Hashing
    digest: str | None = None
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
    def fixed_ports(self) -> tuple[str, ...]:
        """The host ports that only one container can have."""
        told = (str(port.get("published") or "0") for port in self.spec.get("ports") or ())
        return tuple(port for port in told if port.isdecimal() and int(port))

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


@dataclass(frozen=True)
class Project:
    """A project as it is wanted; ``model`` is what ``docker compose config`` renders."""

    name: str
    model: Mapping[str, Any] = field(repr=False)
    services: Mapping[str, Service] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def model_with(
        self, specs: Mapping[str, Mapping[str, Any]], volumes: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Return the model with *specs* in place of those services, and *volumes* that exist."""
        model = dict(self.model)
        model["services"] = {**model["services"], **specs}
        kept = {name: {"name": name, "external": True} for name in volumes}
        if kept:
            model["volumes"] = {**(model.get("volumes") or {}), **kept}
        return model

    def levels(self, among: Iterable[str]) -> list[list[str]]:
        """Return *among* so that each list needs only services of those before it."""
        left = set(among)
        closure = {name: self.needs([name]) - {name} for name in left}
        levels = []
        while left:
            ready = sorted(name for name in left if not closure[name] & left)
            levels.append(ready)
            left -= set(ready)
        return levels

    def needs(self, names: Iterable[str]) -> set[str]:
        """Return *names* and all they depend on."""
        found: set[str] = set()
        left = list(names)
        while left:
            name = left.pop()
            if name in found or name not in self.services:
                continue
            found.add(name)
            left += [*self.services[name].depends_on, *self.services[name].references]
        return found


def load(
    compose: Compose,
    *,
    services: Sequence[str] = (),
    static: Sequence[str] = (),
    run_once: Sequence[str] = (),
) -> Project:
    """Read the compose files.

    :param services: those wanted, with all they depend on; empty for all.
    :param static: those that hold nothing but the data of their image.
    :param run_once: further ones that end with 0 once they have done their work.
    :raises ComposeError: they cannot be read, or name no such service.
    """
    if not compose.folder.is_dir():
        raise ComposeError(f"project_src is no folder: {compose.folder}")
    for name in (*compose.files, *compose.env_files):
        if not (compose.folder / name).is_file():
            raise ComposeError(f"there is no file {compose.folder / name}")
    model = json.loads(compose.read("config", "--format", "json"))
    lines = compose.read("config", "--hash", "*").splitlines()
    hashes = dict(line.split() for line in lines if len(line.split()) == 2)
    specs: dict[str, dict[str, Any]] = model.get("services") or {}
    for option, names in (("services", services), ("static_services", static)):
        unknown = sorted(set(names) - set(specs))
        if unknown:
            raise ComposeError(
                f"{option} names {enumerate_words(unknown)}, which the compose files do not have",
                next_step=f"They have {enumerate_words(sorted(specs)) or 'no services'}.",
            )
    hashing = Hashing.found(specs, hashes)
    if not hashing.known:
        raise ComposeError(
            "this version of docker compose takes the digests of services in a way that is not "
            "known here, so what has changed could not be told",
            next_step="Use docker compose 2.24 to 2.40.",
        )
    ending = set(static) | set(run_once)
    for spec in specs.values():
        ending |= {
            name
            for name, how in (spec.get("depends_on") or {}).items()
            if how.get("condition") == COMPLETED
        }
    found = {
        name: Service(
            name=name,
            spec=spec,
            image=spec.get("image") or f"{model['name']}-{name}",
            scale=_scale(spec),
            hashing=hashing,
            ends=name in ending,
            static=name in static,
        )
        for name, spec in specs.items()
    }
    project = Project(model["name"], model, found, compose.files or _default_files(compose.folder))
    if services:
        wanted = project.needs([*services, *static])
        project = Project(
            project.name,
            project.model,
            {name: service for name, service in found.items() if name in wanted},
            project.files,
        )
    return project


def _scale(spec: Mapping[str, Any]) -> int:
    replicas = (spec.get("deploy") or {}).get("replicas")
    for value in (spec.get("scale"), replicas):
        if value is not None:
            return int(value)
    return 1


def _default_files(folder: Path) -> tuple[str, ...]:
    return tuple(name for name in DEFAULT_FILES if (folder / name).is_file())[:1]


def check_startable(project: Project) -> None:
    """Make sure that starting a container is all there is to starting each service.

    :raises Unsuitable: a service needs more.
    """
    for service in project.services.values():
        for key, why in NOT_BY_STARTING.items():
            if service.spec.get(key):
                raise Unsuitable(
                    f"service {service.name} has {key}, which only strategy blue_green can do: "
                    f"{why}"
                )
        for kind in ("secrets", "configs"):
            for entry in service.spec.get(kind) or ():
                source = entry["source"]
                definition = (project.model.get(kind) or {}).get(source) or {}
                if "environment" in definition or "content" in definition:
                    raise Unsuitable(
                        f"service {service.name} uses {source} of {kind}, which is no file; only "
                        "strategy blue_green can do that",
                        next_step=f"Keep {source} in a file, and name it in {kind}.",
                    )


def check_repeatable(project: Project, folder: Path, strategy: str) -> None:
    """Make sure that two containers of each service can run side by side.

    :raises Unsuitable: the files fix what only one of them can have.
    """
    for service in project.services.values():
        if service.container_name:
            raise Unsuitable(
                f"service {service.name} has container_name {service.container_name}"
                f"{_place(project, folder, service.name, 'container_name')}, so strategy "
                f"{strategy} cannot run a second container beside it",
                next_step="Remove container_name; others reach the containers by the service's "
                "name. Or use strategy recreate.",
            )
        if service.shares and strategy == "rolling":
            kind, other = next(iter(service.shares.items()))
            raise Unsuitable(
                f"service {service.name} shares {kind} with a container of {other}"
                f"{_place(project, folder, service.name, kind)}, which strategy rolling would take "
                "from it",
                next_step="Use a network of both, or strategy recreate.",
            )
        if service.fixed_ports:
            port = service.fixed_ports[0]
            raise Unsuitable(
                f"service {service.name} publishes the fixed port {port}"
                f"{_place(project, folder, service.name, 'ports')}, so strategy {strategy} cannot "
                "run a second container beside it",
                next_step="Give the container's port alone, so that the engine picks the host's, "
                "and let a router hold the fixed one. Or use strategy recreate.",
            )


def _place(project: Project, folder: Path, service: str, key: str) -> str:
    """Return the file and line of a service's *key*, where they are found."""
    for name in project.files:
        try:
            lines = (folder / name).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        number = line_of(lines, service, key)
        if number:
            return f" ({name}, line {number})"
    return ""


def line_of(lines: Sequence[str], service: str, key: str) -> int | None:
    """Return the number of the line of services.SERVICE.KEY in block-style YAML, or None."""
    path = ["services", service, key]
    above: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        found = KEY.match(line)
        if not found:
            continue
        indent = len(found[1])
        while above and indent <= above[-1][0]:
            above.pop()
        above.append((indent, found[2]))
        if [name for _indent, name in above] == path:
            return number
    return None
