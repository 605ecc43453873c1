# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The corpus: one compose project for each feature of the compose specification.

A project is a file ``tests/data/compose/NAME.yaml``, or a folder of that name with a compose file
in it. Its first comment says what it shows. Lines of that comment may give settings, as YAML:

``# replaces: [web]``
    The services that get new containers if ``REVISION`` changes; ``[]`` if none does.
``# compose loses data: true``
    Containers that compose replaces lack something that they had.
``# jobs: [migrate]``
    The services that end by themselves.
``# settles: true``
    Its containers restart until all are up.
``# needs: 2.30``
    The oldest version of compose that can read it.
``# needs engine: 28``
    The oldest version of the engine that can run it.
``# refused: true``
    The engine refuses it, or compose does.
``# may be refused: true``
    The host of the engine may forbid it.
``# flags: [--build]``
    What ``docker compose up`` needs to see the change.
``# options: {profiles: [debug]}``
    Options of the module; those that compose has too are given to it as well.
``# outside: {networks: [NAME], volumes: [NAME]}``
    What has to be there before, named ``PROJECT-NAME``; containers likewise.
``# ssh key: ./key``
    A key to make, of which no copy is in the repository.

Every project may use the variables ``REVISION``, ``GROWING`` (a number), ``LEFT`` and ``RIGHT``
(ports), which change; and what is its own alone: ``ADDRESS``, a loopback address, ``SUBNET``, the
first three numbers of a network, ``PORT``, and ``NUMBER``, in hexadecimal. In its other files
``@REVISION@`` is replaced.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.engine import build, one_at_a_time

CORPUS = Path(__file__).resolve().parents[1] / "data" / "compose"
IMAGE_FOLDER = Path(__file__).with_name("idle_image")
IMAGE = "immutable-test/idle:latest"
SETTING = re.compile(r"^# ([a-z ]+): (.+)$")
SETTINGS = (
    "replaces",
    "compose loses data",
    "jobs",
    "settles",
    "needs",
    "needs engine",
    "refused",
    "may be refused",
    "flags",
    "options",
    "outside",
    "ssh key",
)
TOKEN = b"@REVISION@"


@dataclass(frozen=True)
class CorpusProject:
    """A project of the corpus, and the settings in its first comment."""

    name: str
    place: Path
    shows: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def replaces(self) -> set[str]:
        return set(self.settings["replaces"])

    @property
    def jobs(self) -> set[str]:
        return set(self.settings.get("jobs", ()))

    def can_run(self, compose: tuple[int, ...], engine: tuple[int, ...]) -> bool:
        """Tell whether these versions know all that it has."""
        needs = (version_of(self.settings.get(name, "0")) for name in ("needs", "needs engine"))
        return all(need <= given for need, given in zip(needs, (compose, engine), strict=True))

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.settings.get("options", {}))

    def copy_to(self, folder: Path) -> None:
        """Copy its files to *folder*, which is made."""
        if self.place.is_dir():
            shutil.copytree(self.place, folder, symlinks=True)
        else:
            folder.mkdir()
            shutil.copy(self.place, folder / "compose.yaml")

    def write_revision(self, folder: Path, revision: str) -> None:
        """Write the files that hold the revision, as an editor does: a new file takes the place."""
        for path in self.place.rglob("*") if self.place.is_dir() else ():
            if path.is_file() and TOKEN in (text := path.read_bytes()):
                place = folder / path.relative_to(self.place)
                new = place.with_name(place.name + ".new")
                new.write_bytes(text.replace(TOKEN, revision.encode()))
                shutil.copymode(path, new)
                new.rename(place)


def version_of(text: str) -> tuple[int, ...]:
    """Return a version to compare: 2.40.3-3 is (2, 40, 3)."""
    return tuple(int(number) for number in re.findall(r"\d+", text.partition("-")[0]))


def read_corpus() -> list[CorpusProject]:
    """Return all projects of the corpus, sorted by name."""
    places = [path for path in CORPUS.iterdir() if path.is_dir() or path.suffix == ".yaml"]
    return sorted(map(_read, places), key=lambda project: project.name)


def _read(place: Path) -> CorpusProject:
    names = ("compose.yaml", "docker-compose.yml")
    file = next(path for path in (place, *(place / name for name in names)) if path.is_file())
    shows, settings = [], {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        found = SETTING.match(line)
        if found and found[1] in SETTINGS:
            # A version is no number: 2.30 is not 2.3.
            version = found[1].startswith("needs")
            settings[found[1]] = found[2] if version else yaml.safe_load(found[2])
        else:
            shows.append(line.removeprefix("#").strip())
    assert shows, f"{file} does not begin with a comment that says what it shows"
    assert "replaces" in settings or settings.get("refused"), f"{file} lacks '# replaces: [...]'"
    return CorpusProject(place.stem, place, " ".join(shows), settings)


def idle_image() -> str:
    """Build the image that all projects use."""
    with one_at_a_time("image-idle"):
        return build(IMAGE_FOLDER, IMAGE)
