# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The switch of one service as a change. It is the same for all routers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..change import OnUndo, Step
from ..errors import DeliveryError
from .base import Route, Router, same_targets
from .check import Check
from .drain import Drained
from .peers import Share
from .plan import PREPARE, PROVE, REMOVE, SWITCH, Wanted, plan, where
from .routing import Routing


class RouteChange:
    """Bring one service of a router to *wanted*.

    :param health: for each address what is asked of it before it gets traffic.
    :param proof: asked through the router after the switch.
    :param share: which part of the route *wanted* is about, if several hosts serve it.
    """

    def __init__(
        self,
        router: Router,
        wanted: Wanted,
        *,
        health: Mapping[str, Check] | None = None,
        proof: Check | None = None,
        share: Share | None = None,
    ) -> None:
        self.router = router
        self.wanted = wanted
        self.health = health or {}
        self.proof = proof
        self.routing = Routing(router, wanted.service, proof, share=share)

    def observe(self) -> Route:
        """Ask the router, and what does not have traffic yet and shall get it, for its health.

        :raises Unhealthy: a new target is not healthy.
        """
        try:
            self.routing.observe()
        except DeliveryError as error:
            raise error.with_state("Nothing was changed.") from error.__cause__
        route = self.routing.seen or Route(self.wanted.service)
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
        return plan(observed, replace(self.wanted, urls=self._whole(observed)))

    def _whole(self, observed: Route) -> tuple[str, ...]:
        return self.routing.whole(observed, self.wanted.urls)

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step."""
        if step.action in (SWITCH, REMOVE):
            self.routing.write(self.wanted.urls, on_undo)
        elif step.action == PREPARE:
            self.routing.prepare(self.wanted.urls, on_undo)
        elif step.action == PROVE:
            self.prove()

    def verify(self, observed: Route, applied: Sequence[Step]) -> Route:
        """Read back once more, since somebody may have switched during the proof."""
        return self.routing.read_back(self.wanted.urls, observed)

    def describe(self, observed: Route) -> str:
        """Show where the traffic goes."""
        return f"{where(observed)}\n"

    def expected(self, observed: Route, steps: Sequence[Step]) -> str:
        """Show where it will go."""
        return self.describe(Route(observed.service, self._whole(observed)) if steps else observed)

    def prove(self) -> bool:
        """Ask through the router; return whether there was something to ask.

        :raises Unproved: the answers are not those expected.
        """
        self.routing.verify()
        return self.proof is not None

    def drain(self, timeout: float) -> Drained:
        """Wait until no request is left on a former target, for *timeout* seconds at most."""
        return self.routing.drain(timeout)
