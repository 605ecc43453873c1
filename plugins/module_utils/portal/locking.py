# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An export's lock: proving that it is held, and giving it back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from ..change import OnUndo, Step
from ..deadline import Deadline
from .client import Lapsed, PortalClient, State
from .jobs import Lock, release
from .plan import LockObserved, lock_shortcoming, plan_release


def _now() -> datetime:
    return datetime.now(UTC)


class LockChange:
    """Bring one export's lock to *state*.

    :param state: ``held`` only looks, and raises where the lock does not do; ``released`` gives it
        back.
    :param expires_at: when it lapses at the earliest, where that is known.
    :param min_remaining: for ``held``: the seconds that must be left.
    """

    def __init__(
        self,
        client: PortalClient,
        export_id: str,
        state: str,
        *,
        timeout: float = 60.0,
        expires_at: datetime | None = None,
        min_remaining: float = 0.0,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self.client = client
        self.export_id = export_id
        self.state = state
        self.deadline = Deadline(timeout)
        self.expires_at = expires_at
        self.min_remaining = min_remaining
        self.now = now

    def observe(self) -> LockObserved:
        """Ask the portal whether it still knows the export."""
        status = self.client.export_status(self.export_id, self.deadline)
        remaining = None
        if self.expires_at is not None:
            remaining = (self.expires_at - self.now()).total_seconds()
        return LockObserved(status.state in (State.RUNNING, State.DONE), remaining)

    def plan(self, observed: LockObserved) -> Sequence[Step]:
        """Return the steps.

        :raises Lapsed: the lock was to be held, and is not, or not for long enough.
        """
        if self.state == "released":
            return plan_release(observed)
        shortcoming = lock_shortcoming(observed, self.min_remaining)
        if shortcoming:
            raise Lapsed(
                f"{self.client.name}: {shortcoming}",
                next_step="Export again, and switch while the new lock is held.",
            )
        return []

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Give the lock back."""
        release(self.client, Lock(self.export_id, self.expires_at or self.now()))

    def verify(self, observed: LockObserved, applied: Sequence[Step]) -> LockObserved:
        """Return what stands; the release has been followed until the portal said so."""
        return LockObserved(False)

    def describe(self, observed: LockObserved) -> str:
        """Show whether the portal is read-only by this export."""
        state = "read-only" if observed.held else "not locked by this export"
        return f"{self.client.name}: {state}\n"

    def expected(self, observed: LockObserved, steps: Sequence[Step]) -> str:
        """Show what will stand."""
        return self.describe(LockObserved(observed.held and not steps))
