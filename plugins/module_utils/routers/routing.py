# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One service at one router: the one place that writes a route.

Each write is compare-and-set. It is made only if the route is what was last seen or written here;
otherwise somebody else has deployed meanwhile, and :class:`Overtaken` is raised before anything is
written. The same holds for each undo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ..change import OnUndo
from ..deadline import Deadline, Pace, outlast
from ..errors import DeliveryError, Interrupted, enumerate_words
from ..http import ConnectionBroken, Unreachable
from ..probe import Unhealthy
from ..signals import uninterrupted
from .base import (
    APART,
    Candidate,
    Overtaken,
    Particular,
    Preparing,
    Route,
    Router,
    RouterDown,
    RouterError,
    same_address,
    same_candidate,
    same_targets,
)
from .canary import as_canary
from .check import Check, Unproved
from .drain import Drained, drain
from .peers import Share
from .plan import where
from .trial import Trial

# How often a write is tried again if the router refuses it, though our part is as it was.
TRIES = 5
# After so many questions in a row that the router gave no answer to, it is down.
PATIENCE = 3
# How long an undo waits for a router that is away: it may be restarting.
BACK_SECONDS = 20.0
BACK_PACE = Pace(interval=0.5, first=0.0)
AWAY = (RouterDown, Unreachable, ConnectionBroken)
Back = Callable[[], Sequence[str]]


