# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The redeploy of a project in its place, by ``recreate`` or ``rolling``, as a change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from ..change import OnUndo, Step
from ..deadline import Deadline, Pace, wait_for
from ..engine.inspect import Container, inspect
from ..engine.parallel import patiently, together
from ..errors import DeliveryError, TimeoutExceeded, enumerate_words
from .containers import Containers
from .engine_state import GRACE, Instance, instances
from .networks import network_ids, remove_networks
from .plan import (
    CREATE,
    FILL,
    RENAME,
    REPLACE,
    RETIRE,
    ROUTE,
    START,
    State,
    Wanted,
    decide,
    describe,
    expected,
    plan,
)
from .routing import ProjectRouting

SETTLE_PACE = Pace(interval=0.5, first=0.0)


class NotReached(DeliveryError):
    """What stands in the end is not what was planned."""

    kind = "not_reached"


class RedeployChange:
    """Bring the containers of a project to what is wanted.

    The former containers are stopped and stand until :meth:`clean_up`, which follows the change.
    """

    def __init__(
        self, containers: Containers, wanted: Wanted, routing: ProjectRouting | None = None
    ) -> None:
        self.containers = containers
        self.client = containers.client
        self.wanted = wanted
        self.routing = routing
        self.before = State()
        self.made: dict[str, list[str]] = {}
        # The containers of each routed service that shall have the traffic at this moment.
        self.serving: dict[str, list[str]] = {}
        self.left: list[str] = []

    def observe(self) -> State:
        """Ask the engine, and the router; containers that are just starting are waited for."""
        self.before = self._look(self._observe_route)
        decisions = decide(self.wanted, self.before)
        self.serving = {
            name: [one.id for one in decision.keep]
            + [one.id for one in decision.serving if one.container.well]
            for name, decision in decisions.items()
        }
        return self.before

    def _observe_route(self, name: str) -> Sequence[str]:
        return (self.routing.of(name).observe() or ()) if self.routing is not None else ()

    def _look_at_route(self, name: str) -> Sequence[str]:
        return self.routing.of(name).look().urls if self.routing is not None else ()

    def _look(self, route: Callable[[str], Sequence[str]]) -> State:
        seen = State(self._settled())
        if self.routing is None:
            return seen
        astray = set()
        for name in self.wanted.routed:
            # Those that are to be replaced have the traffic until they are.
            ones = [one.container for one in seen.of(name) if one.container.well]
            if not self.routing.leads_to(name, ones, route(name)):
                astray.add(name)
        return replace(seen, astray=frozenset(astray))

    def _settled(self) -> dict[str, list[Instance]]:
        """Return the containers, once those that would be kept are no longer starting."""
        found: dict[str, list[Instance]] = {}

        def look() -> bool | None:
            nonlocal found
            found = instances(self.client, self.wanted.project.name)
            decisions = decide(self.wanted, State(found))
            return None if any(one.starting for d in decisions.values() for one in d.keep) else True

        with suppress(TimeoutExceeded):
            wait_for(
                look,
                deadline=Deadline(self.containers.wait_timeout),
                pace=SETTLE_PACE,
                what="the containers to be healthy",
            )
        return found

    def plan(self, observed: State) -> Sequence[Step]:
        """Return the steps."""
        return plan(self.wanted, observed)

    def describe(self, observed: State) -> str:
        """Show what stands."""
        return describe(observed)

    def expected(self, observed: State, steps: Sequence[Step]) -> str:
        """Show what will stand."""
        return expected(self.wanted, observed)

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step."""
        act: Callable[[Mapping[str, Any], OnUndo], None] | None = {
            CREATE: self._create,
            FILL: self._fill,
            REPLACE: self._replace,
            START: self._start,
            RETIRE: self._retire,
            ROUTE: self._route,
            RENAME: self._rename,
        }.get(step.action)
        # The former containers are removed once nothing can fail any more: see clean_up.
        if act is not None:
            act(step.detail, on_undo)

    def _create(self, detail: Mapping[str, Any], on_undo: OnUndo) -> None:
        there = {one.id for ones in self.before.instances.values() for one in ones}
        networks = network_ids(self.client, self.wanted.project.name)
        names = {name for wave in detail["waves"] for name in wave}

        def undo() -> None:
            now = patiently(instances, self.client, self.wanted.project.name)
            fresh = [one.id for n in names for one in now.get(n, ()) if one.id not in there]
            for container_id in fresh:
                patiently(self.containers.remove, container_id)
            patiently(remove_networks, self.client, self.wanted.project.name, networks)

        on_undo(undo, "the new containers were removed")
        decisions = decide(self.wanted, self.before)
        references = {
            name: decision.keep[0].id for name, decision in decisions.items() if decision.keep
        }
        leaving = {name: [one for one, _why in d.olds] for name, d in decisions.items()}
        for wave in detail["waves"]:
            made = self.containers.create(wave, references, leaving)
            for name, ids in made.items():
                self.made[name] = ids
                references.setdefault(name, ids[0])

    def _fill(self, detail: Mapping[str, Any], _on_undo: OnUndo) -> None:
        ids = [(name, one) for name in detail["services"] for one in self.made[name]]
        for name, container_id in ids:
            self.containers.start(container_id, name)
        self.containers.wait([one for _name, one in ids], ends=[one for _name, one in ids])

    def _replace(self, detail: Mapping[str, Any], on_undo: OnUndo) -> None:
        services: Mapping[str, Mapping[str, Any]] = detail["services"]
        former = {one.id: one for ones in self.before.instances.values() for one in ones}

        def undo() -> None:
            back = [former[one] for name in services for one in services[name]["stop"]]
            together(partial(self._put_back, name, services[name]["stop"]) for name in services)
            well = [one.id for one in back if one.container.well]
            if well:
                self.containers.wait(well)

        names = [former[one].name for name in services for one in services[name]["stop"]]
        stands = f"{enumerate_words(names)} {'serves' if len(names) == 1 else 'serve'} again"
        on_undo(undo, stands if names else "nothing was running before")
        together(partial(self._swap, name, services[name]["stop"]) for name in services)
        ids = [one for name in services for one in self.made.get(name, ())]
        ends = [
            one
            for name in services
            for one in self.made.get(name, ())
            if self.wanted.project.services[name].ends
        ]
        self.containers.wait(ids, ends=ends)

    def _swap(self, name: str, stop: Sequence[str]) -> None:
        """Stop a service's former containers and start the new ones: it is down meanwhile."""
        former = {one.id: one for one in self.before.of(name)}
        leaving = [former[container_id] for container_id in stop]
        together(partial(self.containers.stop, one.id, one.grace, one.name) for one in leaving)
        wanted_name = self.wanted.project.services[name].container_name
        made = self.made.get(name, ())
        if wanted_name and made:
            for one in former.values():
                if one.name == wanted_name:
                    self.containers.rename(one.id, f"{wanted_name}_{one.id[:12]}")
            self.containers.rename(made[0], wanted_name)
        together(partial(self.containers.start, one, name) for one in made)

    def _put_back(self, name: str, stop: Sequence[str]) -> None:
        """Undo :meth:`_swap`: the very same containers as before serve again."""
        for container_id in self.made.get(name, ()):
            patiently(self._end, container_id)
        former = {one.id: one for one in self.before.of(name)}
        for one in former.values():
            patiently(self.containers.rename, one.id, one.name)
        for container_id in stop:
            one = former[container_id]
            patiently(self.containers.start, one.id, one.name)

    def _end(self, container_id: str) -> None:
        """Stop a new container and give up its name."""
        seen = inspect(self.client, container_id)
        self.containers.stop(container_id, GRACE, seen.name)
        service = seen.labels.get("com.docker.compose.service", "")
        wanted = self.wanted.project.services.get(service)
        if wanted is not None and wanted.container_name == seen.name:
            self.containers.rename(container_id, f"{seen.name}_{container_id[:12]}")

    def _start(self, detail: Mapping[str, Any], on_undo: OnUndo) -> None:
        name = detail["service"]
        new = self.made[name][detail["slot"]]
        service = self.wanted.project.services[name]

        def undo() -> None:
            self._drain(name)
            patiently(self.containers.stop, new, GRACE, name)

        on_undo(undo, f"the new container of {name} was stopped")
        self.containers.start(new, name)
        routing = self.routing if name in self.wanted.routed else None
        check = None
        if routing is not None and routing.checks.health_path:
            check = partial(routing.check, name)
        self.containers.wait([new], ends=[new] if service.ends else [], look_further=check)
        self._serve(name, [*self.serving.get(name, ()), new], on_undo)

    def _retire(self, detail: Mapping[str, Any], on_undo: OnUndo) -> None:
        name, container_id = detail["service"], detail["id"]
        one = next(one for one in self.before.of(name) if one.id == container_id)
        self._serve(name, [other for other in self.serving[name] if other != one.id], on_undo)
        self._drain(name)

        def undo() -> None:
            patiently(self.containers.start, one.id, one.name)
            if one.container.well:
                self.containers.wait([one.id])

        on_undo(undo, f"{one.name} serves again")
        self.containers.stop(one.id, one.grace, one.name)

    def _route(self, detail: Mapping[str, Any], on_undo: OnUndo) -> None:
        name = detail["service"]
        decision = decide(self.wanted, self.before)[name]
        ids = [one.id for one in decision.keep] + self.made.get(name, [])
        self._serve(name, ids, on_undo)
        self._drain(name)

    def _serve(self, name: str, ids: list[str], on_undo: OnUndo) -> None:
        """Send the service's traffic to these containers."""
        self.serving[name] = ids
        routing = self.routing
        if routing is None or name not in self.wanted.routed:
            return
        one_routing = routing.of(name)
        before = one_routing.seen.urls if one_routing.seen is not None else ()
        there = routing.known(name, [one.container for one in self.before.of(name)])
        there.update(routing.known(name, self._seen(self.made.get(name, ()))))

        def back() -> list[str]:
            # One that was stopped and started since has another port now.
            return [self._url(name, there[url]) if url in there else url for url in before]

        one_routing.switch([self._url(name, one) for one in ids], on_undo, back=back)

    def _url(self, name: str, container_id: str) -> str:
        if self.routing is None:
            return ""
        return self.routing.url(name, patiently(inspect, self.client, container_id))

    def _seen(self, ids: Sequence[str]) -> list[Container]:
        return [inspect(self.client, container_id) for container_id in ids]

    def _drain(self, name: str) -> None:
        if self.routing is not None and name in self.wanted.routed:
            self.routing.drain(name)

    def _rename(self, detail: Mapping[str, Any], on_undo: OnUndo) -> None:
        for ones in self.before.instances.values():
            for one in ones:
                if one.name == detail["name"] and one.id != detail["id"]:
                    self.containers.rename(one.id, f"{one.name}_{one.id[:12]}")
        on_undo(lambda: self.containers.rename(detail["id"], detail["was"]))
        self.containers.rename(detail["id"], detail["name"])

    def verify(self, observed: State, applied: Sequence[Step]) -> State:
        """Look again: all that is wanted is there and well, and only former ones are beside it.

        :raises NotReached: it is not.
        """
        after = self._look(self._look_at_route)
        former = {one.id for d in decide(self.wanted, observed).values() for one, _why in d.olds}
        for name, decision in decide(self.wanted, after).items():
            strange = [why for one, why in decision.olds if one.id not in former]
            if decision.news or strange:
                raise NotReached(
                    f"{name} does not stand as it should: "
                    + (enumerate_words(strange) or f"{decision.news} container(s) are missing"),
                    next_step="See whether somebody else works on the same containers.",
                )
        self._check_mounts(after)
        kept = decide(self.wanted, after)
        return replace(after, instances={name: kept[name].keep for name in kept})

    def _check_mounts(self, after: State) -> None:
        """Make sure that who mounts another container's volumes has those of the new one.

        :raises NotReached: a container has others.
        """
        for name, decision in decide(self.wanted, after).items():
            for one in decision.keep:
                has = {mount.name for mount in one.mounts}
                for source in self.wanted.project.services[name].volumes_from:
                    for other in after.of(source):
                        lacks = {mount.name for mount in other.mounts} - has
                        if other.id in one.volumes_from and lacks:
                            raise NotReached(
                                f"{one.name} does not mount all volumes of {other.name}"
                            )

    def clean_up(self) -> None:
        """Remove the former containers; what cannot be removed is for the next run."""
        decisions = decide(self.wanted, State(instances(self.client, self.wanted.project.name)))
        olds = [one for decision in decisions.values() for one, _why in decision.olds]
        # Those that mount others' volumes first, so that these go with their own containers.
        for one in sorted(olds, key=lambda one: not one.volumes_from):
            try:
                self.containers.remove(one.id)
            except DeliveryError as error:
                self.left.append(f"the former container {one.name} is left: {error.message}")
