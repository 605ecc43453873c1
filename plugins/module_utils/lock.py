# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lock file that says who holds it, and that does not outlive its owner.

The owner is a process, the main one of ansible-playbook. Where it can be looked up, that decides;
where it cannot, since it runs on another machine, the lock's time to live does. All changes to the
file are made under flock(2) of the folder it lies in, which the kernel gives back when a process
dies, and by link(2) or rename(2), so that a reader sees one whole lock or another.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

from .change import OnUndo, Step
from .errors import DeliveryError
from .exclusive import exclusive
from .identity import Machine, ProcessId, alive, this_machine

MODE = 0o644  # so that everybody can see who deploys
LIMIT = 64 * 1024


class Held(DeliveryError):
    """Somebody else holds the lock."""

    kind = "held"


@dataclass(frozen=True)
class Lock:
    """What the file holds.

    :param name: what is being deployed.
    :param ttl: seconds after ``since`` at which an owner that cannot be looked up counts as dead.
    :param token: tells this acquisition from any other.
    """

    name: str
    owner: ProcessId
    user: str
    since: datetime
    ttl: float
    token: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "name": self.name,
            "user": self.user,
            "since": self.since.isoformat(timespec="seconds"),
            "ttl": self.ttl,
            "token": self.token,
            **self.owner.as_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Lock:
        """Return what ``as_dict`` gave.

        :raises ValueError: it is something else.
        """
        texts = {name: values.get(name) for name in ("name", "user", "since", "token")}
        ttl = values.get("ttl")
        if not all(isinstance(text, str) for text in texts.values()):
            raise ValueError("a lock is incomplete")
        if not isinstance(ttl, (int, float)) or isinstance(ttl, bool) or not math.isfinite(ttl):
            raise ValueError("a lock has no time to live")
        since = datetime.fromisoformat(str(texts["since"]))
        try:
            since = since.astimezone(UTC) if since.tzinfo else since.replace(tzinfo=UTC)
        except OverflowError as error:
            raise ValueError("a lock is older than time") from error
        return cls(
            name=str(texts["name"]),
            owner=ProcessId.from_dict(values),
            user=str(texts["user"]),
            since=since,
            ttl=float(ttl),
            token=str(texts["token"]),
        )

    @property
    def holder(self) -> str:
        """Say who holds it, and since when."""
        since = self.since.isoformat(sep=" ", timespec="seconds")
        owner = f"{self.user}@{self.owner.machine.host} (pid {self.owner.pid})"
        return f"{owner} since {since.removesuffix('+00:00')} UTC"


class State(Enum):
    """How a lock stands to somebody who wants it."""

    FREE = "free"
    MINE = "held by this play"
    HELD = "held by somebody else"
    DEAD = "held by a process that has ended"
    REBOOTED = "held since before this machine was booted"
    EXPIRED = "held from another machine for longer than its time to live"
    EMPTY = "an empty file"
    FOREIGN = "a file that is no lock"


@dataclass(frozen=True)
class Observed:
    """The lock, and how it stands to the one who asks."""

    state: State
    lock: Lock | None = None


def judge(
    lock: Lock, owner: ProcessId, *, here: Machine, owner_alive: bool, now: datetime
) -> State:
    """Return how *lock* stands to *owner*; pure.

    :param here: the machine that looks, which need not be the owner's.
    :param owner_alive: whether the lock's owner runs; counts only where it can be seen from here.
    """
    if lock.owner == owner:
        return State.MINE
    machine = lock.owner.machine
    if here.sees(machine):
        return State.HELD if owner_alive else State.DEAD
    if here.was(machine):
        return State.REBOOTED
    age = (now - lock.since).total_seconds()
    return State.EXPIRED if age > lock.ttl else State.HELD


def plan(observed: Observed, wanted: str, name: str, force: bool) -> Sequence[Step]:
    """Return the steps to *wanted*, held or released; pure.

    :raises Held: somebody else holds it.
    """
    state = observed.state
    if wanted == "released":
        if state is State.MINE or (force and state is not State.FREE):
            return [Step("release", f"release the lock of {name}")]
        return []
    if state is State.MINE:
        return []
    if state is State.HELD and not force and observed.lock is not None:
        raise Held(
            f"{observed.lock.name} is being deployed by {observed.lock.holder}",
            state="Nothing was changed.",
            next_step="Wait until that deploy has ended. Its lock ends with it; if it hangs, end "
            "it, or take the lock away with force: true.",
        )
    if state is State.FREE:
        return [Step("acquire", f"take the lock of {name}")]
    return [Step("acquire", f"take over the lock of {name}, {state.value}")]


