# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probe's folder: who it is, how it does, and every write that was acknowledged.

``probe.json`` is the record of the process, ``stats.json`` the report so far, both replaced as a
whole; ``acknowledged.jsonl`` has one line a write, appended at once, so that it outlives a kill.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DeliveryError
from ..identity import ProcessId, alive, process
from .load import Identity
from .readback import Written
from .settings import Settings, from_json

RECORD = "probe.json"
STATS = "stats.json"
JOURNAL = "acknowledged.jsonl"
LOG = "probe.log"
LOCK = "lock"


def send_signal(target: ProcessId, number: signal.Signals) -> None:
    """Signal a process; nothing happens where it has ended."""
    with suppress(ProcessLookupError):
        # The descriptor holds on to the process, so that the number cannot become another's
        # between the look and the signal.
        handle = os.pidfd_open(target.pid)
        try:
            if alive(target):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def own_identity() -> ProcessId:
    """Return this process's identity. :raises DeliveryError: there is no /proc."""
    own = process(os.getpid())
    if own is None:
        raise DeliveryError("the traffic probe needs Linux's /proc, which is not there")
    return own


@dataclass(frozen=True)
class Record:
    """A probe that was started here: the process, its run and what it was to do."""

    process: ProcessId
    run: str
    settings: Settings

    def as_json(self) -> dict[str, Any]:
        """Return what :meth:`Folder.record` reads."""
        return {
            "process": self.process.as_dict(),
            "run": self.run,
            "settings": self.settings.as_json(),
        }


class Folder:
    """The files of one probe.

    :raises DeliveryError: from every method, where a file is damaged or out of reach.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path).absolute()

    def make(self) -> None:
        """Make the folder, mode 0700, where it is missing."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        self.check()

    def clear(self) -> None:
        """Leave nothing of an earlier run in it; the folder must be locked."""
        try:
            for name in (RECORD, STATS, JOURNAL):
                (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def check(self) -> None:
        """Refuse a folder in which somebody else could name a process for us to end."""
        try:
            seen = self.path.stat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unusable(error) from error
        if not stat.S_ISDIR(seen.st_mode):
            raise DeliveryError(f"{self.path} is not a folder")
        if seen.st_uid != os.geteuid() or seen.st_mode & stat.S_IWOTH:
            raise DeliveryError(
                f"{self.path} belongs to another user or is writable by everybody",
                next_step="Give dir a folder of its own.",
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other tasks from starting or ending a probe here meanwhile."""
        try:
            handle = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise DeliveryError(
                f"another task is starting or ending the traffic probe in {self.path}",
                next_step="Give each probe a folder of its own, or run the task again.",
            ) from error
        finally:
            os.close(handle)

    def record(self) -> Record | None:
        """Return the record, or None where no probe was started here."""
        plain = self._read(RECORD)
        if plain is None:
            return None
        try:
            started = ProcessId.from_dict(plain["process"])
            return Record(started, str(plain["run"]), from_json(plain["settings"]))
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            raise self._damaged(RECORD) from error

    def stats(self) -> dict[str, Any] | None:
        """Return the report as it was last written, or None."""
        return self._read(STATS)

    def acknowledged(self) -> list[Written]:
        """Return every acknowledged write; the half of a line that a kill may leave is left out."""
        try:
            whole = (self.path / JOURNAL).read_bytes().rpartition(b"\n")[0]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable(error) from error
        try:
            return [Written(*json.loads(line)) for line in whole.splitlines()]
        except (ValueError, TypeError) as error:
            raise self._damaged(JOURNAL) from error

    def write(self, name: str, plain: dict[str, Any]) -> None:
        """Replace a file as a whole. :raises OSError: it cannot be written."""
        part = self.path / f"{name}.part"
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(plain, file)
        part.replace(self.path / name)

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            plain = json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error
        except (ValueError, RecursionError) as error:
            raise self._damaged(name) from error
        if not isinstance(plain, dict):
            raise self._damaged(name)
        return plain

    def _unusable(self, error: OSError) -> DeliveryError:
        return DeliveryError(
            f"{self.path} cannot be used: {error.strerror or error}",
            next_step="Give dir a folder that this user may write to.",
        )

    def _damaged(self, name: str) -> DeliveryError:
        return DeliveryError(
            f"{self.path / name} is damaged",
            next_step="End the probe's process if it still runs, and delete the folder.",
        )


class Journal:
    """The acknowledged writes, appended one by one."""

    def __init__(self, folder: Folder) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._handle = os.open(folder.path / JOURNAL, flags, 0o600)

    def add(self, number: int, identity: Identity) -> None:
        """Append a write. :raises OSError: it could not be kept, or only in part."""
        line = json.dumps([number, identity]).encode() + b"\n"
        if os.write(self._handle, line) != len(line):
            raise OSError("the journal of acknowledged writes took only part of a line")
