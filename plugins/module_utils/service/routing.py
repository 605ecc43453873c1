# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service at the router: the shared switch, for addresses that are known only late."""

from __future__ import annotations

from collections.abc import Sequence

from ..change import OnUndo, Step
from ..http import Unreachable
from ..routers import plan as routes
from ..routers.base import Particular, Preparing, Route, Router
from ..routers.canary import CanaryRouter, Candidate, as_canary
from ..routers.switch import Check, Drained, RouteChange
from ..routers.trial import Trial


class Routing:
    """One service of one router.

    The route is observed once, at the beginning of a deploy, and switched only where it is still
    the same: who deployed meanwhile is not run over.

    :param required: whether it is a failure that the router cannot be reached.
    :param tried: the proof as those ask who ask for the candidate.
    """

    def __init__(
        self,
        router: Router,
        service: str,
        proof: Check | None = None,
        required: bool = True,
        tried: Check | None = None,
    ) -> None:
        self.service = service
        self.required = required
        self.tried = tried
        self.away = ""
        self._router = router
        self._change = RouteChange(router, routes.Wanted(service), proof=proof)

    def observe(self) -> tuple[str, ...] | None:
        """Return where the traffic goes; None where the router is away, and may be.

        :raises DeliveryError: the router gives no answer that can be used.
        """
        try:
            return self._change.observe().urls
        except Unreachable as error:
            if self.required:
                raise
            self.away = error.message
            return None

    def check_targets(self, urls: Sequence[str]) -> None:
        """Make sure that the router can have these addresses; it is not asked.

        :raises RouterError: it cannot.
        """
        if isinstance(self._router, Particular):
            self._router.check_targets(urls)

    def candidate(self) -> Candidate | None:
        """Return the candidate; None where there is none, or the router can have none."""
        if self.away or not isinstance(self._router, CanaryRouter):
            return None
        return self._router.candidate(self.service)

    def stage(
        self, urls: Sequence[str], weight: int, on_undo: OnUndo, *, prove: bool = True
    ) -> None:
        """Make *urls* the candidate with that share, and prove it by asking for it.

        :raises DeliveryError: the router refused, somebody else was there first, or the proof
            failed.
        """
        self._trial.stage(urls, weight, on_undo)
        if prove:
            self._trial.prove()

    def unstage(self, on_undo: OnUndo) -> None:
        """Send everything to the live version; raises as ``stage`` does."""
        self._trial.unstage(on_undo)

    def restage(self, candidate: Candidate) -> None:
        """Make that the candidate again which a switch has ended."""
        self._trial.restage(candidate)

    @property
    def _trial(self) -> Trial:
        seen = self._change.previous or Route(self.service)
        return Trial(as_canary(self._router), seen, self.tried)

    def switch(self, urls: Sequence[str], on_undo: OnUndo) -> None:
        """Send the traffic to *urls*, and prove it; nowhere where there are none.

        :raises DeliveryError: the router refused, somebody else was there first, or the proof
            failed.
        """
        change = self._change
        prove = bool(urls) and change.proof is not None
        change.wanted = routes.Wanted(
            self.service,
            tuple(urls),
            prove=prove,
            persist=not self._router.durable,
            prepare=bool(urls) and isinstance(self._router, Preparing),
        )
        previous = change.previous
        steps = change.plan(previous) if previous is not None else ()
        if not steps and prove:
            steps = [Step(routes.PROVE, "")]
        for step in steps:
            change.apply(step, on_undo)

    def drain(self, timeout: float) -> Drained:
        """Wait until no request is left on an address that has no traffic any more."""
        return self._change.drain(timeout)