def read(path: Path) -> Lock | None:
    """Return the lock in the file; None where the file is empty.

    :raises FileNotFoundError: there is no file.
    :raises ValueError: the file holds something else.
    :raises DeliveryError: it cannot be read.
    """
    try:
        # Asked once: it may be made while this looks.
        if not stat.S_ISREG(path.lstat().st_mode):
            raise DeliveryError(f"{path} is not a file", next_step="Give another path.")
        content = path.read_bytes() if path.stat().st_size <= LIMIT else b"{"
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DeliveryError(f"{path} cannot be read: {error.strerror}") from error
    if not content.strip():
        return None
    try:
        values = json.loads(content)
    except RecursionError as error:
        raise ValueError("it nests too deep") from error
    if not isinstance(values, dict):
        raise ValueError("it is no lock")
    return Lock.from_dict(values)


class LockChange:
    """Bring the lock at *path* to *wanted* for *owner*.

    :param ttl: seconds; see :class:`Lock`.
    :param force: take it from, or release it for, a living owner too.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        wanted: str,
        owner: ProcessId,
        user: str,
        *,
        ttl: float,
        force: bool = False,
    ) -> None:
        self.path = path
        self.name = name
        self.wanted = wanted
        self.owner = owner
        self.user = user
        self.ttl = ttl
        self.force = force
        self.token = ""
        self.moved_to: Path | None = None

    def observe(self) -> Observed:
        """Read the lock, and look its owner up where that can be done.

        :raises DeliveryError: the folder does not exist, or the file cannot be read.
        """
        try:
            lock = read(self.path)
        except FileNotFoundError:
            self._check_folder()
            return Observed(State.FREE)
        except ValueError:
            return Observed(State.FOREIGN)
        if lock is None:
            return Observed(State.EMPTY)
        state = judge(
            lock,
            self.owner,
            here=this_machine(),
            owner_alive=alive(lock.owner),
            now=datetime.now(UTC),
        )
        return Observed(state, lock)

    def plan(self, observed: Observed) -> Sequence[Step]:
        """Return the steps.

        :raises Held: somebody else holds it.
        """
        return plan(observed, self.wanted, self.name, self.force)

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Take or release the lock."""
        if step.action == "release":
            with exclusive(self.path.parent):
                if self.plan(self.observe()):
                    self.path.unlink(missing_ok=True)
            return
        self.token = secrets.token_hex(16)
        on_undo(self._give_back, f"the lock of {self.name} is not held by this play")
        with exclusive(self.path.parent):
            # Looked at again: what was stale a moment ago may have been taken over since.
            observed = self.observe()
            if self.plan(observed):
                self._write(observed.state)

    def verify(self, observed: Observed, applied: Sequence[Step]) -> Observed:
        """Look again.

        :raises Held: somebody else has it.
        """
        seen = self.observe()
        held = seen.state is State.MINE
        if self.wanted == "held" and not held:
            plan(seen, self.wanted, self.name, force=False)
            raise DeliveryError(f"the lock of {self.name} was taken away again")
        return seen

    def describe(self, observed: Observed) -> str:
        """Show who holds it."""
        if observed.lock is None:
            return f"{self.path}: {observed.state.value}\n"
        return f"{self.path}: {observed.lock.name}, {observed.lock.holder}\n"

    def expected(self, observed: Observed, steps: Sequence[Step]) -> str:
        """Show who will hold it."""
        if not steps:
            return self.describe(observed)
        if self.wanted == "released":
            return self.describe(Observed(State.FREE))
        return self.describe(Observed(State.MINE, self._lock()))

    def _lock(self) -> Lock:
        # What happens within the second must not look as if it lay in the future.
        now = datetime.now(UTC).replace(microsecond=0)
        return Lock(self.name, self.owner, self.user, now, self.ttl, self.token)

    def _write(self, state: State) -> None:
        part = self.path.with_name(f".{self.path.name}.{self.token}")
        try:
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(self._lock().as_dict(), file, indent=2)
                file.write("\n")
                file.flush()
                os.fchmod(file.fileno(), MODE)
                os.fsync(file.fileno())
            if state is State.FOREIGN:
                # Not ours to throw away: the path may be a mistake.
                self.moved_to = self.path.with_name(f"{self.path.name}.foreign-{self.token[:8]}")
                self.path.rename(self.moved_to)
            if state in (State.FREE, State.FOREIGN):
                # Fails where there is one, even by somebody who does not know of flock.
                os.link(part, self.path)
            else:
                part.replace(self.path)
        except FileExistsError as error:
            raise Held(f"the lock of {self.name} was taken meanwhile") from error
        except OSError as error:
            raise DeliveryError(f"{self.path} cannot be written: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)

    def _give_back(self) -> None:
        with exclusive(self.path.parent):
            try:
                lock = read(self.path)
            except (FileNotFoundError, ValueError):
                return
            if lock is not None and lock.token == self.token:
                self.path.unlink(missing_ok=True)

    def _check_folder(self) -> None:
        if not self.path.parent.is_dir():
            raise DeliveryError(
                f"the folder {self.path.parent} for the lock does not exist",
                next_step="Make it, or give another path.",
            )
