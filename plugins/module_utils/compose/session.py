# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every part of a run needs: the options, the engine, the compose files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.options import Connection
from ..errors import DeliveryError, enumerate_words
from ..signals import ignore_signals
from .cli import Compose
from .containers import Containers
from .engine_state import Image, Instance
from .extension import read_extensions
from .former_images import FormerImages
from .image_sources import ALWAYS, Policy
from .images import Images, ImagesChange
from .inline_files import read_inline
from .options import routing_of
from .outdated import find_outdated
from .project import Project, project_of, read_model
from .releases import Release
from .routing import ProjectRouting
from .secrets import learn_secrets
from .strategies import BLUE_GREEN, RECREATE, Given, How, hows
from .suitable import check_repeatable, check_startable

if TYPE_CHECKING:
    from docker import DockerClient

SQLITE = b"SQLite format 3\0"


@dataclass(frozen=True)
class Session:
    """What every part of a run needs."""

    params: Mapping[str, Any]
    check_mode: bool
    warn: Callable[[str], None]
    client: DockerClient
    compose: Compose
    connection: Connection
    release: Release | None = None

    @property
    def policy(self) -> Policy:
        """When to build and to pull."""
        return Policy(
            self.params["build"],
            self.params["pull"],
            self.params["build_timeout"],
            self.params["pull_timeout"],
        )

    @property
    def keep(self) -> bool:
        """Whether a former project is kept, stopped."""
        return int(self.params["keep_releases"]) > 0

    @cached_property
    def written(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        """What compose reads in the files, and what it warned of."""
        return read_model(self.compose)

    @property
    def name(self) -> str:
        """The project's name."""
        return str(self.params["project_name"] or self.written[0]["name"])

    def load(self) -> Project:
        """Read the compose files.

        :raises DeliveryError: they hold what the strategy cannot do.
        """
        model, warnings = (self.release.model, ()) if self.release else self.written
        project = project_of(
            self.compose,
            model,
            warnings=warnings,
            services=self.release.services if self.release else self.params["services"],
            static=[n for n in self.params["static_services"] if self._may_have(n)],
            run_once=self.params["run_once_services"],
        )
        learn_secrets(model)
        for text in project.warnings:
            self.warn(text)
        if self.params["strategy"] != BLUE_GREEN:
            check_startable(project)
        return project

    def given(self) -> Given:
        """Return what the options and the compose files say of strategies.

        :raises DeliveryError: it cannot be used.
        """
        said = self.release.extensions if self.release else read_extensions(self.compose)
        return Given(
            self.params["strategy"],
            {
                **said.strategies,
                **{n: one for n, one in self.params["strategies"].items() if self._may_have(n)},
            },
            said.shared | frozenset(filter(self._may_have, self.params["shared"])),
            self._is_folder,
            is_sqlite if self.connection.local else lambda path: False,
            said,
        )

    def hows(
        self, project: Project, given: Given, images: Mapping[str, Image | None]
    ) -> dict[str, How]:
        """Return how each service is replaced, as far as their images are there.

        :raises DeliveryError: the files hold what a strategy cannot do.
        """
        found = hows(project, given, images)
        strategies = {name: how.strategy for name, how in found.items()}
        # One whose image is not there yet may keep data, and be replaced in turn.
        unknown = [name for name in found if images.get(name) is None]
        strategies.update(dict.fromkeys(unknown, RECREATE))
        check_repeatable(project, self.compose.folder, strategies)
        return found

    def _may_have(self, name: str) -> bool:
        """Tell whether an option may name a service or volume: the task knows those of today."""
        if self.release is None:
            return True
        model = self.release.model
        return name in (model.get("services") or {}) or name in (model.get("volumes") or {})

    def _is_folder(self, path: str) -> bool | None:
        """Tell whether a path of the engine's host is a folder, which compose makes if need be."""
        if not self.connection.local:
            return None
        return Path(path).is_dir() or not Path(path).exists()

    def routing(self, project: Project) -> ProjectRouting | None:
        """Return the router, where there is one."""
        return routing_of(self.params, project, self.connection)

    def getting(self, project: Project) -> ImagesChange:
        """Return what gets the project's images."""
        compose = replace(self.compose, name=project.name)
        told = (self.client, compose, project, self.policy)
        return FormerImages(self.release, *told) if self.release else ImagesChange(*told)

    def warn_of_builds(self, images: Images) -> None:
        """Say in check mode what it cannot know; Ansible shows no diff of what did not change."""
        if self.check_mode and images.built:
            names = enumerate_words(images.built)
            self.warn(f"would build {names}; only that tells whether containers are replaced")

    def outdated(
        self,
        project: Project,
        standing: Mapping[str, Sequence[Instance]],
        *,
        forced: bool | None = None,
    ) -> dict[str, str]:
        """Return why containers are to be replaced, by their ids, as :func:`find_outdated` does."""
        if forced is None:
            forced = self.params["recreate"] == ALWAYS
        return find_outdated(self.client, self.compose, project, standing, forced=forced)

    def containers(
        self, project: Project, images: Mapping[str, Image | None] | None = None
    ) -> Containers:
        """Return what works on the project's containers."""
        compose = replace(self.compose, name=project.name)
        return Containers(
            self.client,
            compose,
            project,
            self.params["wait_timeout"],
            images or {},
            read_inline(self.compose, project),
        )


def tag_back(session: Session, getting: ImagesChange | None) -> str:
    """Give the former images their names back after a failure; return what is wrong then."""
    ignore_signals()
    if getting is None or session.check_mode:
        return ""
    try:
        getting.tag_back()
    except DeliveryError as error:
        return f"The former images could not get their names back: {error.message}."
    return ""


def is_sqlite(path: str) -> bool:
    """Tell whether a file has a SQLite database: its journal lies beside it, in each container."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except OSError:
        return False
