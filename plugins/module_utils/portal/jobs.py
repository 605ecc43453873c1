# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the portal's jobs share: the waits, the lock and its giving back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from ..change import OnUndo
from ..deadline import Deadline, Pace, wait_for
from ..errors import DeliveryError, TimeoutExceeded
from ..http import ConnectionBroken
from ..http_sockets import CHUNK
from ..signals import uninterrupted
from .client import (
    LOCK_SECONDS,
    Cancelled,
    Conflict,
    Lapsed,
    PortalClient,
    PortalError,
    Refused,
    State,
    Status,
)

T = TypeVar("T")
FIRST_LOOK = 0.25
MIN_INTERVAL = 2.0
RELEASE_SECONDS = 90.0


@dataclass
class Patience:
    """How long and how often a job waits; all in seconds.

    The portal limits its callers to 25 calls a minute, so looks are never closer than 2 s, but for
    the first few: a small portal is done in well under a second, and users wait for the lock.
    """

    timeout: float = 300.0
    poll_interval: float = MIN_INTERVAL
    conflict_timeout: float = 0.0

    def pace(self) -> Pace:
        """Return the pace of looking at a job's status."""
        return Pace(interval=max(MIN_INTERVAL, self.poll_interval), first=FIRST_LOOK)


@dataclass
class Lock:
    """An export's lock. ``expires_at`` is when it lapses at the earliest."""

    export_id: str
    expires_at: datetime
    held: bool = True

    def result(self) -> dict[str, Any]:
        """Return the lock as a module returns it."""
        return {
            "held": self.held,
            "export_id": self.export_id,
            "expires_at": self.expires_at.isoformat(timespec="milliseconds") if self.held else "",
        }


def take_lock(
    client: PortalClient,
    patience: Patience,
    deadline: Deadline,
    on_undo: OnUndo,
    lock_seconds: float = LOCK_SECONDS,
) -> Lock:
    """Start an export, waiting out somebody else's; its lock is given back on undo.

    :raises Conflict: somebody else's export outlasted ``conflict_timeout``.
    """

    def begin() -> Lock:
        # Counted from before the call: the lock may lapse later than this, never earlier.
        expires_at = datetime.now(UTC) + timedelta(seconds=lock_seconds)
        with uninterrupted():
            lock = Lock(client.begin_export(deadline), expires_at)
            on_undo(lambda: release(client, lock) if lock.held else None, "The lock is given back")
        return lock

    return without_conflict(begin, patience, deadline, "the other export to end")


def without_conflict(
    attempt: Callable[[], T], patience: Patience, deadline: Deadline, what: str
) -> T:
    """Return what *attempt* returns, trying again while it is refused with 409.

    :raises Conflict: it was still refused after ``conflict_timeout``.
    """
    try:
        return attempt()
    except Conflict as conflict:
        if patience.conflict_timeout <= 0:
            raise
        refused = conflict

    def again() -> T | None:
        nonlocal refused
        try:
            return attempt()
        except Conflict as conflict:
            refused = conflict
            return None

    pace = Pace(interval=max(MIN_INTERVAL, patience.poll_interval), jitter=0.2)
    limit = deadline.within(patience.conflict_timeout)
    try:
        return wait_for(again, deadline=limit, pace=pace, what=what)
    except TimeoutExceeded as error:
        if isinstance(error, ConnectionBroken):  # a call that may have been taken is no refusal
            raise
        refused.message += f", still after {limit.elapsed:.0f} s"
        raise refused from error


def release(client: PortalClient, lock: Lock) -> None:
    """Give a lock back and see it through; a lock that has lapsed already is as good.

    Has its own deadline, since it runs when that of the job is over.
    """
    deadline = Deadline(RELEASE_SECONDS)
    try:
        if client.cancel_export(lock.export_id, deadline) is Cancelled.SCHEDULED:
            wait_for(
                lambda: (
                    client.cancel_export(lock.export_id, deadline) is not Cancelled.SCHEDULED
                    or None
                ),
                deadline=deadline,
                pace=Pace(interval=MIN_INTERVAL, first=0.5),
                what="the export to be cancelled",
            )
    except DeliveryError as error:
        error.state = (
            f"{client.name} may stay read-only until its lock lapses, "
            f"at {lock.expires_at.isoformat(timespec='seconds')} at the earliest."
        )
        raise
    lock.held = False


def await_job(
    ask: Callable[[], Status],
    client: PortalClient,
    patience: Patience,
    deadline: Deadline,
    job: str,
) -> Status:
    """Wait until an export or import (*job*) is done.

    :raises Refused: the portal failed it; carries the portal's own message.
    :raises Lapsed: the portal no longer knows it.
    """

    def look() -> Status | None:
        status = ask()
        return None if status.state is State.RUNNING else status

    try:
        status = wait_for(
            look,
            deadline=deadline,
            pace=patience.pace(),
            what=f"{client.name} to finish the {job}",
            last_seen=lambda: "still processing",
        )
    except TimeoutExceeded as error:
        error.next_step = error.next_step or "Give a longer timeout."
        raise
    if status.state is State.DONE:
        return status
    if status.state is State.FAILED:
        raise Refused(
            f"{client.name} failed the {job}: {status.message or 'it gave no reason'}",
        )
    if status.state is State.CANCELLED:
        raise PortalError(f"the {job} at {client.name} was cancelled by somebody else")
    if job == "export":
        raise Lapsed(
            f"{client.name} no longer knows the export: "
            "its lock lapsed before the archive was made",
            next_step="Try again; a portal that takes longer than 60 s to export cannot hold its "
            "lock.",
        )
    raise PortalError(
        f"{client.name} no longer knows the import",
        next_step="It may have been restarted; see its log, then import again.",
    )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex, in constant memory."""
    digest = hashlib.sha256()
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as source:
        while size := source.readinto(buffer):
            digest.update(view[:size])
    return digest.hexdigest()
