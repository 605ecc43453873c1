# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole of a run by ``blue_green``: a second project beside the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from ..change import after, run, undoing
from ..engine.containers import NO_RESTART
from ..engine.inspect import EXITED
from ..errors import BadOption, enumerate_words
from ..signals import ignore_signals
from .blue_green import BlueGreenChange, look
from .both import Both
from .colour_engine import ColourEngine
from .coloured import LABEL, Joint, coloured, only
from .colours import Move, Standing, candidate, live_project, slots
from .decision import State, Wanted, decide
from .engine_state import Image, Instance, instances
from .events import Watch
from .hashing import with_due
from .history import keep
from .images import image_ids
from .orphans import orphans_of, warning, with_orphans
from .project import Project, hashed
from .redeploy import RedeployChange
from .report import downtimes, result
from .routing import ProjectRouting
from .session import Session, tag_back
from .strategies import BLUE_GREEN, RECREATE, How
from .suitable import Unsuitable


def beside(session: Session) -> dict[str, Any]:
    """Redeploy by ``blue_green``: what keeps data in its place, all else beside the live one."""
    base = session.load()
    routing = session.routing(base)
    if routing is None:
        raise BadOption("strategy blue_green needs router")
    given = session.given()
    getting = session.getting(base)
    session.hows(base, given, getting.standing())
    got = run(getting, check_mode=session.check_mode)
    session.warn_of_builds(got.before)
    with undoing(partial(tag_back, session, getting)):
        images = got.after.standing
        hows = session.hows(base, given, images)
        orphans = orphans_of(session.compose, base, instances(session.client, base.name))
        pair = Pair(session, base, hows, image_ids(got, session.check_mode), routing, orphans)
        standing = look(pair.engine, pair.doubled_routing, pair.projects, remember=True)
        move, project = pair.move(standing)
        staying, doubling = pair.in_place(images, move), pair.beside(standing, move, project)
        with Watch(session.client, *pair.projects) as watch:
            staying.traffic.told = watch.routed
            outcome = run(Both(staying, doubling), check_mode=session.check_mode)
            ignore_signals()
            standing_after = look(pair.engine, pair.doubled_routing, pair.projects)
    with after(outcome):
        if not session.check_mode:
            doubling.clean_up()
            staying.clean_up()
        keep(session, base, given, images)
        before = [*pair.stay(outcome.before[0].instances), *live_of(standing)]
        now = [*pair.stay(instances(session.client, base.name)), *live_of(standing_after)]
        in_place = staying.wanted.routed
        down = downtimes(base, before, now, watch if outcome.made else None, in_place)
        left_over = [one for ones in orphans.values() for one in ones]
        if left_over and not session.params["remove_orphans"]:
            session.warn(warning(left_over))
        removed = staying.removed
        left = (*doubling.left, *doubling.containers.left, *staying.containers.left)
        left += tuple(pair.doubled_routing.left)
        for text in (*removed.left, *map(str, removed.superseded), *left):
            session.warn(text)
        shown = result(
            *(session.check_mode, got, outcome, before, now),
            down=down,
            superseded=removed.superseded,
        )
        names = sorted(one.name for one in left_over)
        return {**shown, "project": move.target, "orphans": names}


