# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The deploy of a service as a change: which function is which step of the plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from dataclasses import replace as changed
from functools import partial
from typing import Any

from ..change import OnUndo, Step, WholeState
from ..engine.health import blaming
from ..engine.inspect import Container
from ..errors import DeliveryError, enumerate_words
from ..routers.base import Candidate, Route, same_address
from ..routers.plan import where
from ..routers.routing import Routing
from . import bring_up, canary, go_back, go_live, replace, staging, testing
from . import plan as steps
from .containers import Engine
from .model import UNPROVED, Member, Observed, Wanted, live, url_at
from .observe import Observer
from .plan import Intent, Plan


class NotAsPlanned(DeliveryError):
    """The state after a deploy is not what was planned."""

    kind = "not_as_planned"


@dataclass
class Deploy:
    """Brings a service to what is wanted; a :class:`Change`.

    :param tests: how candidates are tested; its image is filled in when it is known.
    :param secrets: what must not be shown of a log.
    """

    wanted: Wanted
    observer: Observer
    tests: testing.Tests | None = None
    pull_timeout: float = 600.0
    health_timeout: float = 60.0
    stop_timeout: int = 30
    secrets: Collection[str] = field(default=(), repr=False)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.engine: Engine = self.observer.engine
        self.planned = Plan(Intent())
        self.before = Observed()
        self.said: dict[str, Any] | None = None
        self.downtime = 0.0
        # The new containers by the names that they get once they are proved.
        self.made: dict[str, str] = {}
        # Those of them that have it.
        self.renamed: set[str] = set()
        self.rehearsal = ""
        # The new instances, and those new to the traffic, as they were when they became healthy.
        self.healthy: dict[str, Container] = {}
        # Whether anybody may have come to the new ones by the router.
        self.routed = False
        # Those that an undo left running, since the router may still lead to them.
        self.kept: list[str] = []
        # Who got the traffic back, if that is not who had it before.
        self.back: Sequence[Member] = ()
        # Whether what had the traffic without being proved has it still.
        self.stays = False
        # Whether nobody is left who could serve instead of the new ones.
        self.alone = False
        # Whether it is noted already that the route is to be restored once a holder runs again.
        self.restores_route = False
        self.route: tuple[str, ...] | None = None
        self.candidate: Candidate | None = None
        self._steps: dict[str, Callable[[Deploy, Step, OnUndo], None]] = {
            steps.CLEAR: bring_up.clear,
            steps.PULL: bring_up.pull,
            steps.REVIVE: bring_up.revive,
            steps.REHEARSE: bring_up.rehearse,
            steps.CREATE: bring_up.create,
            steps.START: bring_up.start,
            steps.HEALTH: bring_up.health,
            steps.TEST: bring_up.test,
            steps.REPLACE: replace.replace,
            steps.POLICY: go_live.policy,
            steps.ROUTE: go_live.route,
            steps.UNROUTE: go_live.unroute,
            steps.SOAK: go_live.soak,
            steps.APPROVE: go_live.approve,
            steps.UNSTAGE: staging.unstage,
            canary.MARK: staging.mark,
            canary.STAGE: staging.stage,
        }

    @property
    def routing(self) -> Routing:
        """The service at its router, which only what has one asks for."""
        if self.observer.routing is None:
            raise DeliveryError(f"there is no router of {self.wanted.name}")
        return self.observer.routing

    def observe(self) -> Observed:
        """Look at the engine, the router and the registry."""
        self.before = self.observer.observe()
        self.route, self.candidate = self.before.route, self.before.candidate
        return self.before

    def plan(self, observed: Observed) -> Sequence[Step]:
        """Return the steps up to the switch, and its proof."""
        self.planned = canary.plan_for(observed, self.wanted)
        return self.planned.steps

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step."""
        if step is self.planned.steps[0]:
            on_undo(self._as_before)
            if self.planned.intent.back:
                on_undo(partial(go_back.to_proved, self))
        with blaming(self.engine.client, self.healthy.values(), self.secrets):
            self._steps[step.action](self, step, on_undo)

    def verify(self, observed: Observed, applied: Sequence[Step]) -> Observed:
        """Look whether those that were planned run, and return everything that stands.

        :raises ContainerFailed: a new one has ended, or was started again.
        :raises NotAsPlanned: one of them does not run, for another reason.
        """
        after = self.look()
        if self.wanted.absent:
            return after
        bring_up.look_again(self)
        well = {member.id for member in after.members if member.well}
        if lost := set(self.final_ids()) - well:
            names = [one.name for one in after.members if one.id in lost]
            raise NotAsPlanned(
                f"{enumerate_words(names) or f'an instance of {self.wanted.name}'} is not there "
                "or not healthy any more, though nothing of this deploy touched it",
                next_step="Check whether anything else manages containers on this engine.",
            )
        return after

    def look(self) -> Observed:
        """Return what stands now; the registry and the route's owner are not asked again."""
        now = tuple(self.observer.members())
        return Observed(now, self.route, self.before.release, candidate=self.candidate)

    def describe(self, observed: Observed) -> str:
        """Show the route, the instances that run and what is kept."""
        return self._route_of(observed) + _shown(
            (one.name.removesuffix(UNPROVED), one.status + staging.share(observed, one))
            for one in observed.members
            if not one.helps
        )

    def expected(self, observed: Observed, planned: Sequence[Step]) -> str:
        """Show what will stand."""
        intent = self.planned.intent
        gone = {*intent.remove, *intent.left}
        will = changed(observed, candidate=staging.planned_share(self, observed))
        staged = any(step.action == canary.STAGE for step in self.planned.steps)
        new = "running" + (", candidate with 0 %" if staged else "")
        coming = {member.name: new for member in intent.start}
        coming.update(dict.fromkeys(intent.create, new))
        coming.update({member.name: "exited" for member in intent.stop})
        rest = {
            m.name: m.status + staging.share(will, m)
            for m in observed.members
            if m not in gone and not m.helps
        }
        shown = {**rest, **coming}.items()
        return self._expected_route(observed) + _shown(
            (name.removesuffix(UNPROVED), status) for name, status in shown
        )

    def _route_of(self, observed: Observed) -> str:
        if observed.route is None:
            return ""
        return f"{where(Route(self.wanted.route, observed.route))}\n"

    def _expected_route(self, observed: Observed) -> str:
        intent, port = self.planned.intent, self.wanted.fixed_port
        actions = {step.action for step in self.planned.steps}
        if steps.UNROUTE in actions:
            return self._route_of(changed(observed, route=()))
        if steps.ROUTE not in actions:
            return self._route_of(observed)
        urls = [one.url for one in intent.stay if one.url]
        for name in (*(one.name for one in intent.start), *intent.create):
            # The engine picks a port when it starts a container.
            unknown = f"{name.removesuffix(UNPROVED)} (port not known yet)"
            urls.append(url_at(self.wanted.address, port) if port else unknown)
        return self._route_of(changed(observed, route=tuple(urls)))

    # What the steps share.

    def coming_ids(self) -> list[str]:
        """Return those that are started: new ones, and kept ones again."""
        return [*(member.id for member in self.planned.intent.start), *self.made.values()]

    def final_ids(self) -> list[str]:
        """Return those that stay, start or were made."""
        return [*(member.id for member in self.planned.intent.stay), *self.coming_ids()]

    def _as_before(self) -> str:
        """Say who is live after a failure, and who is the candidate."""
        if self.alone or (self.planned.intent.back and not (self.back or self.stays)):
            return ""
        said, urls = [], []
        for one in self.back or live(self.before):
            url, runs = one.url, one.running or bool(self.back)
            # An engine that was restarted meanwhile has given it another port.
            with suppress(DeliveryError):
                seen = self.engine.inspect(one.id, one.name)
                url, runs = self.observer.url_of(seen) or url, seen.alive
            if runs:
                said.append(f"{one.name} at {url}" if url else one.name)
                urls += [url] if url else []
        if said and (self.kept or self._lead_elsewhere(urls)):
            return f"Runs, maybe without traffic: {enumerate_words(said)}"
        if not said and any(one.running for one in live(self.before)):
            return f"Nothing of {self.wanted.name} runs that was live before"
        if not said:
            text = f"Nothing of {self.wanted.name} is live, as before."
            return "" if self.kept else WholeState(text)
        text = f"{'Live again' if self.back else 'Live as before'}: {enumerate_words(said)}."
        if self.stays:
            text += " It is not proved yet: run this again to have it watched."
        if self.before.candidate is not None:
            tried = self.observer.routing.candidate() if self.observer.routing else None
            has = f"has {tried.weight} % of the clients" if tried else "is not staged any more"
            text += f" The candidate {has}."
        return WholeState(text)

    def _lead_elsewhere(self, urls: Sequence[str]) -> bool:
        """Tell whether the traffic, once it was switched, is not known to have come back."""
        routing = self.observer.routing
        if not self.routed or routing is None or not self.before.route:
            return False
        try:
            now = routing.own(routing.look())
        except DeliveryError:
            return True
        return not any(same_address(url, one) for url in urls for one in now)


def _shown(states: Any) -> str:
    return "".join(f"{name}: {status}\n" for name, status in sorted(states))
