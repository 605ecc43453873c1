# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as its users have it: a checkout, or a built tarball that was installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.plays import ROOT, PlayResult, RunningPlay, run_play, start_play

PLAYBOOKS = "playbooks"
COLLECTION = "immutable.delivery"
SECONDS = 300


@dataclass(frozen=True)
class Shipped:
    """A place that the collection's own playbooks are run from.

    :param folder: holds the collection's files.
    :param elsewhere: for an installed collection, the folder that plays are started in.
    """

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Path | None = None

    def playbook(self, name: str) -> Path | str:
        """What to call a playbook, as in ``playbooks/heal.yml`` or ``deploy.yml``."""
        folder, _slash, file = name.rpartition("/")
        if self.elsewhere is not None and folder == PLAYBOOKS:
            return f"{COLLECTION}.{file.removesuffix('.yml')}"
        return self.folder / name

    def inventory(self, name: str) -> list[str]:
        """The arguments that name one of the collection's inventories."""
        return ["--inventory", str(self.folder / "inventories" / name)]

    def play(self, name: str, **options: Any) -> PlayResult:
        """Run a playbook; the options are those of :func:`run_play`."""
        return run_play(self.playbook(name), env=self.env, cwd=self.elsewhere, **options)

    def start(self, name: str, **options: Any) -> RunningPlay:
        """Start a playbook; the options are those of :func:`start_play`."""
        return start_play(self.playbook(name), env=self.env, cwd=self.elsewhere, **options)


CHECKOUT = Shipped(ROOT)


def install(folder: Path) -> Shipped:
    """Build the tarball of the checkout, and install it below an empty folder."""
    elsewhere, collections = folder / "elsewhere", folder / "collections"
    elsewhere.mkdir()
    # It would be taken for installed already if this path led to the checkout.
    env = {"ANSIBLE_COLLECTIONS_PATH": str(collections)}
    galaxy = [sys.executable, "-m", "ansible", "galaxy", "collection"]
    _run(*galaxy, "build", "--output-path", str(folder), str(ROOT), cwd=elsewhere, env=env)
    (tarball,) = folder.glob("*.tar.gz")
    # What it needs is in the package `ansible`, which Ansible finds by itself.
    options = ("--no-deps", "--offline", "--collections-path", str(collections))
    _run(*galaxy, "install", *options, str(tarball), cwd=elsewhere, env=env)
    return Shipped(collections / "ansible_collections" / "immutable" / "delivery", env, elsewhere)


def _run(*command: str, cwd: Path, env: Mapping[str, str]) -> None:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
