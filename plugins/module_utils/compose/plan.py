# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the containers that stand to those that are wanted: pure.

New containers are created beside the former ones, which are removed only when all is well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from ..change import Step
from ..engine.containers import NO_RESTART
from ..errors import enumerate_words
from .decision import Decision, State, Wanted, decide
from .engine_state import Instance
from .naming import due_name
from .order import Group, check_claims, order
from .project import Project
from .service import Service
from .suitable import Unsuitable

CREATE = "create"
FILL = "fill"
REPLACE = "replace"
START = "start"
RETIRE = "retire"
ROUTE = "route"
RENAME = "rename"
POLICY = "policy"
SOAK = "soak"
REMOVE = "remove"


def plan(wanted: Wanted, state: State) -> list[Step]:
    """Return the steps from *state* to what is wanted.

    :raises DeliveryError: it cannot be reached.
    """
    decisions = decide(wanted, state)
    check_routed(wanted.project.services, wanted.routed)
    check_claims(wanted, state, decisions)
    live = {
        name: decision
        for name, decision in decisions.items()
        if not wanted.project.services[name].static
    }
    steps = [*_create(wanted.project, decisions), *_fill(wanted.project, decisions)]
    steps += _policy(wanted.project, decisions)
    replacing, late = _live_steps(wanted, live)
    steps += replacing
    astray = [name for name in sorted(wanted.routed & set(live)) if name in state.astray]
    steps += [_route(name) for name in astray if _route(name) not in steps]
    for name, decision in decisions.items():
        steps += _rename(wanted.project.services[name], decision)
    steps += _soak(wanted, live)
    olds = {name: [one.id for one, _why in d.olds] for name, d in decisions.items() if d.olds}
    if olds:
        names = [one.name for d in decisions.values() for one, _why in d.olds]
        late.append(Step(REMOVE, f"remove {enumerate_words(names)}", {"olds": olds}))
    return steps + late


def check_routed(services: Mapping[str, Service], routed: Iterable[str]) -> None:
    """Make sure that no route is left without a container behind it.

    :raises Unsuitable: a service that the router sends traffic to is to have none.
    """
    for name in sorted(routed):
        if not services[name].scale:
            raise Unsuitable(
                f"service {name} is scaled to 0, and the router sends traffic to it",
                next_step="To take it out of service, remove its route with proxy_register "
                "(state absent) and its row in router.services first.",
            )


def _create(project: Project, decisions: Mapping[str, Decision]) -> list[Step]:
    """Return the step that creates all candidates, those first that others need the ids of."""
    news = {name: decision.news for name, decision in decisions.items() if decision.news}
    if not news:
        return []
    waves: list[dict[str, int]] = []
    left = dict(news)
    while left:
        wave = {
            name: count
            for name, count in left.items()
            if not project.services[name].references & (set(left) - {name})
        }
        # References in a circle are refused by compose; they must not keep us here all the same.
        wave = wave or dict(left)
        waves.append(wave)
        left = {name: count for name, count in left.items() if name not in wave}
    what = [f"{count} of {name}" if count > 1 else name for name, count in news.items()]
    return [Step(CREATE, f"create {enumerate_words(what)}", {"waves": waves})]


def _fill(project: Project, decisions: Mapping[str, Decision]) -> list[Step]:
    """Return the step that fills data-only containers; nobody uses them yet."""
    names = [n for n, d in decisions.items() if project.services[n].static and d.news]
    if not names:
        return []
    return [Step(FILL, f"fill {enumerate_words(names)}", {"services": names})]


def _policy(project: Project, decisions: Mapping[str, Decision]) -> list[Step]:
    """Return the step that gives back their restart policy to those that a killed run has left."""
    found = {
        one.id: project.services[name].restart
        for name, decision in decisions.items()
        for one in decision.keep
        if one.container.restart == NO_RESTART and project.services[name].restart != NO_RESTART
    }
    if not found:
        return []
    names = [one.name for d in decisions.values() for one in d.keep if one.id in found]
    return [Step(POLICY, f"let the engine restart {enumerate_words(names)}", {"policies": found})]


