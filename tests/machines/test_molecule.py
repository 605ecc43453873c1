# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Molecule's scenarios, by the command of docs/molecule.md, and what they leave: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from docker import DockerClient

from tests.support import engine as support
from tests.support.machine import FLAGS, machine_image
from tests.support.plays import SHARING
from tests.support.portal_compose import APPS

SCENARIOS = sorted(file.parent.name for file in support.ROOT.glob("molecule/*/molecule.yml"))
SECONDS = 2700


@dataclass
class Molecule:
    """Molecule with a home and names of its own, so that it meets no other run."""

    engine: DockerClient
    home: Path
    prefix: str

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run it in the checkout; returns how it ended and what it said."""
        log = self.home / "output"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(Path(sys.executable).with_name("molecule")), *arguments],
                cwd=support.ROOT,
                env={
                    **os.environ,
                    **SHARING,
                    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                    "ANSIBLE_HOME": str(self.home),
                    "MACHINES_PREFIX": self.prefix,
                    "MOLECULE_COMMAND_BORDERS": "false",
                    "NO_COLOR": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(SECONDS)
            finally:
                # What it started goes with it, where it was given up.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        return code, log.read_text(errors="replace")

    def left(self) -> list[str]:
        """All that is there by names that it was given."""
        containers = self.engine.containers.list(all=True, ignore_removed=True)
        names = [str(one.name) for one in containers]
        names += [str(one.name) for one in self.engine.networks.list()]
        names += [str(one.name) for one in self.engine.volumes.list()]
        keys = [str(file) for file in self.home.rglob("*.key")]
        keys += [str(file) for file in self.home.rglob("key.pem")]
        return [
            *(name for name in names if name.startswith(self.prefix)),
            *(f"process {pid}" for pid in self.processes()),
            *keys,
        ]

    def processes(self) -> list[int]:
        """Whatever still runs in its home."""
        found = []
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if os.fsencode(self.home) in command.read_bytes():
                    found.append(int(command.parent.name))
        return found

    def clean_up(self) -> None:
        """Remove what a run left that failed the test."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        support.remove_all(self.engine, self.prefix)


@pytest.fixture
def molecule(engine: DockerClient, tmp_path: Path) -> Iterator[Molecule]:
    made = Molecule(engine, tmp_path / "home", support.new_prefix())
    made.home.mkdir()
    try:
        yield made
    finally:
        made.clean_up()


def test_every_scenario_passes_and_leaves_nothing(molecule: Molecule) -> None:
    # As the scenarios would, but not at the same time as the other tests that want them.
    machine_image("systemd")
    machine_image("machine")
    machine_image("vagrant")
    for app in APPS:
        support.app_image(app)

    code, output = molecule.run("test", "--all")
    assert code == 0, output[-8000:]
    assert SCENARIOS == ["default", "pipeline", "portal"]
    for scenario in SCENARIOS:
        for step in ("converge", "idempotence", "verify", "destroy"):
            assert f"{scenario} > {step}: Executed: Successful" in output
    assert molecule.left() == []


def test_a_converge_that_fails_leaves_nothing(molecule: Molecule) -> None:
    wrong = "docker_host_remote=nonsense"
    code, output = molecule.run("test", "--scenario-name=default", "--", f"--extra-vars={wrong}")
    assert code != 0
    assert "default > create: Executed: Successful" in output, output[-8000:]
    assert "default > converge: Executed: Failed" in output, output[-8000:]
    assert "nonsense" in output
    assert molecule.left() == []


def test_machines_are_started_as_those_of_the_other_tests() -> None:
    (play,) = yaml.safe_load((support.ROOT / "molecule/shared/create.yml").read_text())
    assert tuple(play["vars"]["machines_flags"]) == FLAGS
