# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guarded pass of a blue/green deploy: carry the data, switch, prove, open.

An export makes the live portal read-only for 60 s and no longer, and what it acknowledges after
that the candidate does not have. So the lock is proved to be held right before the switch and right
after it. The candidate is read-only as well, from the moment it has the data until it is proved:
whichever of the two gets the traffic in the end, the other has acknowledged nothing that is not
there, and going back is safe until the candidate is opened. From then on there is only forward:
the traffic stays, and the live portal stays read-only, for the requests that are still under way
there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar

from ..change import OnUndo, Step
from ..deadline import Deadline
from ..errors import DeliveryError
from ..signals import ignore_signals, uninterrupted
from .client import Lapsed, PortalClient, PortalError, State
from .exporting import ExportChange
from .importing import ImportChange, Imported
from .jobs import Lock, release
from .plan import LockObserved, lock_shortcoming

RouteT = TypeVar("RouteT")
ASK_SECONDS = 30.0
# While the traffic waits to be sent back, perhaps from a candidate that is down.
ASK_UNDO_SECONDS = 5.0
# What may lie between our clock and the portal's count of its own lock.
CLOCK_MARGIN = 1.0


class MayHaveWritten(DeliveryError):
    """The candidate may have taken writes, so the traffic cannot be sent back without a loss."""

    kind = "opened"


