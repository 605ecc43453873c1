# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is at work under a lock: each module that changes something says so for as long as it lives.

An acquisition of a lock has a file beside the lock. Whoever works under it has a shared flock(2) of
that file, which forked processes inherit and which the kernel gives back when the last of them has
ended, however it ended. Whoever takes the lock over, or gives it back, needs an exclusive one, and
has it until the lock is replaced: there is no moment at which a module could slip through, since it
looks only then whether the lock is still the one that it was given.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..deadline import Deadline, Pace, wait_for
from ..errors import DeliveryError, TimeoutExceeded
from ..identity import Machine, alive, this_machine
from .file import read, work_file
from .model import Lock
from .workers import Worker, workers

SHARE_SECONDS = 20.0
PACE = Pace(interval=0.5, first=0.0, jitter=0.5)
AGAIN = "Run the whole play again."

# What this process works under, until it ends.
_descriptors: list[int] = []


class LockLost(DeliveryError):
    """The play that this is part of does not hold its lock any more."""

    kind = "lock_lost"

    def __init__(self, message: str) -> None:
        super().__init__(message, state="Nothing was changed.", next_step=AGAIN)


@dataclass(frozen=True)
class Acquisition:
    """One taking of a lock, as it is passed to the modules that work under it.

    :param boot: the boot of the machine that the lock lies on, see :class:`Machine`.
    :param namespace: its namespace of process numbers.
    """

    path: Path
    token: str
    boot: str
    namespace: str

    @classmethod
    def here(cls, path: Path, token: str) -> Acquisition:
        """Return one of a lock on this machine."""
        machine = this_machine()
        return cls(path, token, machine.boot, machine.namespace)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Acquisition:
        """Return what ``as_dict`` gave."""
        texts = [str(values[name]) for name in ("token", "boot", "namespace")]
        return cls(Path(values["path"]), *texts)

    def as_dict(self) -> dict[str, str]:
        """Return it as JSON can hold it."""
        return {
            "path": str(self.path),
            "token": self.token,
            "boot": self.boot,
            "namespace": self.namespace,
        }

    @property
    def is_here(self) -> bool:
        """Tell whether the lock lies on this machine."""
        return this_machine().sees(Machine(self.boot, self.namespace, "", ""))


def descriptors() -> tuple[int, ...]:
    """Return what a program must inherit to count as at work, for ``pass_fds``."""
    return tuple(_descriptors)


def work_under(acquisition: Acquisition) -> None:
    """Be at work under a lock until this process, and what it forked, has ended.

    :raises LockLost: the lock is not this play's any more, or the play has ended.
    :raises DeliveryError: it cannot be looked at.
    """
    handle = share(acquisition)
    if handle is not None:
        _descriptors.append(handle)


def call_myself(name: str) -> None:
    """Let others see by name what is at work; the kernel keeps 15 characters of it."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name, encoding="utf-8")


def share(acquisition: Acquisition) -> int | None:
    """Return a descriptor that counts as at work while it is open; None if the lock is elsewhere.

    :raises LockLost: see :func:`work_under`.
    """
    file = work_file(acquisition.path, acquisition.token)
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if not acquisition.is_here:
            return None
        if isinstance(error, FileNotFoundError):
            raise LockLost(_lost(acquisition)) from error
        raise DeliveryError(
            f"the lock {acquisition.path} cannot be held while this works: {error.strerror}",
            next_step="Put the lock where the user of this task can read it.",
        ) from error
    try:
        _wait_shared(handle, acquisition.path)
        _check(acquisition)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _wait_shared(handle: int, path: Path) -> None:
    def look() -> bool | None:
        return True if _flock(handle, fcntl.LOCK_SH) else None

    # Whoever takes the lock over has it exclusively for a moment only.
    wait_for(look, deadline=Deadline(SHARE_SECONDS), pace=PACE, what=f"access to {path}")


def _check(acquisition: Acquisition) -> None:
    lock = _read(acquisition.path)
    if lock is None or lock.token != acquisition.token:
        raise LockLost(_lost(acquisition))
    if this_machine().sees(lock.owner.machine) and not alive(lock.owner):
        raise LockLost(f"the play that started this has ended (pid {lock.owner.pid})")


def _read(path: Path) -> Lock | None:
    with suppress(FileNotFoundError, ValueError):
        return read(path)
    return None


def _lost(acquisition: Acquisition) -> str:
    lock = _read(acquisition.path)
    if lock is None:
        return f"the lock {acquisition.path} of this play was released"
    return f"the lock {acquisition.path} was taken over: {lock.name} is deployed by {lock.holder}"


def _flock(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Busy(TimeoutExceeded):
    """Somebody is still at work under the lock.

    :param workers: who, as far as it can be found out.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = workers
        super().__init__(", ".join(map(str, workers)) or "an unknown process")


@contextmanager
def nobody_at_work(path: Path, token: str, deadline: Deadline) -> Iterator[None]:
    """Wait until nobody works under an acquisition of the lock, and let nobody begin to.

    :raises Busy: somebody still does when the deadline has come.
    :raises DeliveryError: it cannot be looked at.
    """
    file = work_file(path, token)
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield
        return
    except OSError as error:
        raise DeliveryError(f"{file} cannot be opened: {error.strerror}") from error

    def look() -> bool | None:
        return True if _flock(handle, fcntl.LOCK_EX) else None

    try:
        try:
            wait_for(look, deadline=deadline, pace=PACE, what="those at work")
        except TimeoutExceeded as error:
            raise Busy(workers(handle)) from error
        yield
    finally:
        os.close(handle)
