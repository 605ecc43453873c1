# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module as a process of its own, without ansible-playbook around it.

For what a play hides or makes slow: signals at a given moment, limits of the process, its memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.plays import ROOT, TaskResult

PACKAGE = "ansible_collections.immutable.delivery.plugins.modules"
NOTING_PEAK = Path(__file__).with_name("run_noting_peak.py")


@dataclass
class Ended:
    """How a module ended. ``peak`` is the most memory it had, in bytes; 0 where it was killed."""

    code: int
    result: dict[str, Any]
    output: str
    peak: int


@dataclass
class RunningModule:
    """A module that was started; use it in a ``with``, which ends it."""

    process: subprocess.Popen[bytes]
    output: Path
    peak: Path

    def __enter__(self) -> RunningModule:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()

    def end(self) -> Ended:
        """Wait for its end."""
        self.process.wait()
        output = self.output.read_text()
        last = output.strip().splitlines()[-1] if output.strip() else "{}"
        result = json.loads(last) if last.startswith("{") else {}
        peak = int(self.peak.read_text()) * 1024 if self.peak.exists() else 0
        return Ended(self.process.returncode, result, output, peak)


def start_module(
    folder: Path,
    name: str,
    arguments: Mapping[str, Any],
    *,
    prepare: Callable[[], None] | None = None,
) -> RunningModule:
    """Start the module *name*; its arguments and output lie in *folder*.

    :param prepare: called in the new process before the module is.
    """
    file = folder / f"{name}.json"
    file.touch(0o600)
    file.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": dict(arguments)}, default=str))
    collections = os.environ.get("ANSIBLE_COLLECTIONS_PATH", str(ROOT / ".build" / "collections"))
    output = folder / f"{name}.out"
    peak = folder / f"{name}.peak"
    peak.unlink(missing_ok=True)
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, str(NOTING_PEAK), str(peak), f"{PACKAGE}.{name}", str(file)],
            env={**os.environ, "PYTHONPATH": collections.split(":", maxsplit=1)[0]},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=prepare,  # noqa: PLW1509 - no thread of a test holds a lock it needs
        )
    return RunningModule(process, output, peak)


def run_module(
    folder: Path,
    name: str,
    arguments: Mapping[str, Any],
    *,
    prepare: Callable[[], None] | None = None,
) -> Ended:
    """Run a module to its end; see :func:`start_module`."""
    with start_module(folder, name, arguments, prepare=prepare) as running:
        return running.end()


def call_task(task: Mapping[str, Any], *, check: bool = False, diff: bool = False) -> TaskResult:
    """Run one task with a module of ours as a play would, without one: that start costs more."""
    (action,) = (name for name in task if name.startswith("immutable.delivery."))
    arguments = {**task[action], "_ansible_check_mode": check, "_ansible_diff": diff}
    with tempfile.TemporaryDirectory(prefix="delivery-module-") as folder:
        ended = run_module(Path(folder), action.rpartition(".")[2], arguments)
    assert ended.result, ended.output
    failed = bool(ended.result.get("failed"))
    assert ended.code == int(failed), ended.output
    return TaskResult(
        task=str(task.get("name", action)),
        action=action,
        host="localhost",
        status="failed" if failed else "ok",
        ignored=False,
        data=ended.result,
    )
