# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The repair of a service: the steps of the plan.

A deploy that fails is taken back; of a repair only new containers are, that did not become healthy.
What was started again stays, and traffic that was taken from where nobody answers is not sent there
again: the next run goes on from what stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from ..change import OnUndo, Step, Undo, undoing
from ..deadline import Deadline, Pace, wait_for
from ..engine.health import ContainerFailed, wait_well
from ..engine.inspect import SECOND, Container, container_of
from ..errors import DeliveryError, TimeoutExceeded, enumerate_words
from ..http import Http
from ..probe import Expectation, Unhealthy, shortcoming, wait_healthy
from ..routers.base import Router, same_targets
from ..routers.peers import Share
from ..routers.routing import Routing
from . import heal_plan as steps
from .containers import Engine
from .heal_engine import Ward
from .heal_model import Condition, Instance, Standing, instance_of
from .heal_plan import Plan, plan
from .model import SPARE, UNPROVED, url_at
from .observe import know_hosts

# One answer that is late is no reason to replace an instance; this many seconds of none are.
PATIENCE = 5.0
ASKING = Pace(interval=1.0, first=0.0)
PACE = Pace(interval=0.25, first=0.0, growth=1.5)
# What only a deploy makes counts as left behind once it is older, in seconds.
UNDER_WAY = 900.0


class NotHealed(DeliveryError):
    """What stands after a repair is still not what should."""

    kind = "not_healed"


def _never(undo: Undo, state: str = "") -> None:
    """Take note of nothing: a route to where nobody answers is not put back."""


