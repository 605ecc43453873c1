# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service at the router: the shared switch, for addresses that are known only late."""

from __future__ import annotations

from collections.abc import Sequence

from ..change import OnUndo, Step
from ..http import Unreachable
from ..probe import Unhealthy
from ..routers import plan as routes
from ..routers.base import Overtaken, Particular, Preparing, Route, Router, same_targets
from ..routers.canary import CanaryRouter, Candidate, as_canary
from ..routers.switch import Check, Drained, RouteChange, Unproved
from ..signals import uninterrupted

APART = "Find out who deploys, and keep deploys apart with deploy_lock."


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
        router = as_canary(self._router)
        self._check_live()
        before = self.candidate()
        with uninterrupted():
            try:
                router.stage(self.service, urls, weight)
            finally:
                # Also after a failure: a request whose answer is lost may have been carried out.
                on_undo(lambda: self._as_before(before), _share_of(before))
        self._read_back(Candidate(tuple(urls), weight))
        if prove and self.tried is not None:
            try:
                self.tried.run()
            except Unhealthy as error:
                raise Unproved(
                    f"{self.service} does not answer as expected to those who ask for the "
                    f"candidate: {error.message}",
                    next_step="Ask the new instance itself, then the router's log.",
                ) from error

    def unstage(self, on_undo: OnUndo) -> None:
        """Send everything to the live version.

        :raises DeliveryError: the router refused, or somebody else was there first.
        """
        self._check_live()
        before = self.candidate()
        with uninterrupted():
            try:
                as_canary(self._router).unstage(self.service)
            finally:
                on_undo(lambda: self._as_before(before), _share_of(before))
        self._read_back(None)

    def restage(self, candidate: Candidate) -> None:
        """Make that the candidate again which a switch has ended."""
        as_canary(self._router).stage(self.service, candidate.urls, candidate.weight)

    def _as_before(self, before: Candidate | None) -> None:
        if before is None:
            as_canary(self._router).unstage(self.service)
        else:
            self.restage(before)

    def _check_live(self) -> None:
        """Make sure that nobody has switched meanwhile.

        :raises Overtaken: somebody has.
        """
        seen = self._change.previous or Route(self.service)
        now = self._router.observe(self.service)
        if not same_targets(now.urls, seen.urls):
            raise Overtaken(f"somebody else was first: {routes.where(now)}", next_step=APART)

    def _read_back(self, wanted: Candidate | None) -> None:
        """Make sure that the candidate is what was wanted.

        :raises Overtaken: it is not.
        """
        now = self.candidate()
        if now is None and wanted is None:
            return
        if now is None or wanted is None or not _same(now, wanted):
            raise Overtaken(
                f"somebody else changed the candidate of {self.service} meanwhile: "
                f"{_share_of(now)}",
                next_step=APART,
            )

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


def _same(one: Candidate, other: Candidate) -> bool:
    return one.weight == other.weight and same_targets(one.urls, other.urls)


def _share_of(candidate: Candidate | None) -> str:
    """Say in a few words what the candidate has."""
    if candidate is None:
        return "there is no candidate"
    return f"the candidate has {candidate.weight} % of the clients"
