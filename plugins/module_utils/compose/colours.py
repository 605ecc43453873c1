# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two projects of one application, of which a router makes one the live one: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..change import Step
from ..engine.containers import NO_RESTART
from ..errors import DeliveryError, enumerate_words
from ..routers.base import normal
from .engine_state import Instance

COLOURS = ("blue", "green")
RESUME = "resume"
WATCH = "watch"
CLEAR = "clear"
UP = "up"
START = "start"
SWITCH = "switch"
POLICY = "policy"
SOAK = "soak"
RETIRE = "retire"


class Split(DeliveryError):
    """Any of two projects may be the live one: both have traffic, or none of them."""

    kind = "split"


def slots(name: str) -> tuple[str, str]:
    """Return the names of the two projects of an application."""
    blue, green = (f"{name}-{colour}" for colour in COLOURS)
    return blue, green


@dataclass(frozen=True)
class Standing:
    """What stands.

    :param projects: the containers of each project by service; the application's own name among
        them, for it may have been deployed by another strategy before.
    :param routes: by service, the addresses that the router has.
    :param reached: by address, the project of the container that is reached at it.
    """

    projects: Mapping[str, Mapping[str, Sequence[Instance]]]
    routes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reached: Mapping[str, str] = field(default_factory=dict)

    @property
    def live(self) -> frozenset[str]:
        """The projects that have traffic."""
        told = {normal(url) for urls in self.routes.values() for url in urls}
        return frozenset(project for url, project in self.reached.items() if normal(url) in told)

    def instances(self, project: str) -> list[Instance]:
        """Return a project's containers."""
        return [one for ones in self.projects.get(project, {}).values() for one in ones]

    def running(self, project: str) -> bool:
        """Tell whether any container of a project runs, or is restarted again and again."""
        return any(one.container.alive for one in self.instances(project))

    def whole(self, project: str) -> bool:
        """Tell whether a project is healthy, or may be soon, and none of it has been stopped.

        What has ended in every project is no part of it: a job, or an image's data.
        """
        serving = {
            service
            for found in self.projects.values()
            for service, ones in found.items()
            if any(one.container.alive for one in ones)
        }
        return all(
            one.container.well or one.starting
            for one in self.instances(project)
            if one.service in serving
        )

    def never_live(self, project: str, older: str) -> bool:
        """Tell whether a project lacks restart policies that an older one has.

        It gets them before it gets any traffic.
        """
        return self._age(project) > self._age(older) and any(
            mine.container.restart == NO_RESTART != theirs.container.restart
            for service, ones in self.projects[project].items()
            for mine in ones
            for theirs in self.projects[older].get(service, ())
            if mine.container.alive and theirs.container.alive
        )

    def may_be_live(self, names: Sequence[str]) -> list[str]:
        """Return those of these projects that have the traffic or would have it, oldest first."""
        if self.live:
            return sorted(self.live)
        running = sorted(filter(self.running, names), key=self._age)
        if not running:
            ran = [p for p in names if any(o.container.started for o in self.instances(p))]
            return sorted(ran, key=self._ended)[-1:]
        tried = {p for p in running for other in running if self.never_live(p, other)}
        found = [p for p in running if p not in tried]
        whole = [p for p in found if self.whole(p)]
        # One that the engine had to restart has failed, and has another port since.
        return [p for p in whole if not self._restarted(p)] or whole or found[:1]

    def lost(self, target: str) -> str:
        """Return the one project beside *target* that is healthy, if all routes lead nowhere."""
        found = self.may_be_live(sorted(self.projects))
        routed = not self.live and any(self.routes.values())
        whole = [p for p in found if p != target and self.running(p) and self.whole(p)]
        return whole[0] if routed and len(found) == 1 and whole else ""

    def _restarted(self, project: str) -> bool:
        return any(one.container.restarts for one in self.instances(project))

    def _age(self, project: str) -> int:
        return max((one.container.created for one in self.instances(project)), default=0)

    def _ended(self, project: str) -> tuple[bool, int]:
        """Of those that do not run, the live one has its policies, or was the last to end."""
        ones = [one.container for one in self.instances(project)]
        return any(o.restart != NO_RESTART for o in ones), max(o.finished for o in ones)

    def other(self, target: str) -> str | None:
        """Return the project that runs beside *target*, which is not proved then."""
        found = [one for one in sorted(self.projects) if one != target and self.running(one)]
        return found[0] if found else None