@dataclass
class Heal:
    """Brings a service back to what should stand; a :class:`Change`.

    :param address: the host name under which published ports are reached.
    :param router: where the service is registered; None where there is none.
    :param count: how many instances there should be; None for as many as there were.
    :param health_path: asked of each instance; empty for what the engine's own check says.
    :param exclusive: whether no deploy can be under way, since a lock keeps it out.
    """

    service: str
    ward: Ward
    address: str
    router: Router | None = None
    count: int | None = None
    health_path: str = ""
    health_timeout: float = 60.0
    exclusive: bool = False
    away: str = ""
    planned: Plan = field(default_factory=Plan)

    def __post_init__(self) -> None:
        self.engine = Engine(self.ward.client)
        # The new containers by the names that they get once they are healthy.
        self.made: dict[str, str] = {}
        self.routing: Routing | None = None
        self.routed: tuple[str, ...] = ()
        self._steps: dict[str, Callable[[OnUndo], None]] = {
            steps.SHED: self._shed,
            steps.WAKE: self._wake,
            steps.CREATE: self._create,
            steps.HEALTH: self._health,
            steps.POLICY: self._policy,
            steps.APPROVE: self._approve,
            steps.ROUTE: self._route,
            steps.REMOVE: self._remove,
            steps.KEEP: self._keep,
        }

    def observe(self) -> Standing:
        """Look at the engine, at the router, and ask the instances."""
        now = self.ward.now()
        found = []
        containers = self.ward.services().get(self.service, ())
        for attributes in containers:
            one = instance_of(attributes, self.address, now)
            if self.health_path and one.url and one.up and not one.helps:
                one = instance_of(attributes, self.address, now, self._ill(one))
            found.append(one)
        standing = Standing(self.service, tuple(found), count=self.count)
        share = Share({self.address})
        know_hosts(share, [container_of(attributes) for attributes in containers])
        route = self._observe_route(standing.routed_as, share)
        tried = self._tried()
        named = (*(route or ()), *tried)
        found = [one for one in found if not one.among(tried)]
        lately = any(
            now - one.created < UNDER_WAY * SECOND
            for one in found
            if one.coming and not one.among(named)
        )
        under_way = lately and not self.exclusive
        return Standing(self.service, tuple(found), route, self.count, under_way)

    def _observe_route(self, name: str, share: Share) -> tuple[str, ...] | None:
        if self.router is None or not name:
            return None
        # Where it is away the containers are repaired all the same.
        self.routing = Routing(self.router, name, required=False, share=share)
        route = self.routing.observe()
        self.away = self.routing.away
        self.routed = route or ()
        return route

    def _tried(self) -> tuple[str, ...]:
        """Return where the candidate is; it is for whoever tries it to look after."""
        candidate = self.routing.candidate() if self.routing else None
        return candidate.urls if candidate else ()

    def _ill(self, one: Instance) -> str:
        """Ask an instance, patiently; return what is wrong with its answers."""
        http, expected = Http(one.url or ""), Expectation(self.health_path)
        if one.condition is Condition.STARTING:
            return shortcoming(http, expected, Deadline(PATIENCE))
        try:
            wait_healthy(http, expected, deadline=Deadline(PATIENCE), pace=ASKING)
        except Unhealthy as error:
            return error.message
        return ""

    def plan(self, observed: Standing) -> Sequence[Step]:
        """Return the steps."""
        self.planned = plan(observed)
        return self.planned.steps

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step."""
        self._steps[step.action](on_undo)

    def verify(self, observed: Standing, applied: Sequence[Step]) -> Standing:
        """Look again whether there is nothing left to repair.

        :raises NotHealed: there is.
        """
        after = self.observe()
        left = plan(after)
        if left.steps:
            found = "; ".join(left.findings) or left.steps[0].summary
            raise NotHealed(
                f"{self.service} is still not as it should be: {found}",
                next_step="Read the log of its containers, then run this again.",
            )
        return after

    def describe(self, observed: Standing) -> str:
        """Show each container and the route."""
        lines = [f"{one.name}: {one.says}" for one in observed.found if one.helps != SPARE]
        spares = [f"{one.name}: spare" for one in observed.found if one.helps == SPARE]
        route = [f"{observed.routed_as}: {url}" for url in observed.route or ()]
        return "".join(f"{line}\n" for line in sorted(lines + spares) + sorted(route))

    def expected(self, observed: Standing, steps_: Sequence[Step]) -> str:
        """Show the same with what is planned."""
        planned = "".join(f"would {step.summary}\n" for step in steps_)
        return self.describe(observed) + planned

    # The steps, in their order.

    def _shed(self, on_undo: OnUndo) -> None:
        self._send(self.planned.intent.shed)

    def _wake(self, on_undo: OnUndo) -> None:
        for one in self.planned.intent.wake:
            self.ward.wake(one.id)
            self.engine.make_live(one.id)

    def _create(self, on_undo: OnUndo) -> None:
        intent = self.planned.intent
        if intent.template is None:
            return
        with self._discarding():
            for name in intent.create:
                # Noted first: a request whose answer is lost may have been carried out.
                self.made[name] = f"{name.removesuffix(UNPROVED)}{UNPROVED}"
                made = self.ward.make_like(intent.template.id, self.made[name], intent.count)
                self.made[name] = made
                self.engine.start(made)

    @contextmanager
    def _discarding(self) -> Iterator[None]:
        """Remove the new containers where they fail before they have any traffic."""
        with undoing(self._discard):
            yield

    def _discard(self) -> str:
        said = []
        for name, container in self.made.items():
            try:
                self.engine.remove(container)
            except DeliveryError as error:
                said.append(f"{name} could not be removed ({error.message}).")
            else:
                said.append(f"{name} was removed again.")
        return " ".join(said)

    def _health(self, on_undo: OnUndo) -> None:
        intent = self.planned.intent
        waiting = [one for one in intent.stay if one.condition is Condition.STARTING]
        ids = [*(one.id for one in (*waiting, *intent.wake)), *self.made.values()]
        deadline = Deadline(self.health_timeout)
        self._forget_pauses(deadline)
        with self._discarding():
            try:
                wait_well(
                    self.ward.client,
                    ids,
                    deadline,
                    secrets=set().union(*(self.ward.secrets(one) for one in ids)),
                    look_further=self._shortcoming if self.health_path else None,
                    checks=not self.health_path,
                    pace=PACE,
                )
            except ContainerFailed as error:
                error.next_step = "Mend what its log says; the next run goes on from what stands."
                raise

    def _forget_pauses(self, deadline: Deadline) -> None:
        """Wait for a check since the pause: those during it could only fail."""

        def look() -> bool | None:
            seen = [self.engine.inspect(one.id) for one in paused]
            return None if any(one.health == "unhealthy" for one in seen) else True

        paused = [one for one in self.planned.intent.wake if one.condition is Condition.PAUSED]
        # Whether they are healthy is for the wait that follows to say.
        with suppress(TimeoutExceeded):
            wait_for(look, deadline=deadline, pace=PACE, what="their health checks")

    def _shortcoming(self, seen: Container) -> str:
        port = next((ports[0] for ports in seen.ports.values() if ports), None)
        if port is None:
            return "publishes no port"
        http = Http(url_at(self.address, port))
        return shortcoming(http, Expectation(self.health_path), Deadline(PATIENCE))

    def _policy(self, on_undo: OnUndo) -> None:
        for one in self.planned.intent.stay:
            self.engine.make_live(one.id)

    def _approve(self, on_undo: OnUndo) -> None:
        for name, container in self.made.items():
            self.engine.make_live(container)
            # What was not proved before is not proved by being repaired.
            self.engine.rename(container, name)

    def _route(self, on_undo: OnUndo) -> None:
        now = self.ward.now()
        final = [instance_of(self.ward.look(one), self.address, now) for one in self._final()]
        # One may have ended and been started again since it was seen healthy.
        lost = enumerate_words(f"{one.name} {one.says}" for one in final if not self._fit(one))
        if lost:
            raise NotHealed(
                f"the router was left as it is, since {lost}", next_step="Run this again."
            )
        self._send([one.url for one in final if one.url])

    def _fit(self, one: Instance) -> bool:
        """Tell whether an instance can have traffic now."""
        if one.url is None or not one.up:
            return False
        return one.condition is Condition.WELL or bool(self.health_path and not self._ill(one))

    def _remove(self, on_undo: OnUndo) -> None:
        for one in self.planned.intent.replaced:
            # It may hang, and is removed by force then.
            with suppress(DeliveryError):
                self.ward.stop(one.id)
            self.engine.remove(one.id)

    def _keep(self, on_undo: OnUndo) -> None:
        intent = self.planned.intent
        template = next(iter(self._final()), None)
        if intent.keep and template is not None:
            name = f"{self.service}-{intent.release}.{SPARE}"
            for old in intent.outdated:
                if old.name == name:
                    self.engine.remove(old.id)
            self.ward.make_like(template, name, intent.count, SPARE)
        for old in intent.outdated:
            with suppress(DeliveryError):
                self.engine.remove(old.id)

    # What the steps share.

    def _final(self) -> list[str]:
        intent = self.planned.intent
        return [*(one.id for one in (*intent.stay, *intent.wake)), *self.made.values()]

    def _send(self, urls: Sequence[str]) -> None:
        """Send the traffic to *urls*, all of which are well."""
        routing = self.routing
        if routing is None or routing.away or not urls or same_targets(urls, self.routed):
            return
        candidate = routing.candidate()
        routing.switch(urls, _never)
        if candidate is not None:
            # A switch ends it, which is not what somebody who tries it asked for.
            routing.restage(candidate)
        self.routed = tuple(urls)
