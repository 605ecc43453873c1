# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A candidate at a router: given its share, read back, verified, and all of it undone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ..change import OnUndo, Step
from ..errors import enumerate_words
from ..probe import Unhealthy
from ..signals import uninterrupted
from .base import APART, Candidate, Overtaken, Route, RouterError, same_candidate, same_targets
from .canary import CanaryRouter
from .check import Check, Unproved
from .plan import where

STAGE = "stage"
UNSTAGE = "unstage"
PROVE = "prove"


@dataclass
class Trial:
    """The candidate of one service.

    :param seen: the route as it was last observed or written; a write is made only if it is that
        still, and so is an undo.
    :param proof: asked through the router by the header that asks for the candidate.
    """

    router: CanaryRouter
    seen: Route
    proof: Check | None = None
    _told: Candidate | None = None

    def stage(self, urls: Sequence[str], weight: int, on_undo: OnUndo) -> None:
        """Make *urls* the candidate with that share.

        :raises Overtaken: somebody else was first; nothing was written.
        :raises DeliveryError: the router refused.
        """
        self._write(Candidate(tuple(urls), weight), on_undo)

    def unstage(self, on_undo: OnUndo) -> None:
        """Send everything to the live version; raises as ``stage`` does."""
        self._write(None, on_undo)

    def restage(self, candidate: Candidate) -> None:
        """Make that the candidate, if there is no other; raises as ``stage`` does."""
        now = self._compare(replace(self.seen, candidate=None), candidate)
        if not same_candidate(now.candidate, candidate):
            self._tell(candidate)
        self.read_back(candidate)

    def prove(self) -> None:
        """Ask for the candidate, if there is something to ask.

        :raises Unproved: the answers are not those expected.
        """
        if self.proof is None:
            return
        try:
            self.proof.run()
        except Unhealthy as error:
            raise Unproved(
                f"{self.seen.service} does not answer as expected to those who ask for the "
                f"candidate: {error.message}",
                next_step="Ask the new instance itself, then the router's log.",
            ) from error

    def read_back(self, wanted: Candidate | None) -> Route:
        """Return the route, of which the candidate is what was wanted.

        :raises Overtaken: it is not.
        """
        now = self.router.observe(self.seen.service)
        if not same_candidate(now.candidate, wanted):
            raise Overtaken(
                f"somebody else changed the candidate meanwhile: {where(now)}", next_step=APART
            )
        self.seen = now
        return now

    def _write(self, wanted: Candidate | None, on_undo: OnUndo) -> None:
        before = self._compare(self.seen)
        refused = False
        with uninterrupted():
            try:
                self._tell(wanted)
            except Overtaken as error:
                refused = True
                raise error.with_state("The router was left as it is.") from error.__cause__
            finally:
                # Also after a failure: a request whose answer is lost may have been carried out.
                if not refused:
                    had = f"{before.service}: {share_of(before.candidate)}"
                    on_undo(partial(self._go_back, before.candidate), had)
        self.read_back(wanted)

    def _compare(self, seen: Route, wanted: Candidate | None = None) -> Route:
        """Return the route, which is what was seen, or has the wanted candidate already."""
        now = self.router.observe(seen.service)
        known = same_candidate(now.candidate, seen.candidate)
        known = known or (wanted is not None and same_candidate(now.candidate, wanted))
        if not known or not same_targets(now.urls, seen.urls):
            raise Overtaken(
                f"somebody else was first: {where(now)}",
                state="The router was left as it is.",
                next_step=APART,
            )
        return now

    def _tell(self, candidate: Candidate | None) -> None:
        self._told = candidate
        if candidate is None:
            self.router.unstage(self.seen.service)
        else:
            self.router.stage(self.seen.service, candidate.urls, candidate.weight)

    def _go_back(self, before: Candidate | None) -> None:
        """Undo a write, unless somebody else has written since."""
        now = self.router.observe(self.seen.service)
        if not same_candidate(now.candidate, before):
            if not any(same_candidate(now.candidate, o) for o in (self._told, self.seen.candidate)):
                raise Overtaken(f"left as it is, since somebody else changed it: {where(now)}")
            self._tell(before)
        self.read_back(before)


class TrialChange:
    """Bring the candidate of one service to *wanted*; None for no candidate."""

    def __init__(
        self,
        router: CanaryRouter,
        service: str,
        wanted: Candidate | None,
        *,
        health: Mapping[str, Check] | None = None,
        proof: Check | None = None,
    ) -> None:
        self.router = router
        self.service = service
        self.wanted = wanted
        self.health = health or {}
        self.proof = proof
        self.trial = Trial(router, Route(service))

    def observe(self) -> Route:
        """Ask the router, and a candidate that is new to it for its health."""
        route = self.router.observe(self.service)
        self.trial = Trial(self.router, route, self.proof)
        having = route.candidate
        for url, check in self.health.items():
            if having is None or not same_targets(having.urls, [url]):
                check.run()
        return route

    def plan(self, observed: Route) -> Sequence[Step]:
        """Return the steps.

        :raises RouterError: there is nobody live beside whom somebody could be tried.
        """
        if same_candidate(observed.candidate, self.wanted):
            return []
        if self.wanted is None:
            return [Step(UNSTAGE, f"send all of {self.service} to what is live")]
        if not observed.urls:
            raise RouterError(
                f"{self.service} has no live version that a candidate could stand beside",
                next_step="Switch to a first version.",
            )
        steps = [Step(STAGE, f"try {enumerate_words(self.wanted.urls)}: {share_of(self.wanted)}")]
        if self.proof is not None:
            steps.append(Step(PROVE, f"prove it by asking for the candidate of {self.service}"))
        return steps

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step."""
        if step.action == PROVE:
            self.trial.prove()
        elif self.wanted is None:
            self.trial.unstage(on_undo)
        else:
            self.trial.stage(self.wanted.urls, self.wanted.weight, on_undo)

    def verify(self, observed: Route, applied: Sequence[Step]) -> Route:
        """Read back once more, since somebody may have been there during the proof."""
        return self.trial.read_back(self.wanted)

    def describe(self, observed: Route) -> str:
        """Show where the traffic goes."""
        live = where(replace(observed, candidate=None))
        return f"{live}\n{self.service}: {share_of(observed.candidate)}\n"

    def expected(self, observed: Route, steps: Sequence[Step]) -> str:
        """Show where it will go."""
        return self.describe(replace(observed, candidate=self.wanted) if steps else observed)


def share_of(candidate: Candidate | None) -> str:
    """Say in a few words what the candidate has."""
    if candidate is None:
        return "there is no candidate"
    return f"the candidate has {candidate.weight} % of the clients"
