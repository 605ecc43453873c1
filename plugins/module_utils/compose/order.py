# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In which order containers are stopped and started when they are replaced: pure.

Services start in the order of their dependencies. Whoever has a port of the host, or the name, that
a new container needs is stopped before that one starts, whatever depends on whom.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..engine.inspect import CREATED
from ..errors import DeliveryError
from .claims import Holder, blockers
from .decision import Decision, State, Wanted
from .engine_state import Instance
from .service import Service


class Taken(DeliveryError):
    """A port of the host, or a name, is somebody's who is not to be replaced."""

    kind = "taken"


@dataclass(frozen=True)
class Group:
    """Containers that are stopped side by side, and the services that then start side by side."""

    stop: tuple[str, ...]
    start: tuple[str, ...]


def order(
    wanted: Wanted, decisions: Mapping[str, Decision], levels: Sequence[Sequence[str]]
) -> list[list[Group]]:
    """Return the groups of each level, which are worked on side by side; there may be none.

    :param levels: the services to replace in turn, those first that others depend on.
    :raises Taken: what a new container needs cannot be had.
    """
    names = [name for level in levels for name in level]
    services = wanted.project.services
    orphans = [name for name in decisions if services[name].orphan]
    leaving = {one.id: (name, one) for name in [*names, *orphans] for one in decisions[name].alive}
    stopped: set[str] = set()
    ordered_levels = []
    for level in levels:
        found = []
        for name in level:
            stop = {one.id for one in decisions[name].alive}
            if decisions[name].news:
                others = [one for one in leaving.values() if one[1].id not in stop]
                needed = _needed(services[name], decisions[name], others)
                writers = {
                    one.id
                    for other, one in others
                    if services[other].orphan and wanted.shares_data(services[name], one)
                }
                stop |= needed | writers
            found.append(({name}, stop))
        groups = []
        for side_by_side, stop in _merged(found, leaving):
            start = tuple(sorted(name for name in side_by_side if decisions[name].news))
            ordered = tuple(sorted(stop - stopped, key=lambda one: leaving[one][1].name))
            stopped |= stop
            if start or ordered:
                groups.append(Group(ordered, start))
        ordered_levels.append(groups)
    return ordered_levels


def _needed(
    service: Service, decision: Decision, others: Iterable[tuple[str, Instance]]
) -> set[str]:
    """Return the ids of those *others* that have what the new containers need."""
    left = [_holder(one) for _name, one in others]
    needed = {
        one.id for one in left if service.container_name and one.name == service.container_name
    }
    # One after the other, since a range may be free once one of several has gone.
    while found := blockers(service.ports, decision.news, left):
        gone = {one.id for one in found.values()}
        needed |= gone
        left = [one for one in left if one.id not in gone]
    return needed


def _merged(
    parts: Sequence[tuple[set[str], set[str]]], leaving: Mapping[str, tuple[str, Instance]]
) -> list[tuple[set[str], set[str]]]:
    """Join what stops the same containers, so that nobody starts before they have ended."""
    merged: list[tuple[set[str], set[str]]] = []
    for part in parts:
        joined = [one for one in merged if one[1] & part[1]]
        services = part[0].union(*(one[0] for one in joined))
        stop = part[1].union(*(one[1] for one in joined))
        merged = [*(one for one in merged if one not in joined), (services, stop)]
    return sorted(merged, key=lambda part: sorted(part[0]))


def _holder(one: Instance) -> Holder:
    return Holder(one.name, one.ports if one.container.alive else (), one.name, one.id)


def check_claims(wanted: Wanted, state: State, decisions: Mapping[str, Decision]) -> None:
    """Make sure that new containers can have their ports and names once former ones have ended.

    :raises Taken: they cannot.
    """
    leaving = {one.id for decision in decisions.values() for one, _why in decision.olds}
    ours = {one.id for decision in decisions.values() for one in decision.keep} | leaving
    staying = [
        _holder(one) for ones in state.instances.values() for one in ones if one.id not in leaving
    ]
    staying += [one for one in state.foreign if not one.id or one.id not in ours]
    # Those of services that are in the files, but not in this run, share it already.
    known = {*decisions, *(wanted.project.model.get("services") or {})}
    orphans = [one for name, ones in state.instances.items() if name not in known for one in ones]
    promised: list[Holder] = []
    for name, decision in decisions.items():
        service = wanted.project.services[name]
        if not decision.news:
            continue
        data = wanted.hows[name].data if name in wanted.hows else ""
        fresh = all(one.container.status == CREATED for one, _why in decision.olds)
        for one in orphans if data and fresh else ():
            if one.container.alive and wanted.shares_data(service, one):
                raise Taken(
                    f"service {name} keeps data in {data}, and {one.name} uses it, whose service "
                    "is no longer in the compose files",
                    next_step=f"If {name} takes its place, set remove_orphans. If both may write "
                    f"to it at a time, write `x-delivery: {{shared: true}}` below {name}.",
                )
        for port, holder in blockers(service.ports, decision.news, [*staying, *promised]).items():
            raise Taken(
                f"service {name} needs {port} of the host, which {holder.who} has",
                next_step="Give one of them another port, or stop the one that has it. What is no "
                "longer in the compose files goes with remove_orphans.",
            )
        for port in service.ports:
            if port.last - port.first + 1 < decision.news:
                raise Taken(
                    f"service {name} needs {port} of the host for each of {decision.news} "
                    "containers",
                    next_step="Scale it to 1, or let the engine pick the ports.",
                )
        fixed = tuple(port for port in service.ports if port.first == port.last)
        promised.append(Holder(f"service {name}", fixed))
        for holder in state.foreign if service.container_name else ():
            if holder.name == service.container_name and holder.id not in ours:
                raise Taken(
                    f"service {name} has container_name {holder.name}, which {holder.who} has",
                    next_step="Remove or rename that container, or give the service another name.",
                )
