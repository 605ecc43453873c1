# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of each container of a project: which stay, which are replaced, and why: pure.

A service's good containers are kept. Of the others each is replaced by a new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..engine.containers import NO_RESTART
from ..engine.inspect import EXITED
from .claims import Holder
from .engine_state import Instance
from .hashing import references
from .naming import slots
from .project import Project
from .service import Service
from .strategies import RECREATE, ROLLING, How

SURPLUS = "one more than wanted"
ORPHANED = "its service is no longer in the compose files"


@dataclass(frozen=True)
class Wanted:
    """What shall stand.

    :param images: by service, the ids of the images that its containers may have; none where its
        image is going to be another one.
    :param hows: how each service is replaced, where that is not by *strategy*.
    :param routed: the services whose containers a router sends traffic to.
    :param soak: the seconds that new containers are watched before the former ones go.
    :param outdated: why containers cannot stay, by their ids, for what is not to be seen in them:
        see outdated.py.
    """

    project: Project
    images: Mapping[str, frozenset[str]]
    strategy: str = RECREATE
    routed: frozenset[str] = frozenset()
    soak: float = 0.0
    outdated: Mapping[str, str] = field(default_factory=dict)
    hows: Mapping[str, How] = field(default_factory=dict)

    def rolls(self, service: str) -> bool:
        """Tell whether a service is replaced in lock-step, not in turn."""
        if self.project.services[service].orphan:
            # It goes last, unless it has what somebody needs.
            return True
        how = self.hows.get(service)
        return (how.strategy if how else self.strategy) == ROLLING

    def shares_data(self, service: Service, one: Instance) -> bool:
        """Tell whether a service writes to a volume or folder that another's container has."""
        how = self.hows.get(service.name)
        same = how.folders & one.folders if how else frozenset()
        return bool(same) or self.project.shares_data(service, one)


@dataclass(frozen=True)
class State:
    """What stands: containers by service, and the services whose route leads elsewhere.

    :param foreign: who else has ports of the host, or names, on the engine.
    :param missing: the networks and volumes that are to be made, for people.
    """

    instances: Mapping[str, Sequence[Instance]] = field(default_factory=dict)
    astray: frozenset[str] = frozenset()
    foreign: Sequence[Holder] = ()
    missing: Sequence[str] = ()

    def of(self, service: str) -> Sequence[Instance]:
        """Return the containers of a service."""
        return self.instances.get(service, ())


@dataclass(frozen=True)
class Decision:
    """What becomes of one service: whom to keep, whom to replace and why, how many to add."""

    keep: tuple[Instance, ...]
    olds: tuple[tuple[Instance, str], ...]
    news: int

    @property
    def changed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.olds or self.news)

    @property
    def alive(self) -> tuple[Instance, ...]:
        """Those of the former ones that run, or that the engine starts again and again."""
        return tuple(one for one, _why in self.olds if one.container.alive)

    @property
    def proved(self) -> bool:
        """Whether those that are kept have been watched: no former ones are left beside them."""
        return all(why in {SURPLUS, ORPHANED} for _one, why in self.olds)

    @property
    def first(self) -> str:
        """The id of the container that others refer to; empty if that is a new one.

        Compose takes the first by name, of those that there will be.
        """
        new = slots(self.keep, [one for one, _why in self.olds], self.news)
        numbers = [str(slot.number) for slot in new]
        kept = min(self.keep, key=lambda one: str(one.number), default=None)
        if kept is None or any(number < str(kept.number) for number in numbers):
            return ""
        return kept.id

    @property
    def running(self) -> tuple[Instance, ...]:
        """Those that are kept, and those of the former ones that run."""
        return self.keep + self.alive

    def resting(self, service: Service) -> tuple[Instance, ...]:
        """Those that a run which was killed has stopped, and that may have to serve again."""
        found = self._displaced(service, [*self.keep, *(one for one, _why in self.olds)])
        if found or service.ends or service.restart == NO_RESTART:
            return found
        resting = [one for one in self._exited if one.container.restart == NO_RESTART]
        # There may be older ones that could not be removed.
        resting.sort(key=lambda one: one.container.finished, reverse=True)
        return tuple(resting[: max(1, service.scale)])

    def stopped_midway(self, service: Service) -> tuple[Instance, ...]:
        """Those of :meth:`resting` that the killed run had not replaced: no new one runs."""
        if not self.running:
            return self.resting(service)
        return self._displaced(service, [one for one, _why in self.olds if not one.container.alive])

    def replacing(self, resting: Sequence[Instance]) -> frozenset[str]:
        """The ids of those that run in the place of *resting*: a killed run has started them.

        They were made while those ran or later, and started once those had ended. What is left of
        the same release was made before any of it was started.
        """
        return frozenset(
            one.id
            for one in self.running
            for former in (other.container for other in resting)
            if former.started < one.container.created and former.finished <= one.container.started
        )

    @property
    def _exited(self) -> list[Instance]:
        return [one for one, _why in self.olds if one.container.status == EXITED]

    def _displaced(self, service: Service, others: Sequence[Instance]) -> tuple[Instance, ...]:
        """Those that ran when one of *others* was created, and ended before it was started."""
        if service.ends:
            return ()
        return tuple(
            one
            for one in self._exited
            if any(one.container.made_way_for(other.container) for other in others)
        )


def decide(wanted: Wanted, state: State) -> dict[str, Decision]:
    """Return what becomes of each service, in the order in which they depend on each other."""
    decisions: dict[str, Decision] = {}
    for level in wanted.project.levels(wanted.project.services):
        for name in level:
            service = wanted.project.services[name]
            keep: list[Instance] = []
            olds: list[tuple[Instance, str]] = []
            for one in state.of(name):
                why = ORPHANED if service.orphan else shortcoming(wanted, service, one, decisions)
                if not why and len(keep) == service.scale:
                    why = SURPLUS
                if why:
                    olds.append((one, why))
                else:
                    keep.append(one)
            decisions[name] = Decision(tuple(keep), tuple(olds), service.scale - len(keep))
    return decisions


def shortcoming(
    wanted: Wanted, service: Service, one: Instance, decisions: Mapping[str, Decision]
) -> str:
    """Return why a container cannot stay, or an empty string."""
    seen = one.container
    told = f" ({'; '.join(one.changes)})" if one.changes else ""
    if seen.status == "created":
        return "it was never started"
    if not one.good(service.ends) and not one.starting:
        if seen.running:
            return "it is unhealthy"
        return f"it is {seen.status} (exit code {seen.exit_code})"
    if seen.image_id not in wanted.images[service.name]:
        return f"its image changed{told}"
    refers = references(service, one)
    if refers is None or one.hash != one.due:
        return f"its configuration changed{told}"
    if one.id in wanted.outdated:
        return wanted.outdated[one.id]
    for name, container_id in refers.items():
        if container_id != decisions[name].first:
            return f"it uses {name}, which is replaced"
    for name, how in service.depends_on.items():
        if how.get("restart") and name not in refers and _follows(one, decisions[name]):
            return f"it shall be restarted with {name}, which is replaced"
    return ""


def _follows(one: Instance, needed: Decision) -> bool:
    """Whether what a container needs is replaced now, or has been since it was started."""
    return bool(needed.news) or any(
        kept.container.created > one.container.started for kept in needed.keep
    )