def _live_steps(wanted: Wanted, decisions: Mapping[str, Decision]) -> tuple[list[Step], list[Step]]:
    """Return the steps that replace services in turn or in lock-step, in their order.

    The second part is what waits for the soak.
    """
    names = [name for name, decision in decisions.items() if decision.news or decision.alive]
    levels = wanted.project.levels(names)
    in_turn = [[name for name in level if not wanted.rolls(name)] for level in levels]
    steps: list[Step] = []
    late: list[Step] = []
    for level, groups in zip(levels, order(wanted, decisions, in_turn), strict=True):
        if groups:
            steps.append(_replace(groups, decisions))
        # At once: until the router follows, its clients find nobody.
        steps += [_route(n) for n in level if n in wanted.routed and not wanted.rolls(n)]
        for name in filter(wanted.rolls, level):
            first, last = roll(name, decisions[name], name in wanted.routed)
            steps += first
            late += last
    gone = {
        one
        for step in steps
        if step.action == REPLACE
        for group in step.detail["groups"]
        for one in group["stop"]
    }
    return steps, [step for step in late if step.detail.get("id") not in gone]


def _replace(groups: Sequence[Group], decisions: Mapping[str, Decision]) -> Step:
    former = {one.id: one for decision in decisions.values() for one in decision.alive}
    stopped = [former[one].name for group in groups for one in group.stop]
    fresh = [name for group in groups for name in group.start if not decisions[name].alive]
    said = [f"replace {enumerate_words(stopped)}"] if stopped else []
    said += [f"start {enumerate_words(fresh)}"] if fresh else []
    summary = enumerate_words(said) or _started(groups)
    return Step(REPLACE, summary, {"groups": [asdict(group) for group in groups]})


def _started(groups: Sequence[Group]) -> str:
    return f"start {enumerate_words([name for group in groups for name in group.start])}"


def _route(name: str) -> Step:
    return Step(ROUTE, f"send the traffic of {name} to it", {"service": name})


def _soak(wanted: Wanted, decisions: Mapping[str, Decision]) -> list[Step]:
    """Return the step that watches new containers while the former ones are still there.

    Also those that a run has started which was killed before it had watched them. ``back`` has the
    former containers of these, by service.
    """
    kept, back, names = {}, {}, []
    for name, decision in decisions.items():
        service = wanted.project.services[name]
        unproved = () if decision.proved else decision.keep
        if service.ends or not (decision.news or unproved):
            continue
        names.append(name)
        kept[name] = [one.id for one in unproved]
        if not decision.news:
            good = [one.id for one, _why in decision.olds if one.container.well]
            back[name] = good + [one.id for one in decision.resting(service)]
    if not names or not wanted.soak:
        return []
    said = f"watch {enumerate_words(names)} for {wanted.soak:g} s"
    return [
        Step(SOAK, said, {"services": kept, "back": {n: ids for n, ids in back.items() if ids}})
    ]


def roll(name: str, decision: Decision, routed: bool) -> tuple[list[Step], list[Step]]:
    """Return the steps of one service in lock-step: one more serves before one less does.

    The last former containers are stopped, and lose their traffic first, once the new ones have
    been watched; these are the second part.
    """
    steps: list[Step] = []
    leaving = list(decision.alive)
    for slot in range(decision.news):
        steps.append(Step(START, f"start one of {name}", {"service": name, "slot": slot}))
        if leaving and slot + 1 < decision.news:
            steps.append(_retire(name, leaving.pop(0)))
    if leaving and routed and not decision.proved:
        steps.append(_route(name))
    return steps, [_retire(name, one) for one in leaving]


def _retire(name: str, one: Instance) -> Step:
    return Step(RETIRE, f"retire {one.name}", {"service": name, "id": one.id})


def _rename(service: Service, decision: Decision) -> list[Step]:
    """Return the steps that give containers their names, if a run that was killed did not."""
    return [
        Step(RENAME, f"name {one.name} {wanted}", {"id": one.id, "name": wanted, "was": one.name})
        for one in decision.keep
        if (wanted := due_name(service, one)) != one.name
    ]
