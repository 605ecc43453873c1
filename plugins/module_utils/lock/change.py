# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lock file that says who holds it, and that does not outlive its owner.

The owner is a process, the main one of ansible-playbook. If it can be looked up, that decides; if
not, since it runs on another machine, the lock's time to live does. Whoever takes over a lock waits
for the modules that its owner left at work. All changes to the file are made under flock(2) of the
folder it lies in, which the kernel gives back when a process dies.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ..change import OnUndo, Step
from ..deadline import Deadline
from ..errors import DeliveryError
from ..exclusive import exclusive
from ..identity import ProcessId, alive, this_machine
from .file import drop, make_work_file, read, remove, work_file, write
from .model import ACQUIRE, JOIN, LEAVE, RELEASE, Held, Lock, Observed, Reason, State, judge, plan
from .work import Busy, nobody_at_work
from .workers import Worker


class DeployLockChange:
    """Bring the lock at *path* to *desired* for *owner*.

    :param holder: for whom the owner holds it, see :class:`Lock`.
    :param ttl: seconds; see :class:`Lock`.
    :param force: take it from, or release it for, a living owner too.
    :param wait_timeout: seconds to wait for those that work under the lock.
    :param ended: the token of a lock whose owner is known to have ended.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        desired: str,
        owner: ProcessId,
        *,
        user: str,
        holder: str,
        ttl: float,
        force: bool = False,
        wait_timeout: float = 0.0,
        ended: str = "",
    ) -> None:
        self.path = path
        self.name = name
        self.desired = desired
        self.owner = owner
        self.user = user
        self.holder = holder
        self.ttl = ttl
        self.force = force
        self.wait_timeout = wait_timeout
        self.ended = ended
        self.token = secrets.token_hex(16)
        self.moved_to: Path | None = None
        self.waited = 0.0
        self.left_at_work: Sequence[Worker] = ()

    def observe(self) -> Observed:
        """Read the lock, and look its owner up if that can be done.

        :raises DeliveryError: the folder does not exist, or the file cannot be read.
        """
        try:
            lock = read(self.path)
        except FileNotFoundError:
            self._check_folder()
            return Observed(State.FREE)
        except ValueError:
            return Observed(State.STALE, reason=Reason.FOREIGN)
        if lock is None:
            return Observed(State.STALE, reason=Reason.EMPTY)
        here = this_machine()
        return judge(
            lock, self.owner, here=here, owner_alive=self._is_alive(lock), now=datetime.now(UTC)
        )

    def _is_alive(self, lock: Lock) -> bool | None:
        if this_machine().sees(lock.owner.machine):
            return alive(lock.owner)
        return False if lock.token == self.ended else None

    def plan(self, observed: Observed) -> Sequence[Step]:
        """Return the steps.

        :raises Held: somebody else holds it.
        """
        return plan(observed, self.desired, self.holder, self.name, self.force)

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Take the lock or give it back; as it is then, which may be another step by now.

        :raises Held: somebody else took it meanwhile, or is still at work under it.
        """
        if self.desired == "held":
            on_undo(self._give_back, f"The lock of {self.name} is not held by this play")
        deadline = Deadline(self.wait_timeout)
        while not self._try(deadline):
            pass

    def verify(self, observed: Observed, applied: Sequence[Step]) -> Observed:
        """Look again.

        :raises Held: somebody else has it.
        """
        seen = self.observe()
        if self.desired == "held" and seen.state is not State.MINE:
            plan(seen, self.desired, self.holder, self.name)
            raise DeliveryError(f"the lock of {self.name} was taken away again")
        return seen

    def describe(self, observed: Observed) -> str:
        """Show who holds it."""
        lock = observed.lock
        if lock is None:
            return f"{self.path}: {observed.text}\n"
        return f"{self.path}: {lock.name}, {lock.holder}, for {', '.join(lock.holders)}\n"

    def expected(self, observed: Observed, steps: Sequence[Step]) -> str:
        """Show who will hold it."""
        after = observed
        for step in steps:
            lock = self._after(step.action, observed)
            after = Observed(State.MINE, lock) if lock is not None else Observed(State.FREE)
        return self.describe(after)

    def _try(self, deadline: Deadline) -> bool:
        """Do what is to be done now; return False if that became something else meanwhile."""
        seen = self.observe()
        steps = self.plan(seen)
        with self._nobody_at_work(seen, steps, deadline), exclusive(self.path.parent):
            now = self.observe()
            if now.token != seen.token or self.plan(now) != steps:
                return False
            for step in steps:
                self._do(step.action, now)
        return True

    @contextmanager
    def _nobody_at_work(
        self, seen: Observed, steps: Sequence[Step], deadline: Deadline
    ) -> Iterator[None]:
        if seen.lock is None or not any(step.action in (ACQUIRE, RELEASE) for step in steps):
            yield
            return
        try:
            with nobody_at_work(self.path, seen.lock.token, deadline):
                self.waited = deadline.elapsed
                yield
        except Busy as error:
            if not self.force:
                raise self._still_at_work(seen.lock, error) from error
            self.left_at_work = error.workers
        else:
            return
        yield

    def _still_at_work(self, lock: Lock, busy: Busy) -> Held:
        pids = " ".join(str(worker.pid) for worker in busy.workers)
        end = f", end it (kill {pids})" if pids else ", end it"
        which = "this play" if lock.owner == self.owner else f"the ended deploy by {lock.holder}"
        return Held(
            f"{busy.message} is still at work on {lock.name}, as part of {which}",
            state="Nothing was changed.",
            next_step="Wait until it has ended, which may be an undo, then run this again. If it "
            f"hangs{end}.",
            lock=lock,
        )

    def _do(self, action: str, now: Observed) -> None:
        lock = self._after(action, now)
        if lock is None:
            remove(self.path, now.token)
            return
        if now.reason is Reason.FOREIGN:
            # Not ours to throw away: the path may be a mistake.
            self.moved_to = self.path.with_name(f"{self.path.name}.foreign-{self.token[:8]}")
            self.path.rename(self.moved_to)
        if now.token != lock.token:
            make_work_file(self.path, lock.token)
        write(self.path, lock, new=now.state is State.FREE or self.moved_to is not None)
        if now.token not in (None, lock.token):
            drop(work_file(self.path, str(now.token)))

    def _after(self, action: str, now: Observed) -> Lock | None:
        """Return the lock as it is after a step; None if it is free."""
        if action == JOIN and now.lock is not None:
            return replace(now.lock, holders=(*now.lock.holders, self.holder))
        if action == LEAVE and now.lock is not None:
            rest = tuple(one for one in now.lock.holders if one != self.holder)
            return replace(now.lock, holders=rest)
        if action != ACQUIRE:
            return None
        # What happens within the second must not look as if it lay in the future.
        since = datetime.now(UTC).replace(microsecond=0)
        holders = (self.holder,)
        return Lock(self.name, self.owner, self.user, holders, since, self.ttl, self.token)

    def _give_back(self) -> None:
        with exclusive(self.path.parent):
            now = self.observe()
            for step in plan(now, "released", self.holder, self.name):
                self._do(step.action, now)
            if now.token != self.token:
                drop(work_file(self.path, self.token))

    def _check_folder(self) -> None:
        if not self.path.parent.is_dir():
            raise DeliveryError(
                f"the folder {self.path.parent} for the lock does not exist",
                next_step="Make it, or give another path.",
            )
