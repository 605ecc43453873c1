# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The redeploy as a second project beside the first, as a change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from ..change import OnUndo, Step, undoing
from ..deadline import Deadline
from ..engine.containers import NO_RESTART
from ..engine.health import MOST_RESTARTS, SETTLE, blaming, check_unchanged, soak
from ..engine.inspect import CREATED, EXITED, Container, inspect
from ..engine.parallel import patiently
from ..errors import DeliveryError, Interrupted, enumerate_words
from ..routers.base import StillServing
from .colour_engine import ColourEngine
from .colours import CLEAR, POLICY, RESUME, SOAK, START, SWITCH, UP, WATCH, Move, Standing, plan
from .containers import Containers
from .engine_state import Instance
from .plan import check_routed
from .reached import NotReached
from .routing import ProjectRouting
from .traffic import not_noted
from .unverified import NotServing, as_before, check_serving, serving_sentence, still_well


def look(
    colours: ColourEngine,
    routing: ProjectRouting,
    projects: Sequence[str],
    *,
    remember: bool = False,
) -> Standing:
    """Ask the engine for the projects, and the router for their services.

    :param remember: whether a switch is to compare with these routes.
    """
    found = {project: colours.instances(project) for project in projects}
    routes = {
        service: (routing.of(service).observe() or ()) if remember else routing.look(service)
        for service in routing.entrances
    }
    reached: dict[str, str] = {}
    for project, services in found.items():
        for service in routing.entrances:
            ones = [one.container for one in services.get(service, ()) if one.container.running]
            reached.update(dict.fromkeys(routing.known(service, ones), project))
    return Standing(found, routes, reached)