class Traffic(Protocol[RouteT]):
    """What the pass needs of a router: the change that sends the traffic to the candidate."""

    def observe(self) -> RouteT:
        """Ask where the traffic goes, and the candidate for its health."""

    def plan(self, observed: RouteT) -> Sequence[Step]:
        """Return the steps of the switch and of its proof."""

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one of them."""

    def verify(self, observed: RouteT, applied: Sequence[Step]) -> RouteT:
        """Make sure that the traffic still goes to the candidate."""

    def describe(self, observed: RouteT) -> str:
        """Show where the traffic goes."""

    def expected(self, observed: RouteT, steps: Sequence[Step]) -> str:
        """Show where it will go."""


@dataclass
class Handover(Generic[RouteT]):
    """What a pass did: where the traffic goes, and how long users could not write, in seconds."""

    route: RouteT
    live_lock: Lock | None = None
    imported: Imported | None = None
    read_only_seconds: float = 0.0


def _now() -> datetime:
    return datetime.now(UTC)


class HandoverChange(Generic[RouteT]):
    """One guarded pass from the live portal to the candidate.

    :param export: from the live portal, its lock kept.
    :param import_: into the candidate, a lock taken there.
    :param traffic: the router's part.
    :param drain: waits until the candidate has answered its last request; returns whether it has.
    :param check_route: raises where the traffic does not go to the live portal: writes that it does
        not get would not be carried.
    :param min_remaining: seconds of the live portal's lock that must be left before the switch.
    """

    def __init__(
        self,
        export: ExportChange,
        import_: ImportChange,
        traffic: Traffic[RouteT],
        drain: Callable[[float], bool],
        *,
        check_route: Callable[[RouteT], object],
        min_remaining: float,
        drain_timeout: float,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self.export = export
        self.import_ = import_
        self.traffic = traffic
        self.drain = drain
        self.check_route = check_route
        self.min_remaining = min_remaining
        self.drain_timeout = drain_timeout
        self.now = now
        self.began: datetime | None = None
        self.opening = False
        # Whether the router was asked to switch, and not seen to have gone back since.
        self.away = False
        # Whether no request can be under way at the candidate.
        self.quiet = True
        # Whether the traffic was left at the candidate, for what it may have acknowledged.
        self.stayed = False

    def observe(self) -> Handover[RouteT]:
        """Make sure of everything that can be known before users have to wait."""
        route = self.traffic.observe()
        self.export.observe()
        if self.import_.check_key:
            self.import_.client.check_key(Deadline(ASK_SECONDS))
        self.before = Handover(route)
        return self.before

    def plan(self, observed: Handover[RouteT]) -> Sequence[Step]:
        """Return the steps.

        :raises PortalError: the candidate has the traffic already.
        """
        route = self.traffic.plan(observed.route)
        if not route:
            raise PortalError(
                "the candidate is live already",
                next_step="Give the address of another instance as candidate_url.",
            )
        self.check_route(observed.route)
        # What a router takes its time for comes before users have to wait.
        early = [step for step in route if step.detail.get("early")]
        late = [step for step in route if step not in early]
        return [
            *_of("ready", early),
            *_of("export", self.export.plan(self.export.exported)),
            *_of("import", self.import_.plan(self.import_.imported)),
            Step("held", "make sure that the live portal has taken no write since"),
            *_of("route", late),
            Step("held_still", "make sure that it took none until the switch"),
            Step("open", "let users write to the candidate"),
        ]

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step."""
        part, _dot, action = step.action.partition(".")
        getattr(self, f"_{part}")(replace(step, action=action), on_undo)

    def _ready(self, step: Step, on_undo: OnUndo) -> None:
        self.traffic.apply(step, on_undo)

    def _export(self, step: Step, on_undo: OnUndo) -> None:
        if step.action == "begin":
            self.began = self.now()
            on_undo = self._once_back(on_undo)
        self.export.apply(step, on_undo)

    def _import(self, step: Step, on_undo: OnUndo) -> None:
        if step.action == "begin":
            self.import_.take_over(self.export.exported.size, self.export.exported.sha256)
        if step.action == "lock":
            self.import_.apply(step, self._while_quiet(on_undo))
        else:
            self.import_.apply(step, on_undo)

    def _held(self, step: Step, on_undo: OnUndo) -> None:
        if not _is_held(self.import_.client, self._candidate_lock, ASK_SECONDS):
            raise Lapsed(
                f"{self.import_.client.name} is not read-only any more, so it could not be left "
                "again without a loss"
            )
        self._prove_held(self.min_remaining)

    def _route(self, step: Step, on_undo: OnUndo) -> None:
        # A request that is broken off may be carried out after the undo has looked.
        with uninterrupted():
            self.traffic.apply(step, self._with_drain(on_undo))

    def _held_still(self, step: Step, on_undo: OnUndo) -> None:
        self.route = self.traffic.verify(self.before.route, [])
        # However little is left of it: what counts is that it has held until now.
        self._prove_held(0.0)

    def _open(self, step: Step, on_undo: OnUndo) -> None:
        ignore_signals()
        self.opening = True
        try:
            release(self.import_.client, self._candidate_lock)
        except DeliveryError as error:
            raise MayHaveWritten(
                f"the candidate has the traffic, and did not confirm that users may write to it: "
                f"{error.message}",
                state=error.state,
                next_step=error.next_step,
            ) from error

    def verify(self, observed: Handover[RouteT], applied: Sequence[Step]) -> Handover[RouteT]:
        """Return what was done; everything has been proved before the candidate was opened."""
        began = self.began or self.now()
        return Handover(
            self.route,
            self.export.exported.lock,
            self.import_.imported,
            (self.now() - began).total_seconds(),
        )

    def describe(self, observed: Handover[RouteT]) -> str:
        """Show where the traffic goes."""
        return self.traffic.describe(observed.route)

    def expected(self, observed: Handover[RouteT], steps: Sequence[Step]) -> str:
        """Show where it will go."""
        return self.traffic.expected(observed.route, steps)

    def _prove_held(self, min_remaining: float) -> None:
        """Make sure that the live portal is read-only by our export.

        :raises Lapsed: it is not, or not for long enough.
        """
        lock = self._live_lock
        held = _is_held(self.export.client, lock, ASK_SECONDS)
        observed = LockObserved(held, self._left(lock) if min_remaining > 0 else None)
        shortcoming = lock_shortcoming(observed, min_remaining)
        if shortcoming:
            raise Lapsed(
                f"{self.export.client.name}: {shortcoming}",
                next_step="Deploy again; a portal that takes long to export and import needs a "
                "quieter time, since its lock lasts no longer.",
            )

    def _with_drain(self, on_undo: OnUndo) -> OnUndo:
        """Let going back wait until the candidate has answered its last request."""

        def note(undo: Callable[[], object], state: str = "") -> None:
            self.away, self.quiet = True, False
            on_undo(lambda: self._back(undo), state)

        return note

    def _back(self, undo: Callable[[], object]) -> None:
        """Send the traffic back, and see the candidate's last request answered.

        :raises MayHaveWritten: the candidate may have acknowledged a write, so nothing was done.
        """
        if not self._closed():
            self.stayed = True
            raise MayHaveWritten(
                "the candidate may have taken writes already, so the traffic stays there"
            )
        undo()
        self.away = False
        left = max(0.0, self._left(self._candidate_lock))
        if not self.drain(min(self.drain_timeout, left)) or not self._closed():
            raise DeliveryError(
                "the traffic goes back, but requests that are or were under way at the candidate "
                "may outlast its lock; what it acknowledges then is lost"
            )
        self.quiet = True

    def _while_quiet(self, on_undo: OnUndo) -> OnUndo:
        """Keep the candidate read-only while requests are under way there.

        They are refused as long as it is; after that one would be acknowledged, and lost.
        """

        def note(undo: Callable[[], object], state: str = "") -> None:
            def give_back() -> None:
                if not self.quiet and not self.stayed:
                    raise self._kept("the candidate", self._candidate_lock)
                undo()

            on_undo(give_back, "The candidate's lock is given back")

        return note

    def _once_back(self, on_undo: OnUndo) -> OnUndo:
        """Keep the live portal read-only where the traffic is not known to be back.

        A request that was under way there since before the switch would be acknowledged, and lost.
        """

        def note(undo: Callable[[], object], state: str = "") -> None:
            def give_back() -> None:
                if self.away:
                    raise self._kept("the live portal", self._live_lock)
                undo()

            on_undo(give_back, "The live portal's lock is given back")

        return note

    def _kept(self, which: str, lock: Lock) -> DeliveryError:
        lapses = lock.expires_at.isoformat(timespec="seconds")
        return DeliveryError(
            f"{which} stays read-only until its lock lapses by itself, at {lapses} at the "
            "earliest, since a request under way there must not be acknowledged"
        )

    def _closed(self) -> bool:
        """Tell whether the candidate has been read-only without a gap."""
        if self.opening:
            return False
        lock = self._candidate_lock
        try:
            return _is_held(self.import_.client, lock, ASK_UNDO_SECONDS)
        except DeliveryError:
            # That it does not answer may be why the traffic goes back.
            return self._left(lock) > CLOCK_MARGIN

    def _left(self, lock: Lock) -> float:
        """Return for how many seconds more a lock holds at least."""
        return (lock.expires_at - self.now()).total_seconds()

    @property
    def _live_lock(self) -> Lock:
        if self.export.exported.lock is None:
            raise PortalError("the live portal is not locked")
        return self.export.exported.lock

    @property
    def _candidate_lock(self) -> Lock:
        if self.import_.imported.lock is None:
            raise PortalError("the candidate is not locked")
        return self.import_.imported.lock


def _is_held(client: PortalClient, lock: Lock, seconds: float) -> bool:
    status = client.export_status(lock.export_id, Deadline(seconds))
    return status.state in (State.RUNNING, State.DONE)


def _of(part: str, steps: Sequence[Step]) -> list[Step]:
    return [replace(step, action=f"{part}.{step.action}") for step in steps]
