# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which processes share a flock, for messages: as far as the kernel shows it to this user."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..identity import PROC, parent, process, program, started_at
from .model import format_time


@dataclass(frozen=True)
class Worker:
    """A process at work."""

    pid: int
    name: str
    since: datetime | None

    def __str__(self) -> str:
        since = f", since {format_time(self.since)}" if self.since else ""
        return f"{self.name} (pid {self.pid}{since})"


def workers(handle: int) -> Sequence[Worker]:
    """Return who has a shared flock of the file that *handle* is of.

    Who asked for it, if that process still runs; otherwise those that have it open, such as a
    program that a killed process had started.
    """
    found = set(_lockers(handle)) or set(_openers(handle))
    # Who only waits for another one is not at work itself.
    found -= {above for pid in found for above in _ancestors(pid)}
    return [Worker(pid, program(pid), started_at(pid)) for pid in sorted(found)]


def _lockers(handle: int) -> Iterator[int]:
    """Yield those whom the kernel lists, which it does to everybody."""
    key = _key(handle)
    with suppress(OSError):
        for line in (PROC / "locks").read_text(encoding="ascii").splitlines():
            # 1: FLOCK  ADVISORY  READ 1234 fe:01:5678 0 EOF
            fields = line.split()
            if fields[1:2] != ["FLOCK"] or fields[5] != key:
                continue
            pid = int(fields[4])
            if pid != os.getpid() and process(pid) is not None:
                yield pid


def _key(handle: int) -> str:
    """Return what the kernel calls the file; stat(2) may name another device than it does."""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return ""
    try:
        info = (PROC / "self/fdinfo" / str(handle)).read_text(encoding="ascii")
    except OSError:
        return ""
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)
    for line in info.splitlines():
        if line.startswith("lock:"):
            return line.split()[6]
    return ""


def _openers(handle: int) -> Iterator[int]:
    """Yield those that have the file open, among the processes that this user may look into."""
    mine = os.fstat(handle)
    for entry in PROC.glob("[0-9]*"):
        if int(entry.name) != os.getpid() and _has_open(entry, mine):
            yield int(entry.name)


def _has_open(folder: Path, file: os.stat_result) -> bool:
    with suppress(OSError):
        for link in (folder / "fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(link.stat(), file):
                    return True
    return False


def _ancestors(pid: int) -> Iterator[int]:
    while (pid := parent(pid)) > 1:
        yield pid