def live_project(standing: Standing, name: str) -> str | None:
    """Return the project that has the traffic, or would, and is not to be removed.

    :raises Split: there are two of them.
    """
    found = standing.may_be_live([*slots(name), name])
    # Beside a colour the application's own name has what has been doubled for a short time only.
    split = len(standing.live & set(slots(name))) > 1
    if split or set(slots(name)) <= set(found):
        said = enumerate_words(sorted(found))
        raise Split(
            f"the router sends traffic to {said}, so neither is the live one"
            if split
            else f"{said} run, and the router sends traffic to neither, so it is not known which "
            "is the live one",
            state="Both were left as they are.",
            next_step="Send all services to one of them with proxy_register, then run this again.",
        )
    # Of one that is no slot, a new project takes nothing away.
    return next((p for p in found if p in slots(name)), found[0] if found else None)


def candidate(name: str, live: str | None) -> str:
    """Return the project that a new release goes to."""
    blue, green = slots(name)
    return green if live == blue else blue


@dataclass(frozen=True)
class Move:
    """What shall become of the projects.

    :param target: the project that shall have the traffic.
    :param deploy: whether it is to be brought up anew.
    :param routed: by service, the addresses that the router shall have; None where they are not
        known before the project is up.
    :param keep: whether other projects are kept, stopped.
    :param restart: by service, the restart policy that the files give its containers.
    :param soak: the seconds that the target is watched before other projects are stopped.
    :param kept: whether the target is there as it is wanted, stopped, and needs starting only.
    """

    target: str
    deploy: bool
    routed: Mapping[str, Sequence[str] | None]
    keep: bool = True
    restart: Mapping[str, str] = field(default_factory=dict)
    soak: float = 0.0
    kept: bool = False

    def lacks_restart(self, one: Instance) -> bool:
        """Tell whether a container of the target is not restarted by the engine, but should be."""
        own = self.restart.get(one.service, NO_RESTART)
        return one.container.restart == NO_RESTART != own


def _bring_up(standing: Standing, move: Move) -> list[Step]:
    steps = []
    if lost := standing.lost(move.target):
        said = f"send the traffic to {lost}, which runs at another address than the router has"
        steps.append(Step(RESUME, said, {"project": lost}))
    # A run that was killed has left both running, and may not have proved who is live.
    unproved = sorted(standing.live - {move.target}) if standing.whole(move.target) else []
    if unproved and move.soak and standing.running(move.target):
        said = f"watch {unproved[0]} for {move.soak:g} s before {move.target} is removed"
        steps.append(Step(WATCH, said, {"project": unproved[0]}))
    if move.kept:
        steps.append(Step(START, f"start {move.target}, which is as it is wanted"))
    else:
        if standing.instances(move.target):
            steps.append(Step(CLEAR, f"remove what is left of {move.target}"))
        steps.append(Step(UP, f"bring up {move.target}"))
    return steps


def plan(standing: Standing, move: Move) -> list[Step]:
    """Return the steps."""
    steps = _bring_up(standing, move) if move.deploy else []
    if move.deploy:
        lacks = any(policy != NO_RESTART for policy in move.restart.values())
    else:
        lacks = any(map(move.lacks_restart, standing.instances(move.target)))
    if lacks:
        steps.append(Step(POLICY, f"let the engine restart the containers of {move.target}"))
    for service, urls in sorted(move.routed.items()):
        now = sorted(map(normal, standing.routes.get(service, ())))
        if move.deploy or urls is None or sorted(map(normal, urls)) != now:
            said = f"send the traffic of {service} to {move.target}"
            steps.append(Step(SWITCH, said, {"service": service}))
    if move.soak and (move.deploy or standing.other(move.target)):
        steps.append(Step(SOAK, f"watch {move.target} for {move.soak:g} s"))
    for project in sorted(standing.projects):
        there = standing.instances(project)
        if project != move.target and (standing.running(project) or (there and not move.keep)):
            said = f"{'stop' if move.keep else 'remove'} {project}"
            steps.append(Step(RETIRE, said, {"project": project}))
    return steps
