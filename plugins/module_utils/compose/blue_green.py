# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The redeploy as a second project beside the first, as a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from ..change import OnUndo, Step
from ..engine.inspect import inspect
from ..engine.parallel import patiently
from ..errors import DeliveryError
from .colours import CLEAR, SWITCH, UP, Move, Standing, plan
from .containers import Containers
from .engine_state import Instance, instances
from .networks import remove_networks
from .redeploy import NotReached
from .routing import ProjectRouting


def look(
    containers: Containers,
    routing: ProjectRouting,
    projects: Sequence[str],
    *,
    remember: bool = False,
) -> Standing:
    """Ask the engine for the projects, and the router for their services.

    :param remember: whether a switch is to compare with these routes.
    """
    client = containers.client
    found = {project: instances(client, project) for project in projects}
    routings = {service: routing.of(service) for service in routing.entrances}
    routes = {
        service: (one.observe() or ()) if remember else one.look().urls
        for service, one in routings.items()
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
        self, containers: Containers, routing: ProjectRouting, standing: Standing, move: Move
    ) -> None:
        self.containers = containers
        self.routing = routing
        self.standing = standing
        self.move = move
        self.left: list[str] = []

    def observe(self) -> Standing:
        """Return what was seen when the move was decided upon."""
        return self.standing

    def plan(self, observed: Standing) -> Sequence[Step]:
        """Return the steps."""
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
        if step.action == CLEAR:
            self._remove(self.move.target)
        elif step.action == UP:
            self._up(on_undo)
        elif step.action == SWITCH:
            self._switch(step.detail["service"], on_undo)

    def _remove(self, project: str) -> None:
        for ones in patiently(instances, self.containers.client, project).values():
            for one in ones:
                patiently(self.containers.remove, one.id)
        patiently(remove_networks, self.containers.client, project)

    def _up(self, on_undo: OnUndo) -> None:
        containers, project = self.containers, self.containers.project
        on_undo(lambda: self._remove(project.name), f"{project.name} was removed")
        try:
            containers.compose.run(
                project.model,
                *("up", "--detach", "--no-build", "--pull", "never", *sorted(project.services)),
                doing=f"bring up {project.name}",
                timeout=containers.wait_timeout,
            )
        except DeliveryError:
            # What a container itself says of its end tells more than that compose awaited it.
            self._wait(only_ended=True)
            raise
        for service, ones in self._wait().items():
            if service in self.routing.entrances:
                for one in ones:
                    self.routing.check(service, inspect(containers.client, one.id))

    def _wait(self, only_ended: bool = False) -> Mapping[str, Sequence[Instance]]:
        """Wait until all are well.

        :param only_ended: ask only those that have ended or are ill.
        :raises DeliveryError: one is not.
        """
        containers = self.containers
        found = instances(containers.client, containers.project.name)
        ends, ids = [], []
        for name, ones in found.items():
            service = containers.project.services.get(name)
            for one in ones:
                ill = not one.container.running or one.container.health == "unhealthy"
                if only_ended and (not ill or one.container.status == "created"):
                    continue
                ids.append(one.id)
                if service is not None and service.ends:
                    ends.append(one.id)
        containers.wait(ids, ends=ends)
        return found

    def _addresses(self, service: str) -> list[str]:
        found = instances(self.containers.client, self.move.target).get(service, ())
        return [self.routing.url(service, one.container) for one in found]

    def _switch(self, service: str, on_undo: OnUndo) -> None:
        # Noted first, so undone last: requests that went to the candidate are answered before it
        # is removed.
        on_undo(partial(self.routing.drain, service), "its last requests were waited for")
        self.routing.of(service).switch(self._addresses(service), on_undo)

    def verify(self, observed: Standing, applied: Sequence[Step]) -> Standing:
        """Look again.

        :raises NotReached: the traffic does not go to the new project, or that is not well.
        """
        after = look(self.containers, self.routing, list(observed.projects))
        for service in self.move.routed:
            ones = after.projects[self.move.target].get(service, ())
            containers = [one.container for one in ones]
            if not self.routing.leads_to(service, containers, after.routes[service]):
                raise NotReached(
                    f"the traffic of {service} does not go to {self.move.target}",
                    next_step="See whether somebody else switches the same service.",
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
                    self._remove(project)
            except DeliveryError as error:
                self.left.append(f"the former project {project} is left: {error.message}")

    def _stop(self, project: str) -> None:
        """Stop a project, those first that others do not depend on."""
        services = self.containers.project
        found = instances(self.containers.client, project)
        known = [name for level in services.levels(services.services) for name in level]
        order = [*reversed(known), *(name for name in found if name not in known)]
        for name in order:
            for one in found.get(name, ()):
                if one.container.running:
                    self.containers.stop(one.id, one.grace, one.name)