class Routing:
    """One service at one router.

    :param proof: asked through the router after a switch.
    :param required: whether it is a failure that the router cannot be reached.
    :param tried: the proof as clients ask that ask for the candidate.
    :param serves: asked through the router after an undo, and by ``ask`` if there is no proof.
    :param share: which part of the route is ours, if several hosts serve it. Then all addresses
        that are given or returned here are of our part, and the others' stay on the route.
    """

    def __init__(
        self,
        router: Router,
        service: str,
        proof: Check | None = None,
        *,
        required: bool = True,
        tried: Check | None = None,
        serves: Check | None = None,
        share: Share | None = None,
    ) -> None:
        self.router = router
        self.service = service
        self.proof = proof
        self.required = required
        self.tried = tried
        self.serves = serves
        self.share = share
        # Called while the answers are awaited; it may raise, to say that there will be none.
        self.watch: Callable[[], object] = lambda: None
        self.away = ""
        # The route as it was last observed or written; the next write compares with it.
        self.seen: Route | None = None
        # What the router was last told, whether or not it confirmed that.
        self._told: tuple[str, ...] | None = None
        self._candidates: Trial | None = None
        self._back_until: Deadline | None = None
        self._unanswered = 0

    # Reading

    def observe(self) -> tuple[str, ...] | None:
        """Return where the traffic goes, and compare with that from now on.

        Returns None if the router is unreachable and not required; ``away`` then says why.

        :raises ForeignAddress: the route leads to somebody who is no peer.
        :raises DeliveryError: the router gives no answer that can be used.
        """
        self.away = ""
        try:
            self.seen = self.look()
        except Unreachable as error:
            if self.required:
                raise
            self.away = error.message
            return None
        if self.share is not None:
            self.share.check(self.seen)
        return self.own(self.seen)

    def look(self) -> Route:
        """Return where the traffic goes; later writes still compare with what was seen before.

        :raises DeliveryError: the router gives no answer that can be used.
        """
        return self.router.observe(self.service)

    def own(self, route: Route | None) -> tuple[str, ...]:
        """Return our part of a route, which is all of it unless it is shared."""
        urls = route.urls if route is not None else ()
        return urls if self.share is None else self.share.own(urls)

    def whole(self, route: Route | None, urls: Sequence[str]) -> tuple[str, ...]:
        """Return what a route becomes once our part of it is *urls*."""
        if self.share is None or route is None:
            return tuple(urls)
        return self.share.merge(route.urls, urls)

    def check_targets(self, urls: Sequence[str]) -> None:
        """Make sure that the router can have these addresses; it is not asked.

        :raises RouterError: it cannot.
        """
        if isinstance(self.router, Particular):
            self.router.check_targets(urls)

    def ask(self) -> str:
        """Look once whether the service still answers through the router as expected.

        Returns what is wrong, or an empty string. A router that cannot be asked for the route may
        go on sending traffic: its answers tell.

        :raises Overtaken: somebody else changed the route.
        :raises DeliveryError: again and again the router cannot be asked, and sends no traffic.
        """
        check = self.proof or self.serves
        away: DeliveryError | None = None
        try:
            now = self.look()
            if self.seen is not None and not same_targets(self.own(now), self.own(self.seen)):
                raise Overtaken(
                    f"somebody else changed the route meanwhile: {where(now)}", next_step=APART
                )
        except (Interrupted, Overtaken):
            raise
        except DeliveryError as error:
            away = error
        if check is None:
            wrong = away.message if away is not None else ""
        else:
            try:
                wrong = check.ask()
            except Interrupted:
                raise
            except DeliveryError as error:
                wrong = error.message
        if not wrong or away is None:
            self._unanswered = 0
            return wrong
        self._unanswered += 1
        if self._unanswered >= PATIENCE:
            raise away
        return away.message

    def verify(self) -> None:
        """Ask through the router, if there is a proof.

        :raises Unproved: the answers are not those expected.
        """
        if self.proof is None:
            return
        try:
            self.proof.run(self.watch)
        except Unhealthy as error:
            raise Unproved(
                f"{self.service} does not answer through the router as expected: {error.message}",
                next_step="Ask the new target itself, then the router's log.",
            ) from error

    # The live version

    def switch(
        self,
        urls: Sequence[str],
        on_undo: OnUndo,
        *,
        back: Back | None = None,
        verify: bool = True,
    ) -> None:
        """Send the traffic to *urls*, read it back, and verify it through the router.

        :param back: returns the addresses to go back to, asked when it is undone: a container that
            was stopped and started again may have another port by then. By default those from
            before.
        :raises Overtaken: somebody else changed the route; nothing was written.
        :raises DeliveryError: the router refused, or the answers are not those expected.
        """
        urls = tuple(urls)
        if not urls:
            raise RouterError(
                f"there is no address that {self.service} could be sent to",
                state="The router was left as it is.",
                next_step="See whether the new instances run and publish their port.",
            )
        if not same_targets(self.own(self.compare(urls)), urls):
            self.prepare(urls, on_undo)
            self.write(urls, on_undo, back)
        if verify:
            self.verify()

    def remove(self, on_undo: OnUndo) -> None:
        """Have the router forget the service; raises as ``switch`` does."""
        if self.own(self.compare(())):
            self.write((), on_undo)

    def restore(self, back: Back) -> None:
        """Bring the route to what serves now; for an undo that started something.

        :raises Overtaken: somebody else changed the route; nothing was written.
        :raises DeliveryError: the router refused, or the service does not answer through it.
        """
        self._go_back(self.seen or Route(self.service), back)

    def prepare(self, urls: Sequence[str], on_undo: OnUndo) -> None:
        """Let a router that takes its time for it see *urls* healthy, without traffic."""
        if isinstance(self.router, Preparing):
            self.router.prepare(self.service, self.whole(self.seen, urls), on_undo)

    def compare(self, wanted: Sequence[str] | None = None) -> Route:
        """Return the route, which is what was last seen, or already what is wanted.

        :raises Overtaken: it is neither.
        """
        now = self.look()
        own = self.own(now)
        known = self.seen is None or (
            same_targets(own, self.own(self.seen))
            and same_candidate(now.candidate, self.seen.candidate)
        )
        if not known and (wanted is None or not same_targets(own, wanted)):
            raise Overtaken(
                f"somebody else was first: {where(now)}",
                state="The router was left as it is.",
                next_step=APART,
            )
        self.seen = now
        return now

    def write(self, urls: tuple[str, ...], on_undo: OnUndo, back: Back | None = None) -> None:
        """Write our part of the route, and read it back; raises as ``switch`` does."""
        before = self.compare()
        refused = False
        # No signal between the router's answer and the note of it.
        with uninterrupted():
            try:
                self._tell(urls, before)
            except Overtaken as error:
                refused = True
                raise error.with_state("The router was left as it is.") from error.__cause__
            finally:
                # Also after a failure: a request whose answer is lost may have been carried out.
                if not refused:
                    on_undo(partial(self._go_back, before, back), where(before))
        self.seen = self.read_back(urls, before)

    def read_back(self, urls: Sequence[str], before: Route | None = None) -> Route:
        """Return the route, which leads to *urls*.

        :raises Overtaken: it leads elsewhere.
        :raises RouterError: the router confirmed a switch that it did not make.
        """
        now = self.look()
        if same_targets(self.own(now), urls):
            return now
        if before is not None and same_targets(self.own(now), self.own(before)):
            raise RouterError(
                f"the router confirmed the change, and yet {where(now)}",
                next_step="Read the router's log.",
            )
        raise Overtaken(
            f"somebody else changed the route meanwhile: {where(now)}, "
            f"not {enumerate_words(urls) or 'removed'}",
            next_step=APART,
        )

    def _tell(self, urls: Sequence[str], now: Route) -> None:
        """Write our part beside what is others'; again if only theirs has changed."""
        self._told = tuple(urls)
        for left in reversed(range(TRIES)):
            whole = self.whole(now, urls)
            try:
                if whole:
                    self.router.switch(self.service, whole)
                else:
                    self.router.remove(self.service)
            except Overtaken:
                was, now = now, self.look()
                if same_targets(self.own(now), urls):
                    return
                # A router that was restarted may not know any more what it was asked to compare.
                same = same_candidate(now.candidate, was.candidate)
                if not left or not same or not same_targets(self.own(now), self.own(was)):
                    raise
            else:
                return

    def _go_back(self, before: Route, back: Back | None) -> str:
        """Undo a write, unless somebody else has written since, and verify what serves then.

        Returns where the traffic goes then. A router that is restarted meanwhile is waited for.
        """
        # One time for all undos: a router that is down for good is waited for once.
        self._back_until = self._back_until or Deadline(BACK_SECONDS)
        now = outlast(
            partial(self._write_back, self.own(before), back),
            AWAY,
            deadline=self._back_until,
            pace=BACK_PACE,
        )
        if self.own(now) and self.serves is not None:
            try:
                self.serves.run()
            except Unhealthy as error:
                raise Unproved(f"{where(now)}, and does not answer: {error.message}") from error
        return where(now)

    def _write_back(self, was: Sequence[str], back: Back | None) -> Route:
        urls = was if back is None else tuple(back())
        now = self.look()
        if not same_targets(self.own(now), urls):
            ours = (self._told, self.own(self.seen))
            # A router that was restarted may have lost it; nobody is hurt if it has it again.
            lost = bool(urls) and not self.own(now)
            if not lost and not any(
                one is not None and same_targets(self.own(now), one) for one in ours
            ):
                raise Overtaken(f"left as it is, since somebody else changed it: {where(now)}")
            if was and not urls:
                raise RouterError(f"nothing is left to go back to, so it was left: {where(now)}")
            self._tell(urls, now)
            now = self.look()
            if not same_targets(self.own(now), urls):
                what = enumerate_words(urls) or "the removal"
                raise RouterError(f"the router did not take {what} back: {where(now)}")
        self.seen = now
        return now

    def may_lead_to(self, urls: Sequence[str]) -> str:
        """Look whether any traffic goes to one of these addresses; return why it may, or nothing.

        An undo asks this before it ends what is reached there.
        """
        if not urls:
            return ""
        try:
            now = self.look()
        except DeliveryError as error:
            return f"the router may still lead to it: {error.message}"
        there = now.urls + (now.candidate.urls if now.candidate is not None else ())
        led = any(same_address(url, one) for url in urls for one in there)
        return "the router still leads to it" if led else ""

    # The candidate

    def candidate(self) -> Candidate | None:
        """Return the candidate as it was last observed or written; None if there is none."""
        return self.seen.candidate if self.seen is not None else None

    def stage(
        self, urls: Sequence[str], weight: int, on_undo: OnUndo, *, verify: bool = True
    ) -> None:
        """Make *urls* the candidate with that share, and verify it by asking for it.

        :raises Overtaken: somebody else was first; nothing was written.
        :raises DeliveryError: the router refused, or the answers are not those expected.
        """
        trial = self._trial
        trial.stage(urls, weight, on_undo)
        self.seen = trial.seen
        if verify:
            trial.prove()

    def unstage(self, on_undo: OnUndo) -> None:
        """Send everything to the live version; raises as ``stage`` does."""
        trial = self._trial
        trial.unstage(on_undo)
        self.seen = trial.seen

    def restage(self, candidate: Candidate) -> None:
        """Make that the candidate again which a switch has ended; raises as ``stage`` does."""
        trial = self._trial
        trial.restage(candidate)
        self.seen = trial.seen

    @property
    def _trial(self) -> Trial:
        seen = self.seen or Route(self.service)
        if self._candidates is None:
            self._candidates = Trial(as_canary(self.router), seen, self.tried)
        self._candidates.seen = seen
        return self._candidates

    def drain(self, timeout: float) -> Drained:
        """Wait until no request is left on a former target, for *timeout* seconds at most."""
        return drain(self.router, self.service, timeout)
