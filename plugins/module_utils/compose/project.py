# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wanted: the compose files as compose itself reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import enumerate_words
from .cli import Compose, ComposeError
from .engine_state import Instance
from .hashing import ask_compose
from .model import as_written, check_text, parse_model, repair
from .service import NAMESPACES, Service

COMPLETED = "service_completed_successfully"
OVERRIDE_FILES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
DEFAULT_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")


@dataclass(frozen=True)
class Project:
    """A project as it is wanted.

    :param model: what ``docker compose config`` renders.
    :param warnings: what compose warned of when it read the files.
    """

    name: str
    model: Mapping[str, Any] = field(repr=False)
    services: Mapping[str, Service] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def model_with(self, specs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return the model with *specs* in place of those services."""
        return {**self.model, "services": {**self.model["services"], **specs}}

    def real_name(self, kind: str, key: str) -> str:
        """Return what the engine calls one of the ``networks`` or ``volumes``, by its key."""
        written = (self.model.get(kind) or {}).get(key) or {}
        return str(written.get("name") or f"{self.name}_{key}")

    def shares_data(self, service: Service, one: Instance) -> bool:
        """Tell whether a service writes to a volume that a container of another one has."""
        keys = {
            mount["source"]
            for mount in service.spec.get("volumes") or ()
            if mount.get("type") == "volume" and mount.get("source") and not mount.get("read_only")
        }
        names = {self.real_name("volumes", key) for key in keys}
        return any(mount.name in names for mount in one.mounts)

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

    def needs(self, names: Iterable[str], *, references: bool = True) -> set[str]:
        """Return *names* and all they depend on.

        :param references: whether that is also what they refer to, and not only by ``depends_on``.
        """
        found: set[str] = set()
        left = list(names)
        while left:
            name = left.pop()
            if name in found or name not in self.services:
                continue
            found.add(name)
            left += self.services[name].depends_on
            left += self.services[name].references if references else ()
        return found


def read_model(compose: Compose) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Read the compose files; return what compose renders, and what it warned of.

    :raises ComposeError: they cannot be read.
    """
    if not compose.folder.is_dir():
        raise ComposeError(f"project_src is no folder: {compose.folder}")
    for name in (*compose.files, *compose.env_files):
        if not (compose.folder / name).is_file():
            raise ComposeError(f"there is no file {compose.folder / name}")
    try:
        text, warnings = compose.read("config", "--format", "json")
    except ComposeError as error:
        if "json" not in error.message.lower():
            raise
        # Some attributes, such as build.ssh, can only be printed as YAML.
        text, warnings = compose.read("config", "--format", "yaml")
    model = as_written(parse_model(text))
    check_text(model)
    return model, warnings


def project_of(
    compose: Compose,
    model: Mapping[str, Any],
    *,
    warnings: tuple[str, ...] = (),
    services: Sequence[str] = (),
    static: Sequence[str] = (),
    run_once: Sequence[str] = (),
) -> Project:
    """Return the project that a model is of.

    :param services: those wanted, with all they depend on; empty for all.
    :param static: those that hold nothing but the data of their image.
    :param run_once: further ones that end with 0 once they have done their work.
    :raises ComposeError: there is no such service.
    """
    specs: dict[str, dict[str, Any]] = model.get("services") or {}
    for option, names in (("services", services), ("static_services", static)):
        unknown = sorted(set(names) - set(specs))
        if unknown:
            raise ComposeError(
                f"{option} names {enumerate_words(unknown)}, which the compose files do not have",
                next_step=f"They have {enumerate_words(sorted(specs)) or 'no services'}.",
            )
    for spec in specs.values():
        repair(spec, specs)
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
            ends=name in ending,
            static=name in static,
            named=named_containers(model, spec),
        )
        for name, spec in specs.items()
    }
    files = compose.files or _default_files(compose.folder)
    project = Project(model["name"], model, found, files, warnings)
    if services:
        wanted = project.needs([*services, *static])
        named = {name: service for name, service in found.items() if name in wanted}
        project = replace(project, services=named)
    return hashed(compose, project)


def named_containers(model: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, str]:
    """Return whose namespaces a service shares by ``container:NAME``, by their kinds.

    Containers of other projects, and those of a service with several, are left out.
    """
    owners = {
        str(other.get("container_name") or f"{model['name']}-{service}-1"): service
        for service, other in (model.get("services") or {}).items()
        if _scale(other) == 1
    }
    found = {}
    for kind in NAMESPACES:
        first, _colon, name = str(spec.get(kind) or "").partition(":")
        if first == "container" and name in owners:
            found[kind] = owners[name]
    return found


def hashed(compose: Compose, project: Project) -> Project:
    """Return a project with the hashes that compose gives those of its services.

    Those that refer to containers of others are asked for when these are known.
    """
    plain = [one for one in project.services.values() if not one.references]
    hashes = ask_compose(compose, project.model, [one.resolved({}) for one in plain])
    asked = {one.name: replace(one, hash=h) for one, h in zip(plain, hashes, strict=True)}
    return replace(project, services={**project.services, **asked})


def _scale(spec: Mapping[str, Any]) -> int:
    replicas = (spec.get("deploy") or {}).get("replicas")
    for value in (spec.get("scale"), replicas):
        if value is not None:
            return int(value)
    return 1


def _default_files(folder: Path) -> tuple[str, ...]:
    first, overrides = (
        [name for name in names if (folder / name).is_file()]
        for names in (DEFAULT_FILES, OVERRIDE_FILES)
    )
    return (*first[:1], *overrides[:1])