@dataclass(frozen=True)
class Pair:
    """A project and its two colours, as they are wanted.

    :param hows: how each service is replaced.
    :param ids: by service, the ids of the images that its containers may have.
    :param routing: the router, with all services that get traffic by it.
    :param orphans: the project's containers of services that the files do not have any more.
    """

    session: Session
    base: Project
    hows: Mapping[str, How]
    ids: Mapping[str, frozenset[str]]
    routing: ProjectRouting
    orphans: Mapping[str, Sequence[Instance]]

    @property
    def projects(self) -> list[str]:
        """The names of the colours and of the project itself."""
        return [*slots(self.base.name), self.base.name]

    @cached_property
    def doubled(self) -> frozenset[str]:
        """The services that a colour has.

        :raises Unsuitable: there is none to switch the traffic of.
        """
        found = {name for name, how in self.hows.items() if how.strategy == BLUE_GREEN}
        routed = sorted(self.routing.entrances)
        if not found & set(routed):
            raise Unsuitable(
                "strategy blue_green has no service to double and to send traffic to: "
                + "; ".join(f"{n}: {self.hows[n].why}" for n in routed),
                next_step="Use strategy recreate, or see the option shared.",
            )
        return frozenset(found)

    @cached_property
    def engine(self) -> ColourEngine:
        """What works on the colours."""
        joint: Joint = coloured(self.base, self.doubled, self.projects[0])[1]
        volumes = self.base.model.get("volumes") or {}
        return ColourEngine(self.session.client, self.base.name, self.doubled, joint, volumes)

    def named(self, name: str) -> Project:
        """Return what one of the three projects has of the services that are doubled."""
        if name == self.base.name:
            return only(self.base, self.doubled)
        return hashed(self.session.compose, coloured(self.base, self.doubled, name)[0])

    def stay(self, found: Mapping[str, Any]) -> list[Instance]:
        """Return those containers of the project whose services are not doubled."""
        names = [name for name in self.base.services if name not in self.doubled]
        return [one for name in names for one in found.get(name, ())]

    def routing_of(self, services: frozenset[str]) -> ProjectRouting:
        """Return the router with these services alone."""
        rows = {n: one for n, one in self.routing.entrances.items() if n in services}
        return replace(self.routing, entrances=rows)

    @cached_property
    def doubled_routing(self) -> ProjectRouting:
        """The router with the services that are doubled; it remembers their routes."""
        return self.routing_of(self.doubled)

    def move(self, standing: Standing) -> tuple[Move, Project]:
        """Return what becomes of the colours, and the project that shall have the traffic.

        :raises Split: it is not known which is the live one.
        :raises Unsuitable: a colour runs what belongs to the project now.
        """
        self._check_apart(standing)
        name, several = self.base.name, standing.may_be_live(self.projects)
        live = None
        # Of several, a run was killed before it was done with its switches: what it wanted is made
        # whole.
        for one in several if len(several) > 1 else ():
            # What that run was forced to replace it has replaced.
            if self._fits(half := self.named(one), standing, forced=False):
                return Move(one, False, {}), half
        live = live_project(standing, name)
        if live is not None and self._fits(project := self.named(live), standing):
            return Move(live, False, {}), project
        self._check_whole(standing, live)
        target = candidate(name, live)
        routed = dict.fromkeys(sorted(self.doubled & set(self.routing.entrances)))
        project = self.named(target)
        kept = self._fits(project, stopped_as_running(standing, target))
        return Move(target, True, routed, kept=kept), project

    def _fits(self, project: Project, standing: Standing, *, forced: bool | None = None) -> bool:
        """Tell whether a project stands as it is wanted.

        :param forced: whether all is to be replaced; as the options say by default.
        """
        outdated = self.session.outdated(project, standing.projects[project.name], forced=forced)
        ask = self.session.containers(project).ask
        found = with_due(ask, project.services, standing.projects[project.name])
        decisions = decide(Wanted(project, self.ids, outdated=outdated), State(found))
        return not any(decision.changed for decision in decisions.values())

    def _check_whole(self, standing: Standing, live: str | None) -> None:
        """Make sure that nothing goes with the live project that the files still have.

        :raises Unsuitable: it has a service that the run leaves out.
        """
        there = standing.projects.get(live or "", {})
        running = {name for name, ones in there.items() if any(o.container.alive for o in ones)}
        left_out = running & set(self.base.model["services"]) - set(self.base.services)
        if left_out:
            raise Unsuitable(
                f"{enumerate_words(sorted(left_out))} of {live} would be stopped with it, since "
                "services does not name what runs beside it",
                next_step="Name all services that strategy blue_green doubles, or leave services "
                "out.",
            )

    def _check_apart(self, standing: Standing) -> None:
        for colour in slots(self.base.name):
            self._check_ours(colour, standing)
            for name, ones in standing.projects[colour].items():
                if (
                    name in self.base.services
                    and name not in self.doubled
                    and any(one.container.alive for one in ones)
                ):
                    raise Unsuitable(
                        f"service {name} runs in the project {colour}, and now belongs to "
                        f"{self.base.name}, since {self.hows[name].why}: two would run",
                        next_step=f"If two containers of {name} may run at a time, write "
                        f"`x-delivery: {{shared: true}}` below it. Else move its data to "
                        f"{self.base.name}, take {colour} down, and run this again.",
                    )

    def _check_ours(self, colour: str, standing: Standing) -> None:
        """Make sure that a project with the name of a colour is no other one, to be removed."""
        known = {*self.base.services, *(self.base.model.get("services") or {})}
        others = sorted(
            one.name
            for one in standing.instances(colour)
            if LABEL not in one.container.labels and one.service not in known
        )
        if others:
            raise Unsuitable(
                f"the project {colour} has {enumerate_words(others)}, of no service of these "
                f"files, and strategy {BLUE_GREEN} needs that name for a colour of "
                f"{self.base.name}",
                next_step=f"Give this project another name by project_name, or take {colour} down "
                "if nobody needs it.",
            )

    def in_place(self, images: Mapping[str, Image | None], move: Move) -> RedeployChange:
        """Return the change of what is not doubled."""
        inner = only(self.base, set(self.base.services) - self.doubled)
        if self.session.params["remove_orphans"]:
            inner = with_orphans(inner, self.orphans)
        routing = self.routing_of(frozenset(inner.services))
        wanted = Wanted(
            inner,
            self.ids,
            RECREATE,
            frozenset(routing.entrances),
            # Where a colour is brought up, its own soak follows.
            0.0 if move.deploy else self.session.params["soak"],
            hows=self.hows,
            outdated=self.session.outdated(inner, instances(self.session.client, inner.name)),
        )
        containers = self.session.containers(inner, images)
        return RedeployChange(containers, wanted, routing if routing.entrances else None)

    def beside(self, standing: Standing, move: Move, project: Project) -> BlueGreenChange:
        """Return the change of the colours."""
        routing = self.doubled_routing
        urls: Mapping[str, Any] = move.routed
        if not move.deploy:
            there = standing.projects[move.target]
            urls = {
                name: [routing.url(name, one.container) for one in there.get(name, ())]
                for name in routing.entrances
            }
        made = replace(
            move,
            routed=urls,
            keep=self.session.keep,
            restart={name: service.restart for name, service in project.services.items()},
            soak=self.session.params["soak"],
        )
        containers = self.session.containers(project)
        return BlueGreenChange(containers, self.engine, routing, standing, made)


def stopped_as_running(standing: Standing, project: str) -> Standing:
    """Return what stands as it would be if a project that is stopped ran, healthy.

    What has not ended, or was never started, stays as it is.
    """
    found = {
        name: [
            replace(one, container=replace(one.container, status="running", health=""))
            if one.container.status == EXITED and one.container.restart == NO_RESTART
            else replace(one, container=replace(one.container, status="created"))
            for one in ones
        ]
        for name, ones in standing.projects[project].items()
    }
    return replace(standing, projects={**standing.projects, project: found})


def live_of(standing: Standing) -> list[Instance]:
    """Return the containers of the projects that have traffic."""
    return [one for project in sorted(standing.live) for one in standing.instances(project)]
