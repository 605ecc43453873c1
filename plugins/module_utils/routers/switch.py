# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The switch: health, switch, proof, drain. It is the same for all routers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..change import OnUndo, Step
from ..deadline import Deadline, Pace, wait_for
from ..errors import DeliveryError, TimeoutExceeded, enumerate_words
from ..http import Http
from ..probe import Expectation, Unhealthy, wait_healthy
from ..signals import uninterrupted
from .base import Overtaken, Preparing, Route, Router, RouterError, Timed, same_targets
from .plan import PERSIST, PREPARE, PROVE, REMOVE, SWITCH, Wanted, plan, where

DRAIN_PACE = Pace(interval=0.5, first=0.0)


class Unproved(DeliveryError):
    """The router was switched, and what it then answered is not what was expected."""

    kind = "unproved"


class NotDrained(DeliveryError):
    """Requests were left on a former target when the time was up."""

    kind = "not_drained"


@dataclass(frozen=True)
class Check:
    """Questions to a server, and how many good answers in a row are wanted within *timeout* s."""

    http: Http
    expected: Expectation
    timeout: float
    count: int = 1

    def run(self) -> None:
        """Ask.

        :raises Unhealthy: the answers were not good in time.
        """
        wait_healthy(
            self.http, self.expected, deadline=Deadline(self.timeout), successes=self.count
        )


@dataclass(frozen=True)
class Drained:
    """What a drain came to; both are None where the router cannot tell.

    :param lasts: the seconds that requests may go on for, where only time tells.
    """

    drained: bool | None
    in_flight: int | None
    seconds: float
    lasts: float | None = None


class RouteChange:
    """Bring one service of a router to *wanted*.

    :param health: for each address what is asked of it before it gets traffic.
    :param proof: asked through the router after the switch.
    """

    def __init__(
        self,
        router: Router,
        wanted: Wanted,
        *,
        health: Mapping[str, Check] | None = None,
        proof: Check | None = None,
    ) -> None:
        self.router = router
        self.wanted = wanted
        self.health = health or {}
        self.proof = proof
        self.previous: Route | None = None

    def observe(self) -> Route:
        """Ask the router, and what does not have traffic yet and shall get it, for its health.

        :raises Unhealthy: a new target is not healthy.
        """
        try:
            route = self.router.observe(self.wanted.service)
        except DeliveryError as error:
            raise error.with_state("Nothing was changed.") from error.__cause__
        self.previous = route
        for url, check in self.health.items():
            if any(same_targets([url], [had]) for had in route.urls):
                continue
            try:
                check.run()
            except DeliveryError as error:
                error.next_step = error.next_step or "See why the new target is not healthy."
                raise error.with_state(f"Nothing was changed: {where(route)}.") from error
        return route

    def plan(self, observed: Route) -> Sequence[Step]:
        """Return the steps."""
        return plan(observed, self.wanted)

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step."""
        service = self.wanted.service
        if step.action in (SWITCH, REMOVE):
            self._tell(on_undo)
            self._read_back()
        elif step.action == PREPARE and isinstance(self.router, Preparing):
            self.router.prepare(service, self.wanted.urls, on_undo)
        elif step.action == PROVE:
            self.prove()
        elif step.action == PERSIST:
            self.router.persist(service)

    def _tell(self, on_undo: OnUndo) -> None:
        service = self.wanted.service
        before = self.previous or Route(service)
        refused = False
        # No signal between the router's answer and the note of it.
        with uninterrupted():
            try:
                if self.wanted.urls:
                    self.router.switch(service, self.wanted.urls)
                else:
                    self.router.remove(service)
            except Overtaken as error:
                refused = True
                raise error.with_state("The router was left as it is.") from error.__cause__
            finally:
                # Also after a failure: a request whose answer is lost may have been carried out.
                if not refused:
                    on_undo(lambda: self._put_back(before), where(before))

    def verify(self, observed: Route, applied: Sequence[Step]) -> Route:
        """Read back once more, since somebody may have switched during the proof."""
        return self._read_back()

    def describe(self, observed: Route) -> str:
        """Show where the traffic goes."""
        return f"{where(observed)}\n"

    def expected(self, observed: Route, steps: Sequence[Step]) -> str:
        """Show where it will go."""
        return self.describe(Route(observed.service, self.wanted.urls) if steps else observed)

    def prove(self) -> bool:
        """Ask through the router; return whether there was something to ask.

        :raises Unproved: the answers are not those expected.
        """
        if self.proof is None:
            return False
        try:
            self.proof.run()
        except Unhealthy as error:
            raise Unproved(
                f"{self.wanted.service} does not answer through the router as expected: "
                f"{error.message}",
                next_step="Ask the new target itself, then the router's log.",
            ) from error
        return True

    def drain(self, timeout: float) -> Drained:
        """Wait until no request is left on a former target, for *timeout* seconds at most."""
        deadline = Deadline(timeout)
        left: int | None = None

        def look() -> bool | None:
            nonlocal left
            try:
                left = self.router.in_flight(self.wanted.service)
            except DeliveryError:
                # The switch has been made and proved; that one look failed must not undo it.
                left = None
                return None
            return None if left else True

        try:
            wait_for(look, deadline=deadline, pace=DRAIN_PACE, what="the drain")
        except TimeoutExceeded:
            return Drained(False, left, deadline.elapsed)
        if left is None and isinstance(self.router, Timed):
            return self._wait_out(self.router, deadline)
        return Drained(None if left is None else True, left, deadline.elapsed)

    def _wait_out(self, router: Timed, deadline: Deadline) -> Drained:
        try:
            lasts = router.drains_in(self.wanted.service)
        except DeliveryError:
            return Drained(None, None, deadline.elapsed)
        enough = lasts <= deadline.remaining
        deadline.sleep(min(lasts, deadline.remaining))
        if enough:
            return Drained(True, None, deadline.elapsed)
        return Drained(None, None, deadline.elapsed, lasts - deadline.elapsed)

    def _read_back(self) -> Route:
        """Return the route.

        :raises Overtaken: it leads elsewhere.
        :raises RouterError: the router confirmed a switch that it did not make.
        """
        route = self.router.observe(self.wanted.service)
        if same_targets(route.urls, self.wanted.urls):
            return route
        if self.previous is not None and same_targets(route.urls, self.previous.urls):
            raise RouterError(
                f"the router confirmed the change, and yet {where(route)}",
                next_step="Read the router's log.",
            )
        raise Overtaken(
            f"somebody else changed the route meanwhile: {where(route)}, "
            f"not {enumerate_words(self.wanted.urls) or 'removed'}",
            next_step="Find out who deploys, and keep deploys apart with deploy_lock.",
        )

    def _put_back(self, before: Route) -> None:
        service = self.wanted.service
        now = self.router.observe(service)
        if same_targets(now.urls, before.urls):
            return
        if not same_targets(now.urls, self.wanted.urls):
            raise Overtaken(f"left as it is, since somebody else changed it: {where(now)}")
        if before.urls:
            self.router.switch(service, before.urls)
        else:
            self.router.remove(service)
        if not same_targets(self.router.observe(service).urls, before.urls):
            what = enumerate_words(before.urls) or "the removal"
            raise RouterError(f"the router did not take {what} back")
