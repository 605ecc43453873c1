# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The redeploy of a project in its place, by ``recreate`` or ``rolling``, as a change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from ..change import OnUndo, Step
from ..deadline import Deadline, Pace, wait_for
from ..engine.containers import NO_RESTART
from ..engine.errors import Missing
from ..engine.health import SETTLE, check_unchanged, soak
from ..engine.inspect import Container
from ..engine.parallel import patiently, together
from ..errors import TimeoutExceeded
from .containers import Containers
from .decision import Decision, State, Wanted, decide
from .diff import describe, expected
from .engine_state import Instance, instances
from .holders import foreign_holders
from .naming import Slot, aside, slots
from .networks import missing, network_ids, remove_networks
from .plan import CREATE, FILL, POLICY, RENAME, REPLACE, RETIRE, ROUTE, SOAK, START, plan
from .put_back import Progress, PutBack
from .reached import check_reached
from .routing import ProjectRouting
from .superseded import Removed, remove_former
from .traffic import Traffic

SETTLE_PACE = Pace(interval=0.5, first=0.0)


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
        self.before = State()
        self.decisions: dict[str, Decision] = {}
        self.progress = Progress()
        self.traffic = Traffic(self.client, routing, wanted.routed)
        self.put_back = PutBack(containers, wanted, self.traffic, self.progress)
        # The containers of each routed service that shall have the traffic at this moment.
        self.serving: dict[str, list[str]] = {}
        self.removed = Removed()

    def observe(self) -> State:
        """Ask the engine, and the router; containers that are just starting are waited for."""
        seen = self._look(self.traffic.observe)
        foreign = foreign_holders(self.containers, self.wanted, seen)
        to_make = missing(self.client, self.wanted.project)
        self.before = replace(seen, foreign=foreign, missing=to_make)
        self.put_back.former = {one.id: one for ones in seen.instances.values() for one in ones}
        self.decisions = decide(self.wanted, self.before)
        for name, decision in self.decisions.items():
            well = [one.id for one in decision.alive if one.container.well]
            self.serving[name] = [one.id for one in decision.keep] + well
            self.progress.healthy.update({one.id: one for one in self._unproved(name)})
        return self.before

    def _unproved(self, name: str) -> list[Container]:
        """Return those that are kept of a run that was killed before it had watched them."""
        decision = self.decisions[name]
        if decision.proved or self.wanted.project.services[name].ends:
            return []
        return [one.container for one in decision.keep]

    def _look(self, route: Callable[[str, Sequence[Instance]], Sequence[str]]) -> State:
        seen = State(self._settled())
        routing = self.traffic.routing
        if routing is None:
            return seen
        astray = set()
        for name in self.wanted.routed:
            # Those that are to be replaced have the traffic until they are.
            ones = [one.container for one in seen.of(name) if one.container.well]
            if not routing.leads_to(name, ones, route(name, seen.of(name))):
                astray.add(name)
        return replace(seen, astray=frozenset(astray))

    def _settled(self) -> dict[str, list[Instance]]:
        """Return the containers, once those that would be kept are no longer starting."""
        found: dict[str, list[Instance]] = {}

        def look() -> bool | None:
            nonlocal found
            found = self.containers.look()
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
            POLICY: self._policy,
            REPLACE: self._replace,
            START: self._start,
            RETIRE: self._retire,
            ROUTE: self._route,
            RENAME: self._rename,
            SOAK: self._soak,
        }.get(step.action)
        # The former containers are removed once nothing can fail any more: see clean_up.
        if act is not None:
            act(step.detail, on_undo)

    def _create(self, detail: Mapping[str, Any], on_undo: OnUndo) -> None:
        there = {one.id for ones in self.before.instances.values() for one in ones}
        networks = network_ids(self.client, self.wanted.project.name)
        names = {name for wave in detail["waves"] for name in wave}
        self._note_resting(sorted(names))
        if self.progress.stopped:
            on_undo(self.put_back)

        def undo() -> str:
            now = patiently(instances, self.client, self.wanted.project.name)
            fresh = {one.id for n in names for one in now.get(n, ()) if one.id not in there}
            for container_id in fresh - self.put_back.left:
                patiently(self.containers.remove, container_id)
            if self.put_back.left:
                return ""
            patiently(remove_networks, self.client, self.wanted.project.name, networks)
            return "The new containers were removed"

        on_undo(undo)
        references = {name: d.first for name, d in self.decisions.items() if d.first}
        for wave in detail["waves"]:
            places = {name: self._slots(name, count) for name, count in wave.items()}
            for name, ones in self.containers.create(places, references).items():
                ids = [one.id for one in ones]
                self.progress.made[name] = ids
                self.progress.names.update({one.id: one.name for one in ones})
                references.setdefault(name, min(ones, key=lambda one: one.name).id)
                for container_id in ids:
                    self.progress.own[container_id] = self.containers.inspect(container_id).restart
                    self.containers.set_restart(container_id, NO_RESTART, name)

    def _slots(self, name: str, count: int) -> list[Slot]:
        decision = self.decisions[name]
        found = slots(decision.keep, [one for one, _why in decision.olds], count)
        if self.wanted.rolls(name):
            # Nobody takes over the volumes of one that runs beside it.
            return [Slot(one.number) for one in found]
        return found

    def _note_resting(self, names: Iterable[str]) -> None:
        """Note whom a killed run has stopped and not replaced: an undo starts them again."""
        for name in names:
            rolling = self.wanted.rolls(name)
            service, decision = self.wanted.project.services[name], self.decisions[name]
            resting, running = decision.stopped_midway(service), list(decision.running)
            if rolling:
                # The others of them had been replaced, one by one.
                lacking = service.scale - sum(one.container.well for one in running)
                resting = resting[: max(0, lacking)]
            if not resting:
                continue
            if not rolling:
                self.progress.unproved |= decision.replacing(resting)
            for one in resting:
                self.progress.stop(one, service.restart)
            if name in self.traffic.former:
                stay = [one.id for one in running if one.container.well]
                self.traffic.former[name] = [
                    *(one for one in stay if one not in self.progress.unproved),
                    *(one.id for one in resting),
                ]

    def _fill(self, detail: Mapping[str, Any], on_undo: OnUndo) -> None:
        on_undo(self.put_back.restore_names)
        for name in detail["services"]:
            self._take_names(name, self.progress.made[name])
            for container_id in self.progress.made[name]:
                self._run(name, container_id, live=True)
        self._wait(detail["services"])

    def _run(self, name: str, container_id: str, *, live: bool) -> None:
        """Start a new container, to be restarted by the engine if it is live."""
        self.progress.started.add(container_id)
        restart = self.progress.own[container_id] if live else NO_RESTART
        self.containers.start(container_id, name, restart=restart)

    def _wait(self, names: Sequence[str]) -> None:
        """Wait until the new containers of these services are healthy."""
        self._wait_for([(name, one) for name in names for one in self.progress.made.get(name, ())])

    def _wait_for(
        self,
        ones: Sequence[tuple[str, str]],
        look_further: Callable[[Container], str] | None = None,
    ) -> None:
        ids = [container_id for _name, container_id in ones]
        ends = [one for name, one in ones if self.wanted.project.services[name].ends]
        restarting = [one for one in ids if self.progress.own[one] != NO_RESTART]
        seen = self.containers.wait(
            ids,
            ends=ends,
            look_further=look_further,
            restarting=set(restarting) - set(ends),
            patient=self._patient(ones),
        )
        self.progress.healthy.update({one.id: one for one in seen if one.id not in ends})

    def _patient(self, ones: Sequence[tuple[str, str]]) -> list[str]:
        """Return those that may end again and again until another new one is ready for them.

        When one that has no health check is ready, nobody can tell. One whose service has run up to
        now waits for what it is said to depend on alone: the rest has been there before.
        """
        unchecked = {
            name
            for name, made in self.progress.made.items()
            if not self.wanted.project.services[name].ends
            and any(not self.containers.inspect(one).checked for one in made)
        }
        patient = []
        for name, one in ones:
            others = unchecked - {name}
            if self.decisions[name].alive:
                others &= self.wanted.project.needs([name])
            patient += [one] if others else []
        return patient

    def _policy(self, detail: Mapping[str, Any], _on_undo: OnUndo) -> None:
        for container_id, policy in detail["policies"].items():
            self.containers.set_restart(container_id, policy)

    def _replace(self, detail: Mapping[str, Any], on_undo: OnUndo) -> None:
        names = [name for group in detail["groups"] for name in group["start"]]
        on_undo(self.put_back)
        together(partial(self._swap, group) for group in detail["groups"])
        self._wait(names)

    def _swap(self, group: Mapping[str, Sequence[str]]) -> None:
        """Stop former containers and start new ones: their services are down meanwhile."""
        self._stop_former([self.put_back.former[one] for one in group["stop"]])
        for name in group["start"]:
            self._take_names(name, self.progress.made.get(name, ()))
        together(
            partial(self._run, name, one, live=True)
            for name in group["start"]
            for one in self.progress.made.get(name, ())
        )

    def _stop_former(self, ones: Sequence[Instance]) -> None:
        for one in ones:
            if one.id in self.progress.unproved:
                self.progress.halted.add(one.id)
            else:
                self.progress.stop(one)
        together(partial(self.containers.stop_live, one) for one in ones)

    def _take_names(self, service: str, ids: Iterable[str]) -> None:
        """Give new containers their names, but for those that a former one has which still runs."""
        static = self.wanted.project.services[service].static
        for container_id in ids:
            name = self.progress.names[container_id]
            try:
                holder = self.containers.inspect(name)
            except Missing:
                holder = None
            if static or holder is None or holder.name != name or not holder.alive:
                self._take_name(container_id, name)

    def _take_name(self, container_id: str, name: str) -> None:
        """Give a container a name, and another one to that of the project which has it."""
        with suppress(Missing):
            holder = self.containers.inspect(name)
            # A name may also be the beginning of another's id.
            other = holder.name == name and holder.id != container_id
            if other and holder.id in self.put_back.former:
                self.containers.rename(holder.id, aside(name, holder.id))
        self.containers.rename(container_id, name)

    def _start(self, detail: Mapping[str, Any], on_undo: OnUndo) -> None:
        name = detail["service"]
        new = self.progress.made[name][detail["slot"]]
        service = self.wanted.project.services[name]
        on_undo(self.put_back)
        self._run(name, new, live=service.ends)
        self._wait_for([(name, new)], self.traffic.check(name))
        if not service.ends:
            soak(self.client, [self.progress.healthy[new]], SETTLE)
            self.containers.set_restart(new, self.progress.own[new], name)
        self._serve(name, [*self.serving.get(name, ()), new], on_undo)
        self._take_names(name, [new])

    def _retire(self, detail: Mapping[str, Any], on_undo: OnUndo) -> None:
        name, container_id = detail["service"], detail["id"]
        one = self.put_back.former[container_id]
        on_undo(self.put_back)
        self._serve(name, [other for other in self.serving[name] if other != one.id], on_undo)
        self.traffic.drain(name)
        self._stop_former([one])
        made = self.progress.made.get(name, ())
        self._take_names(name, [new for new in made if self.progress.names.get(new) == one.name])

    def _route(self, detail: Mapping[str, Any], on_undo: OnUndo) -> None:
        name = detail["service"]
        on_undo(self.put_back)
        ids = [one.id for one in self.decisions[name].keep] + self.progress.made.get(name, [])
        self._serve(name, ids, on_undo)
        # In lock-step, former ones that still run are drained before they are stopped.
        if not self.wanted.rolls(name):
            self.traffic.drain(name)

    def _serve(self, name: str, ids: list[str], on_undo: OnUndo) -> None:
        """Send the service's traffic to these containers."""
        self.traffic.send(name, ids, self.progress.healthy, on_undo)
        self.serving[name] = ids

    def _rename(self, detail: Mapping[str, Any], on_undo: OnUndo) -> None:
        on_undo(self.put_back.restore_names, f"{detail['was']} has its name back")
        self._take_name(detail["id"], detail["name"])

    def _soak(self, detail: Mapping[str, Any], on_undo: OnUndo) -> None:
        services: Mapping[str, Sequence[str]] = detail["services"]
        for name, back in detail["back"].items():
            self._let_go_back(name, services[name], back, on_undo)
        on_undo(self.put_back)
        ids = [one for name in services for one in self.progress.made.get(name, ())]
        ids += [one for kept in services.values() for one in kept]
        healthy = self.progress.healthy
        soak(
            self.client,
            [healthy[one] for one in dict.fromkeys(ids) if one in healthy],
            self.wanted.soak,
            ask=partial(self.traffic.ask, list(services)),
        )

    def _let_go_back(
        self, name: str, kept: Sequence[str], back: Sequence[str], on_undo: OnUndo
    ) -> None:
        """Note that those which a killed run left serve again if the one it started is no good."""

        def remove() -> str:
            ids = set(kept) & self.progress.unproved - self.put_back.left
            if self.put_back.failed:
                return ""
            for one in ids:
                patiently(self.containers.remove, one)
            return f"The new containers of {name} were removed" if ids else ""

        on_undo(remove)
        self.progress.made[name] = list(kept)
        self.progress.started.update(kept)
        self.progress.unproved.update(kept)
        former = [self.put_back.former[one] for one in back]
        for one in former:
            if not one.container.alive:
                self.progress.stop(one, self.wanted.project.services[name].restart)
        if self.traffic.former.get(name):
            self.traffic.former[name] = list(back)
            self.traffic.written.add(name)

    def verify(self, observed: State, applied: Sequence[Step]) -> State:
        """Look again: all that is wanted is there and well, and only former ones are beside it.

        :raises DeliveryError: it is not.
        """
        check_unchanged(self.client, list(self.progress.healthy.values()))
        after = self._look(lambda name, _ones: self.traffic.look(name))
        former = {one.id for d in self.decisions.values() for one, _why in d.olds}
        return check_reached(self.wanted, former, after)

    def clean_up(self) -> None:
        """Remove the former containers; what cannot be removed is for the next run."""
        decisions = decide(self.wanted, State(self.containers.look()))
        olds = [one for decision in decisions.values() for one, _why in decision.olds]
        services = self.wanted.project.services
        static = {name for name, service in services.items() if service.static}
        self.removed = remove_former(self.containers, olds, static)
