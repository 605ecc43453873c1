# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which process, on which machine: told apart from a later one that got the same number.

A process is its number, the moment it started (field 22 of /proc/PID/stat, see proc(5)), the boot
that the number belongs to, and the namespace in which numbers are given. Linux only.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeGuard

PROC = Path("/proc")


@dataclass(frozen=True)
class Machine:
    """Where a process number means something.

    :param boot: the kernel's id of this boot; containers share it with their host.
    :param namespace: the namespace of process numbers, which containers do not share.
    :param host: the host name.
    :param machine_id: the installed system's id, or empty where it has none.
    """

    boot: str
    namespace: str
    host: str
    machine_id: str

    def sees(self, other: Machine) -> bool:
        """Tell whether a process of *other* could be looked up from here."""
        return bool(self.boot) and (self.boot, self.namespace) == (other.boot, other.namespace)

    def was(self, other: Machine) -> bool:
        """Tell whether *other* is this machine before it was booted anew.

        Two machines may have the same name, so one without an id of its own is never recognized.
        """
        same = (self.host, self.machine_id) == (other.host, other.machine_id)
        return same and bool(self.machine_id) and self.boot != other.boot


@dataclass(frozen=True)
class ProcessId:
    """One process, for ever: ``start`` is in clock ticks since the boot."""

    pid: int
    start: int
    machine: Machine

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        machine = self.machine
        return {
            "pid": self.pid,
            "start": self.start,
            "boot": machine.boot,
            "namespace": machine.namespace,
            "host": machine.host,
            "machine_id": machine.machine_id,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ProcessId:
        """Return what ``as_dict`` gave.

        :raises ValueError: it is something else.
        """
        numbers = [values.get(name) for name in ("pid", "start")]
        texts = [values.get(name) for name in ("boot", "namespace", "host", "machine_id")]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a process is incomplete")
        # A pid of 0 or below would mean a group, or everything, to kill(2).
        if not all(is_whole(number) and number > 0 for number in numbers):
            raise ValueError("a process has no usable number")
        pid, start = (int(number or 0) for number in numbers)
        return cls(pid, start, Machine(*(str(text) for text in texts)))


def is_whole(value: Any) -> TypeGuard[int]:
    """Tell whether a value from JSON is a whole number; true is none, though Python says so."""
    return isinstance(value, int) and not isinstance(value, bool)


def this_machine() -> Machine:
    """Return where this process runs."""
    return Machine(
        boot=_read(PROC / "sys/kernel/random/boot_id"),
        namespace=_link(PROC / "self/ns/pid"),
        host=socket.gethostname(),
        machine_id=_read(Path("/etc/machine-id")),
    )


def process(pid: int) -> ProcessId | None:
    """Return the process that has this number now; None where there is none, or it has ended."""
    fields = _stat(pid)
    # Z and X have ended and only wait to be collected, which in a container may be never.
    if fields is None or fields[0] in "ZX":
        return None
    return ProcessId(pid, int(fields[19]), this_machine())


def alive(known: ProcessId) -> bool:
    """Tell whether *known* still runs; False for one of another boot or container."""
    if not this_machine().sees(known.machine):
        return False
    now = process(known.pid)
    return now is not None and now.start == known.start


def parent(pid: int) -> int:
    """Return the number of the process that is above *pid*; 0 if there is none."""
    fields = _stat(pid)
    return int(fields[1]) if fields is not None else 0


def program(pid: int) -> str:
    """Return the name that the kernel has for a process, of at most 15 characters."""
    return _read(PROC / str(pid) / "comm")


def started_at(pid: int) -> datetime | None:
    """Return when a process started."""
    known = process(pid)
    booted = re.search(r"^btime (\d+)$", _read(PROC / "stat"), re.MULTILINE)
    if known is None or booted is None:
        return None
    return datetime.fromtimestamp(int(booted[1]) + known.start / os.sysconf("SC_CLK_TCK"), UTC)


def group_members(group: int) -> Iterator[int]:
    """Yield the numbers of the processes in a process group that have not ended."""
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        fields = _stat(int(entry.name))
        if fields is not None and fields[0] not in "ZX" and int(fields[2]) == group:
            yield int(entry.name)


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the third, the state, on."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second is the program's name in parentheses, which may itself hold spaces and such.
    return text.rpartition(")")[2].split() or None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""
