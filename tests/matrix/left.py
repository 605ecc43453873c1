# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is at work of a play whose main process has ended: found by a mark in its environment."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

PATIENCE = 60.0


def left(mark: str) -> dict[int, str]:
    """The processes that have *mark* (NAME=VALUE) in their environment, and their commands."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(entry.name)] = command.decode(errors="replace")[:120]
    return found


def wait_for_left(mark: str) -> list[str]:
    """Wait until none is left; return what still is after a minute."""
    deadline = time.monotonic() + PATIENCE
    while (found := left(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return list(found.values())


def end_left(mark: str) -> None:
    """Kill all that are left."""
    for process in left(mark):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
