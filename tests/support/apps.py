# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start and end one of the project's apps as a real process, for tests."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import LOOK_EVERY


class AppDidNotStart(AssertionError):
    """The process ended, or was not ready in time; carries its exit code (None: it hung)."""

    def __init__(self, argv: Sequence[str], code: int | None, log: str) -> None:
        how = "was not ready in time" if code is None else f"ended with exit code {code}"
        super().__init__(f"{' '.join(argv)} {how}:\n{log}")
        self.code = code
        self.log = log


@dataclass
class AppProcess:
    """A running app: where it answers, and how to end it and read what it logged."""

    url: str
    process: subprocess.Popen[bytes]
    log_path: Path

    def stop(self, timeout: float = 20) -> int:
        """Ask for a graceful end (SIGTERM) and return the exit code; kill after timeout seconds."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"the app did not end within {timeout} s of SIGTERM:\n{self.log()}"
            ) from None

    def kill(self) -> None:
        """End it as a crash would (SIGKILL); harmless where it has ended already."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def log(self) -> str:
        """Everything it wrote to stdout and stderr so far."""
        return self.log_path.read_text(errors="replace")


def start_app(
    argv: Sequence[str],
    env: Mapping[str, str] | None,
    ready_file: Path,
    timeout: float = 60,
) -> AppProcess:
    """Run argv (which must make the app write ready_file) and return it once it is listening.

    env is added to this process's own environment. The log lies beside the ready file.
    Raises AppDidNotStart, with the process ended, where it exits first or takes over timeout
    seconds.
    """
    ready_file.unlink(missing_ok=True)
    log_path = ready_file.with_name(ready_file.name + ".log")
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        )
    deadline = time.monotonic() + timeout
    code: int | None = None
    while code is None and time.monotonic() < deadline:
        if ready_file.exists():
            ready = json.loads(ready_file.read_text())
            return AppProcess(url=ready["url"], process=process, log_path=log_path)
        try:
            code = process.wait(LOOK_EVERY)
        except subprocess.TimeoutExpired:
            continue
    if code is None:
        process.kill()
        process.wait()
    raise AppDidNotStart(argv, code, log_path.read_text(errors="replace"))
