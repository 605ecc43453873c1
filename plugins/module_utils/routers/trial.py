# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A candidate at a router: given its share, read back, proved, and all of it taken back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..change import OnUndo, Step
from ..errors import enumerate_words
from ..probe import Unhealthy
from ..signals import uninterrupted
from .base import Overtaken, Route, RouterError, same_targets
from .canary import CanaryRouter, Candidate
from .check import Check, Unproved
from .plan import where

APART = "Find out who deploys, and keep deploys apart with deploy_lock."

STAGE = "stage"
UNSTAGE = "unstage"
PROVE = "prove"


@dataclass(frozen=True)
class Trial:
    """The candidate of one service.

    :param live: where the traffic goes; nothing is done where it does not any more.
    :param proof: asked through the router by the header that asks for the candidate.
    """

    router: CanaryRouter
    live: Route
    proof: Check | None = None

    def stage(self, urls: Sequence[str], weight: int, on_undo: OnUndo) -> None:
        """Make *urls* the candidate with that share.

        :raises DeliveryError: the router refused, or somebody else was there first.
        """
        wanted = Candidate(tuple(urls), weight)
        self._tell(lambda: self.restage(wanted), on_undo)
        self.read_back(wanted)

    def unstage(self, on_undo: OnUndo) -> None:
        """Send everything to the live version; raises as ``stage`` does."""
        self._tell(lambda: self.router.unstage(self.live.service), on_undo)
        self.read_back(None)

    def restage(self, candidate: Candidate) -> None:
        """Make that the candidate, whatever else there is."""
        self.router.stage(self.live.service, candidate.urls, candidate.weight)

    def prove(self) -> None:
        """Ask for the candidate, where there is something to ask.

        :raises Unproved: the answers are not those expected.
        """
        if self.proof is None:
            return
        try:
            self.proof.run()
        except Unhealthy as error:
            raise Unproved(
                f"{self.live.service} does not answer as expected to those who ask for the "
                f"candidate: {error.message}",
                next_step="Ask the new instance itself, then the router's log.",
            ) from error

    def read_back(self, wanted: Candidate | None) -> None:
        """Make sure that the candidate is what was wanted.

        :raises Overtaken: it is not.
        """
        now = self.router.candidate(self.live.service)
        if not same_candidate(now, wanted):
            raise Overtaken(
                f"somebody else changed the candidate of {self.live.service} meanwhile: "
                f"{share_of(now)}",
                next_step=APART,
            )

    def _tell(self, do: Callable[[], None], on_undo: OnUndo) -> None:
        service = self.live.service
        now = self.router.observe(service)
        if not same_targets(now.urls, self.live.urls):
            raise Overtaken(f"somebody else was first: {where(now)}", next_step=APART)
        before = self.router.candidate(service)
        with uninterrupted():
            try:
                do()
            finally:
                # Also after a failure: a request whose answer is lost may have been carried out.
                on_undo(lambda: self._as_before(before), share_of(before))

    def _as_before(self, before: Candidate | None) -> None:
        if before is None:
            self.router.unstage(self.live.service)
        else:
            self.restage(before)


@dataclass(frozen=True)
class Standing:
    """Where the traffic goes, and who is tried."""

    live: Route
    candidate: Candidate | None = None


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

    def observe(self) -> Standing:
        """Ask the router, and a candidate that is new to it for its health."""
        live = self.router.observe(self.service)
        having = self.router.candidate(self.service)
        self.trial = Trial(self.router, live, self.proof)
        for url, check in self.health.items():
            if having is None or not same_targets(having.urls, [url]):
                check.run()
        return Standing(live, having)

    def plan(self, observed: Standing) -> Sequence[Step]:
        """Return the steps.

        :raises RouterError: there is nobody live beside whom somebody could be tried.
        """
        if same_candidate(observed.candidate, self.wanted):
            return []
        if self.wanted is None:
            return [Step(UNSTAGE, f"send all of {self.service} to what is live")]
        if not observed.live.urls:
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

    def verify(self, observed: Standing, applied: Sequence[Step]) -> Standing:
        """Read back once more, since somebody may have been there during the proof."""
        self.trial.read_back(self.wanted)
        return Standing(self.router.observe(self.service), self.wanted)

    def describe(self, observed: Standing) -> str:
        """Show where the traffic goes."""
        return f"{where(observed.live)}\n{self.service}: {share_of(observed.candidate)}\n"

    def expected(self, observed: Standing, steps: Sequence[Step]) -> str:
        """Show where it will go."""
        return self.describe(Standing(observed.live, self.wanted) if steps else observed)


def same_candidate(one: Candidate | None, other: Candidate | None) -> bool:
    """Tell whether two candidates are the same, with the same share."""
    if one is None or other is None:
        return one is other
    return one.weight == other.weight and same_targets(one.urls, other.urls)


def share_of(candidate: Candidate | None) -> str:
    """Say in a few words what the candidate has."""
    if candidate is None:
        return "there is no candidate"
    return f"the candidate has {candidate.weight} % of the clients"