class BlueGreenChange:
    """Bring up a project, and send the traffic there.

    The former project runs until :meth:`clean_up`, which follows the change.
    """

    def __init__(
        self,
        containers: Containers,
        colours: ColourEngine,
        routing: ProjectRouting,
        standing: Standing,
        move: Move,
    ) -> None:
        self.containers = containers
        self.colours = colours
        self.routing = routing
        self.standing = standing
        self.move = move
        # As they were seen when they were found healthy.
        self.healthy: list[Container] = []
        self.left: list[str] = []
        # The services whose traffic may go to the target.
        self.switched: set[str] = set()
        self.went_back = False

    def observe(self) -> Standing:
        """Return what was seen when the move was decided upon."""
        return self.standing

    def plan(self, observed: Standing) -> Sequence[Step]:
        """Return the steps.

        :raises DeliveryError: a service that has traffic is to have no container.
        """
        check_routed(self.containers.project.services, self.move.routed)
        return plan(observed, self.move)

    def describe(self, observed: Standing) -> str:
        """Show the projects, and where the traffic goes."""
        lines = [
            f"{project}: {one.name} ({one.container.status}) container {one.id[:12]}\n"
            for project in sorted(observed.projects)
            for one in observed.instances(project)
        ]
        lines += [
            f"traffic of {service}: {', '.join(urls) or 'nowhere'}\n"
            for service, urls in sorted(observed.routes.items())
        ]
        return "".join(lines)

    def expected(self, observed: Standing, steps: Sequence[Step]) -> str:
        """Show what is going to be."""
        if not steps:
            return self.describe(observed)
        lines = []
        for name, service in sorted(self.containers.project.services.items()):
            names = ", ".join(service.environment_names)
            lines += [
                f"{self.move.target}: {service.image} as {name}"
                + (f", environment {names}\n" if names else "\n")
            ] * service.scale
        lines += [f"traffic of {name}: {self.move.target}\n" for name in sorted(self.move.routed)]
        return "".join(lines)

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step."""
        act: Callable[[Mapping[str, Any], OnUndo], None] | None = {
            RESUME: self._resume,
            WATCH: self._watch,
            CLEAR: self._clear,
            UP: self._up,
            START: self._start,
            POLICY: self._policy,
            SWITCH: self._switch,
            SOAK: self._soak,
        }.get(step.action)
        # Former projects are stopped once nothing can fail any more: see clean_up.
        if act is not None:
            act(step.detail, on_undo)

    def _resume(self, detail: Mapping[str, Any], _on_undo: OnUndo) -> None:
        """Send the traffic to the live project, which has another address than the router knows."""
        try:
            for service, urls in self._reached(detail["project"]).items():
                if self.standing.routes.get(service):
                    self.routing.of(service).switch(urls, not_noted)
        except Interrupted:
            raise
        except DeliveryError as error:
            self.left.append(f"{detail['project']} did not get the traffic: {error.message}")

    def _watch(self, detail: Mapping[str, Any], _on_undo: OnUndo) -> None:
        """Watch who is live before the other one is removed that served before it."""
        with undoing(partial(self._go_back, detail["project"], self.move.target)):
            self._soak_of(detail["project"])

    def _clear(self, _detail: Mapping[str, Any], _on_undo: OnUndo) -> None:
        self.colours.remove(self.move.target)

    def _remove_target(self) -> None:
        """Remove the new project, for an undo.

        :raises StillServing: the router leads to it, or may.
        """
        self._check_unused()
        self.colours.remove(self.move.target)

    def _stop_target(self) -> None:
        """Stop a project that was kept, for an undo; raises as :meth:`_remove_target` does."""
        self._check_unused()
        patiently(self._stop, self.move.target)

    def _check_unused(self) -> None:
        found = patiently(self.colours.instances, self.move.target)
        for service in sorted(self.switched):
            ones = [one.container for one in found.get(service, ()) if one.container.running]
            if why := self.routing.may_lead_to(service, ones):
                raise StillServing(f"{self.move.target} was left running, since {why}")

    def _up(self, _detail: Mapping[str, Any], on_undo: OnUndo) -> None:
        name = self.containers.project.name
        on_undo(self._remove_target, f"{name} was removed")
        deadline = Deadline(self.containers.wait_timeout)
        self.colours.prepare()
        self._compose_up("--no-start", deadline)
        self.colours.join(name)
        for one in self._target():
            self.containers.set_restart(one.id, NO_RESTART, one.name)
        for left in reversed(range(MOST_RESTARTS)):
            try:
                self._compose_up("--detach", deadline)
                break
            except DeliveryError:
                if not left or not self._only_restarts():
                    # What a container itself says of its end tells more than compose does.
                    self._wait([one for one in self._target() if _has_failed(one)])
                    raise
        self._check()

    def _start(self, _detail: Mapping[str, Any], on_undo: OnUndo) -> None:
        """Start a project that was kept, with all that it was made of."""
        name, project = self.containers.project.name, self.containers.project
        on_undo(self._stop_target, f"{name} was stopped again")
        for level in project.levels(project.services):
            ones = [one for one in self._target() if one.service in level]
            ones = [one for one in ones if not project.services[one.service].ends]
            for one in ones:
                self.containers.start(one.id, one.name)
            self._wait(ones)
        self._check()

    def _check(self) -> None:
        """Make sure that the new project is healthy, and answers."""
        client = self.containers.client
        self._wait(self._target())
        with blaming(client, self.healthy):
            for one in self._target():
                if one.service in self.routing.entrances:
                    self.routing.check(one.service, inspect(client, one.id))
        soak(client, self.healthy, SETTLE)

    def _compose_up(self, how: str, deadline: Deadline) -> None:
        project = self.containers.project
        self.containers.compose.run(
            project.model,
            *("up", how, "--no-build", "--pull", "never", *sorted(project.services)),
            doing=f"bring up {project.name}",
            limit=self.containers.limit(deadline.remaining),
        )

    def _target(self) -> list[Instance]:
        found = self.colours.instances(self.move.target)
        return [one for ones in found.values() for one in ones]

    def _only_restarts(self) -> bool:
        """Tell whether those that failed have ended, and will be restarted once they are live.

        Some end until what they need is there. Compose gives up for those that await them.
        """
        failed = [one for one in self._target() if _has_failed(one)]
        return bool(failed) and all(
            one.container.status == EXITED and self.move.lacks_restart(one) for one in failed
        )

    def _wait(self, ones: Sequence[Instance]) -> None:
        """Wait until these are healthy.

        :raises DeliveryError: one is not.
        """
        services = self.containers.project.services
        ends = {one.id for one in ones if one.service in services and services[one.service].ends}
        seen = self.containers.wait(
            [one.id for one in ones],
            ends=ends,
            restarting={one.id for one in ones if self.move.lacks_restart(one)} - ends,
        )
        self.healthy = [one for one in seen if one.id not in ends]

    def _policy(self, _detail: Mapping[str, Any], _on_undo: OnUndo) -> None:
        self._check_unchanged()
        for one in self._target():
            if self.move.lacks_restart(one):
                self.containers.set_restart(one.id, self.move.restart[one.service], one.name)

    def _check_unchanged(self) -> None:
        check_unchanged(self.containers.client, self.healthy)

    def _switch(self, detail: Mapping[str, Any], on_undo: OnUndo) -> None:
        service = detail["service"]
        self._check_unchanged()
        ones = [one for one in self._target() if one.service == service]
        with blaming(self.containers.client, self.healthy):
            urls = self.routing.urls(service, [one.container for one in ones])
        routing = self.routing.of(service)
        routing.watch = self._check_unchanged
        if self._note_back(on_undo):
            on_undo = not_noted
        # Noted first, so undone last: requests that went to the candidate are answered before it
        # is removed.
        on_undo(
            partial(self.routing.drain, service, undo=True), "Its last requests were waited for"
        )
        self.switched.add(service)
        with blaming(self.containers.client, self.healthy):
            routing.switch(urls, on_undo)

    def _soak(self, _detail: Mapping[str, Any], on_undo: OnUndo) -> None:
        if self.move.deploy:
            soak(self.containers.client, self.healthy, self.move.soak, ask=self._ask)
            return
        self._note_back(on_undo)
        self._soak_of(self.move.target)

    def _soak_of(self, project: str) -> None:
        """Watch the containers of a project that an earlier run has brought up."""
        found = self._noted(project)
        if project == self.move.target:
            self.healthy = found
        soak(self.containers.client, found, self.move.soak, ask=self._ask)

    def _noted(self, project: str) -> list[Container]:
        """Return the containers of a project as they were when the move was decided upon."""
        services = self.containers.project.services
        return [
            one.container
            for one in self.standing.instances(project)
            if one.service in services and not services[one.service].ends
        ]

    def _ask(self) -> str:
        return self.routing.ask(sorted(self.routing.entrances))

    def _note_back(self, on_undo: OnUndo) -> bool:
        """Note how to go back from a target that a killed run has left; return whether it is."""
        former = self.standing.other(self.move.target)
        if self.move.deploy or former is None:
            return False
        on_undo(partial(self._go_back, self.move.target, former))
        return True

    def _go_back(self, unproved: str, former: str) -> str:
        """Let the former project serve again if the one that a killed run has left does not.

        It is done once, however many steps ask for it.

        :raises DeliveryError: the former one does not serve, or the router refused.
        """
        if self.went_back:
            return ""
        self.went_back = True
        if still_well(self.containers.client, self._noted(unproved), self._ask):
            return as_before([unproved])
        # One that is stopped in part was on its way out: the other had been watched to its end.
        if not self.standing.whole(former):
            return self._serving(unproved)
        try:
            back = self._reached(former)
        except DeliveryError as error:
            # It may have been restarted, and have another address since.
            with suppress(DeliveryError):
                self.containers.wait([one.id for one in self._noted(unproved)])
                self._restore(self._reached(unproved))
            raise error.with_state(self._serving(unproved)) from error
        try:
            self._restore(back)
            if unproved == self.move.target:
                self.switched.update(back)
                self._remove_target()
        except DeliveryError as error:
            raise error.with_state(self._serving(former)) from error
        return f"{former} has the traffic again" + (
            f". {unproved} was removed" if unproved == self.move.target else ""
        )

    def _restore(self, back: Mapping[str, Sequence[str]]) -> None:
        for service, urls in back.items():
            self.routing.of(service).restore(partial(list, urls))
            self.routing.drain(service, undo=True)

    def _reached(self, project: str) -> Mapping[str, Sequence[str]]:
        """Return where each service of a project is reached now, all of which answer.

        :raises DeliveryError: one does not.
        """
        client, back = self.containers.client, {}
        there = patiently(self.colours.instances, project)
        for service in sorted(self.routing.entrances):
            ones = there.get(service, ())
            for one in ones:
                check_serving(client, self.routing, service, one.id)
            back[service] = self.routing.urls(service, [one.container for one in ones])
            if not ones:
                raise NotServing(f"{project} has no container of {service}")
        return back

    def _serving(self, project: str) -> str:
        """Return the sentence on whether a project serves now."""
        try:
            wrong = self._ask()
        except DeliveryError:  # somebody else changed the route
            return ""
        services = enumerate_words(sorted(self.routing.entrances))
        return serving_sentence(services, [project], wrong)

    def verify(self, observed: Standing, applied: Sequence[Step]) -> Standing:
        """Look again.

        :raises NotReached: the traffic does not go to the new project, or that is not well.
        """
        self._check_unchanged()
        after = look(self.colours, self.routing, list(observed.projects))
        for service in self.move.routed:
            ones = after.projects[self.move.target].get(service, ())
            containers = [one.container for one in ones]
            if not self.routing.leads_to(service, containers, after.routes[service]):
                raise NotReached(
                    f"the traffic of {service} does not go to {self.move.target}",
                    next_step="Check whether anything else switches the same service.",
                )
        return after

    def clean_up(self) -> None:
        """Stop the former projects once they have answered all, and remove what is not kept.

        :raises DeliveryError: requests were left, and that was not to be.
        """
        running = [p for p in self.standing.projects if p != self.move.target]
        if any(self.standing.running(project) for project in running):
            for service in self.move.routed:
                try:
                    self.routing.drain(service)
                except DeliveryError as error:
                    raise error.with_state(
                        f"The switch to {self.move.target} stands, and the former project runs."
                    ) from error
        for project in running:
            try:
                self._stop(project)
                if not self.move.keep:
                    self.colours.remove(project)
            except DeliveryError as error:
                self.left.append(f"the former project {project} is left: {error.message}")

    def _stop(self, project: str) -> None:
        """Stop a project, those first that others do not depend on."""
        services = self.containers.project
        found = self.colours.instances(project)
        known = [name for level in services.levels(services.services) for name in level]
        order = [*reversed(known), *(name for name in found if name not in known)]
        for name in order:
            for one in found.get(name, ()):
                self.containers.stop_live(one)


def _has_failed(one: Instance) -> bool:
    seen = one.container
    ended = not seen.running and seen.status != CREATED and seen.exit_code != 0
    return ended or seen.health == "unhealthy"
