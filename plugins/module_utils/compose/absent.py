# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A project taken down, its colours with it: routes first, and volumes only where asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..change import OnUndo, Step, run
from ..engine.containers import Containers
from ..engine.errors import Missing, engine_errors
from ..errors import BadOption, DeliveryError, enumerate_words
from .cli import Limit
from .coloured import LABEL
from .engine_state import PROJECT, Instance, instances
from .history import forget_all
from .networks import network_ids, remove_networks
from .report import entry
from .session import Session

UNROUTE = "unroute"
DOWN = "down"
VOLUMES = "volumes"


@dataclass(frozen=True)
class There:
    """What there is of a project and its colours.

    :param routes: by service, the addresses that the router has of them.
    :param projects: their containers, by project.
    :param networks: the projects that have networks.
    :param volumes: the names of their volumes, by project.
    """

    routes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    projects: Mapping[str, Sequence[Instance]] = field(default_factory=dict)
    networks: frozenset[str] = frozenset()
    volumes: Mapping[str, Sequence[str]] = field(default_factory=dict)


class NotDown(DeliveryError):
    """Something of a project is still there."""

    kind = "not_down"


class AbsentChange:
    """Take a project and its colours down."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.client = session.client
        self.project = session.load()
        self.routing = session.routing(self.project)
        self.volumes = session.params["remove_volumes"]
        # A volume that the project made keeps its label when the files make it external later.
        self.external = frozenset(
            str(one.get("name") or key)
            for key, one in (self.project.model.get("volumes") or {}).items()
            if (one or {}).get("external")
        )
        # Whether containers are being taken down.
        self.going = False

    def observe(self) -> There:
        """Ask the router and the engine."""
        name = self.project.name
        colours = {one.labels[PROJECT] for one in Containers(self.client).find(f"{LABEL}={name}")}
        projects = [*sorted(colours), name]
        entrances = self.routing.entrances if self.routing else ()
        routes = {one: self.routing.of(one).observe() or () for one in entrances if self.routing}
        return There(
            {one: urls for one, urls in routes.items() if urls},
            {p: [o for ones in instances(self.client, p).values() for o in ones] for p in projects},
            frozenset(p for p in projects if network_ids(self.client, p)),
            {p: self._volumes(p) for p in projects},
        )

    def _volumes(self, project: str) -> list[str]:
        with engine_errors(f"list the volumes of {project}"):
            found = self.client.api.volumes(filters={"label": f"{PROJECT}={project}"})
        return sorted(str(one["Name"]) for one in found["Volumes"] or ())

    def plan(self, observed: There) -> Sequence[Step]:
        """Return the steps: nobody is asked for any more before he goes."""
        steps = [
            Step(UNROUTE, f"take {name} out of the router", {"service": name})
            for name in sorted(observed.routes)
        ]
        for project, ones in observed.projects.items():
            if ones or project in observed.networks:
                steps.append(Step(DOWN, f"take {project} down", {"project": project}))
        for project, found in observed.volumes.items() if self.volumes else ():
            if names := [name for name in found if name not in self.external]:
                said = f"remove the volume(s) {enumerate_words(names)}"
                steps.append(Step(VOLUMES, said, {"names": names, "project": project}))
        return steps

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step. What is taken down is not brought back: the next run goes on."""
        if step.action == UNROUTE and self.routing is not None:
            service = step.detail["service"]
            self.routing.of(service).remove(partial(self._back, on_undo))
            self.routing.drain(service)
        elif step.action == DOWN:
            self._down(step.detail["project"])
        else:
            self._remove_volumes(step.detail["names"])

    def _back(self, on_undo: OnUndo, undo: Callable[[], object], state: str = "") -> None:
        """Note how a route comes back while those that it led to still run."""
        on_undo(lambda: "" if self.going else undo(), state)

    def _down(self, project: str) -> None:
        self.going = True
        found = [one for ones in instances(self.client, project).values() for one in ones]
        self._take_down(project, found)
        if self.volumes:
            # No list of volumes tells whose they were.
            self._remove_volumes({m.name for one in found for m in one.mounts if m.anonymous})

    def _take_down(self, project: str, found: Sequence[Instance]) -> None:
        if project == self.project.name:
            timeout = float(self.session.params["wait_timeout"])
            self.session.compose.run(
                self.project.model,
                # By --volumes it would remove those that another project made, too.
                *("down", "--remove-orphans"),
                doing=f"take {project} down",
                limit=Limit(timeout, "Raise wait_timeout if its containers take longer to end."),
            )
            return
        engine = Containers(self.client)
        for one in found:
            engine.stop_and_keep(one.id, one.grace, one.name)
            # With remove_volumes they go afterwards.
            engine.remove(one.id, one.name, volumes=False)
        remove_networks(self.client, project)

    def _remove_volumes(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            with suppress(Missing), engine_errors(f"remove the volume {name}"):
                self.client.api.remove_volume(name)

    def verify(self, observed: There, applied: Sequence[Step]) -> There:
        """Look again.

        :raises NotDown: something is still there.
        """
        after = self.observe()
        if left := self.plan(after):
            raise NotDown(
                f"not all is gone; left to do: {enumerate_words([one.summary for one in left])}",
                next_step="Check whether anything else manages this project, then run this again.",
            )
        return after

    def describe(self, observed: There) -> str:
        """Show what there is."""
        lines = [
            f"traffic of {name}: {', '.join(u)}" for name, u in sorted(observed.routes.items())
        ]
        for project, ones in observed.projects.items():
            lines += [f"{project}: {one.name} ({one.container.status})" for one in ones]
            lines += [f"{project}: volume {name}" for name in observed.volumes.get(project, ())]
        return "".join(f"{line}\n" for line in lines)

    def expected(self, observed: There, steps: Sequence[Step]) -> str:
        """Show what stays."""
        kept = {
            project: [name for name in names if name in self.external or not self.volumes]
            for project, names in observed.volumes.items()
        }
        return self.describe(There(volumes=kept, projects=dict.fromkeys(kept, ())))


def absent(session: Session) -> dict[str, Any]:
    """Take a project down; return what the module documents.

    :raises BadOption: services are named, which would be taken for all that is to go.
    """
    if session.params["services"]:
        raise BadOption(
            f"state absent takes down all of the project, and services names "
            f"{enumerate_words(session.params['services'])}",
            next_step="To take the project down, leave services out. To remove a service, remove "
            "it from the compose files and set remove_orphans with state present.",
        )
    change = AbsentChange(session)
    outcome = run(change, check_mode=session.check_mode)
    for text in change.routing.left if change.routing else ():
        session.warn(text)
    if change.volumes and not session.check_mode:
        forget_all(session, change.project.name)
    gone = [one for ones in outcome.before.projects.values() for one in ones]
    return {
        **outcome.result(),
        "project": None,
        "containers": [],
        "previous": [entry(one) for one in gone],
        "volumes": sorted(name for names in outcome.after.volumes.values() for name in names),
    }
