# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proved releases of a project, in a file where its task runs, so that one can come back.

A release is what compose read (secrets in it), and the images by their ids and digests. Files that
containers mount are no part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..engine.options import Connection
from ..errors import DeliveryError
from ..routers.files import replace_file
from .engine_state import Image
from .extension import Extensions
from .project import Project

FORMAT = 1
# What the services of a model refer to.
PARTS = ("networks", "volumes", "configs", "secrets")


class NoRelease(DeliveryError):
    """There is no release to go back to."""

    kind = "no_release"


@dataclass(frozen=True)
class Kept:
    """An image of a release: its name, its id, and its digests at registries."""

    name: str
    id: str
    digests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Release:
    """What was proved.

    :param model: what compose read.
    :param images: by service.
    :param services: the services of the run, of all that the files have.
    :param extensions: what ``x-delivery`` said.
    """

    model: Mapping[str, Any] = field(repr=False)
    images: Mapping[str, Kept]
    services: tuple[str, ...]
    extensions: Extensions = field(default_factory=Extensions)

    @classmethod
    def of(
        cls, project: Project, images: Mapping[str, Image | None], extensions: Extensions
    ) -> Release:
        """Return what a project is now."""
        kept = {
            name: Kept(service.image, found.id, found.digests)
            for name, service in project.services.items()
            if (found := images.get(name)) is not None
        }
        return cls(project.model, kept, tuple(sorted(project.services)), extensions)

    def upon(self, former: Release) -> Release:
        """Return what stands after a run of some services: of the others, what *former* has."""
        specs = self.model.get("services") or {}
        others = {n for n in former.services if n in specs and n not in self.services}
        if not others:
            return self
        model = {**self.model}
        for part in PARTS:
            if both := {**(former.model.get(part) or {}), **(self.model.get(part) or {})}:
                model[part] = both
        model["services"] = {**specs, **{n: former.model["services"][n] for n in others}}
        images = {n: one for n, one in former.images.items() if n in others}
        said = {n: one for n, one in self.extensions.services.items() if n not in others}
        said |= {n: one for n, one in former.extensions.services.items() if n in others}
        return Release(
            model,
            {**images, **self.images},
            tuple(sorted({*self.services, *others})),
            replace(self.extensions, services=said),
        )


@dataclass(frozen=True)
class Releases:
    """The releases of one project, the newest last.

    :param went_back: whether the newest one is there again, and was not deployed last.
    """

    path: Path
    found: tuple[Release, ...] = ()
    went_back: bool = False

    @property
    def back(self) -> Release:
        """The release to go back to: the one before the newest, or that which came back already.

        :raises NoRelease: there is none.
        """
        if self.went_back and self.found:
            return self.found[-1]
        if len(self.found) < 2:
            raise NoRelease(
                f"{self.path} has no release that was proved before the newest one",
                next_step="Deploy the former version. From then on each proved release is kept, if "
                "keep_releases is not 0.",
            )
        return self.found[-2]

    def with_newest(self, release: Release, keep: int) -> Releases:
        """Return them with *release* as the newest, and *keep* former ones."""
        former = self.found[:-1] if self.found and self.found[-1] == release else self.found
        went_back = self.went_back and former != self.found
        return Releases(self.path, (*former, release)[-keep - 1 :], went_back)

    def gone_back(self) -> Releases:
        """Return them with the release that came back as the newest."""
        found = self.found if self.went_back else self.found[:-1]
        return Releases(self.path, found, True)

    def write(self) -> None:
        """Keep them, mode 0600: they have secrets.

        :raises DeliveryError: the file cannot be written.
        """
        values = {
            "format": FORMAT,
            "went_back": self.went_back,
            "releases": [asdict(one) for one in self.found],
        }
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DeliveryError(f"{self.path.parent} cannot be made: {error.strerror}") from error
        replace_file(self.path, json.dumps(values), 0o600)


def forget(path: Path) -> None:
    """Remove the releases of a project: the newest is not what was proved last, and has secrets.

    :raises DeliveryError: the file cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise DeliveryError(f"{path} cannot be removed: {error.strerror}") from error


def path_of(folder: Path, project: str, connection: Connection) -> Path:
    """Return the file for a project; projects of one name on several engines have one each."""
    if connection.local:
        return folder / f"{project}.json"
    engine = hashlib.sha256(connection.host.encode()).hexdigest()[:8]
    return folder / f"{project}-{engine}.json"


def read_releases(path: Path) -> Releases:
    """Read the releases of a project; there are none where there is no file.

    :raises DeliveryError: the file cannot be read.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ValueError(f"its format is {values['format']}")
        found = tuple(_release(one) for one in values["releases"])
        return Releases(path, found, bool(values["went_back"]))
    except FileNotFoundError:
        return Releases(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise DeliveryError(
            f"the releases in {path} cannot be read ({said})",
            next_step="Move the file away to begin a new one. What it had cannot come back then.",
        ) from error


def _release(values: Mapping[str, Any]) -> Release:
    images = {
        name: Kept(one["name"], one["id"], tuple(one["digests"]))
        for name, one in values["images"].items()
    }
    services: Sequence[str] = values["services"]
    return Release(values["model"], images, tuple(services), Extensions(**values["extensions"]))
