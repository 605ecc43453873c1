# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The switch: health, switch, proof, drain. It is the same for all routers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..change import OnUndo, Step
from ..deadline import Deadline, Pace, wait_for
from ..errors import DeliveryError, TimeoutExceeded
from ..http import Http
from ..probe import Expectation, Unhealthy, wait_healthy
from .base import Route, Router, RouterError, same_address
from .plan import PERSIST, PROVE, REMOVE, SWITCH, Wanted, plan, where

DRAIN_PACE = Pace(interval=0.5, first=0.0)


class Unproved(DeliveryError):
    """The router was switched, and what it then answered is not what was expected."""

    kind = "unproved"


class Overtaken(DeliveryError):
    """Somebody else switched the same service meanwhile."""

    kind = "overtaken"


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
    """What a drain came to; both are None where the router cannot tell."""

    drained: bool | None
    in_flight: int | None
    seconds: float


class RouteChange:
    """Bring one service of a router to *wanted*.

    :param health: asked of the new target itself before anything is changed.
    :param proof: asked through the router after the switch.
    """

    def __init__(
        self,
        router: Router,
        wanted: Wanted,
        *,
        health: Check | None = None,
        proof: Check | None = None,
    ) -> None:
        self.router = router
        self.wanted = wanted
        self.health = health
        self.proof = proof
        self.previous: Route | None = None

    def observe(self) -> Route:
        """Ask the router, and where there is something to switch, the new target for its health.

        :raises Unhealthy: the new target is not healthy.
        """
        try:
            route = self.router.observe(self.wanted.service)
        except DeliveryError as error:
            raise error.with_stands("Nothing was changed.") from error.__cause__
        self.previous = route
        if self.health is not None and plan(route, self.wanted):
            try:
                self.health.run()
            except DeliveryError as error:
                error.next_step = error.next_step or "See why the new target is not healthy."
                raise error.with_stands(f"Nothing was changed: {where(route)}.") from error
        return route

    def plan(self, observed: Route) -> Sequence[Step]:
        """Return the steps."""
        return plan(observed, self.wanted)

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step."""
        service = self.wanted.service
        before = self.previous or Route(service, None)
        if step.action in (SWITCH, REMOVE):
            # Noted first: a request whose answer is lost may have been carried out.
            on_undo(lambda: self._put_back(before), where(before))
        if step.action == SWITCH and self.wanted.url is not None:
            self.router.switch(service, self.wanted.url)
            self._read_back()
        elif step.action == REMOVE:
            self.router.remove(service)
            self._read_back()
        elif step.action == PROVE:
            self.prove()
        elif step.action == PERSIST:
            self.router.persist(service)

    def verify(self, observed: Route, applied: Sequence[Step]) -> Route:
        """Read back once more, since somebody may have switched during the proof."""
        return self._read_back()

    def describe(self, observed: Route) -> str:
        """Show where the traffic goes."""
        return f"{where(observed)}\n"

    def expected(self, observed: Route, steps: Sequence[Step]) -> str:
        """Show where it will go."""
        return self.describe(Route(observed.service, self.wanted.url) if steps else observed)

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
        return Drained(None if left is None else True, left, deadline.elapsed)

    def _read_back(self) -> Route:
        """Return the route.

        :raises Overtaken: it leads elsewhere.
        :raises RouterError: the router confirmed a switch that it did not make.
        """
        route = self.router.observe(self.wanted.service)
        if same_address(route.url, self.wanted.url):
            return route
        if self.previous is not None and same_address(route.url, self.previous.url):
            raise RouterError(
                f"the router confirmed the change, and yet {where(route)}",
                next_step="Read the router's log.",
            )
        raise Overtaken(
            f"somebody else changed the route meanwhile: {where(route)}, "
            f"not {self.wanted.url or 'removed'}",
            next_step="Find out who deploys, and keep deploys apart with deploy_lock: this router "
            "cannot refuse the second of two callers.",
        )

    def _put_back(self, before: Route) -> None:
        service = self.wanted.service
        now = self.router.observe(service)
        if same_address(now.url, before.url):
            return
        if not same_address(now.url, self.wanted.url):
            raise Overtaken(f"left as it is, since somebody else changed it: {where(now)}")
        if before.url is None:
            self.router.remove(service)
        else:
            self.router.switch(service, before.url)
        if not same_address(self.router.observe(service).url, before.url):
            raise RouterError(f"the router did not take {before.url or 'the removal'} back")
