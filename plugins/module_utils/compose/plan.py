# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the containers that stand to those that are wanted: pure.

A service's good containers are kept. Of the others each is replaced by a candidate, which is
created beside it; and only when all is well are the former ones removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..change import Step
from ..errors import enumerate_words
from .engine_state import Instance
from .project import Project, Service

CREATE = "create"
FILL = "fill"
REPLACE = "replace"
START = "start"
RETIRE = "retire"
ROUTE = "route"
RENAME = "rename"
REMOVE = "remove"

RECREATE = "recreate"
ROLLING = "rolling"
BLUE_GREEN = "blue_green"


@dataclass(frozen=True)
class Wanted:
    """What shall stand.

    :param images: by service, the ids of the images that its containers may have; none where its
        image is going to be another one.
    :param routed: the services whose containers a router sends traffic to.
    """

    project: Project
    images: Mapping[str, frozenset[str]]
    strategy: str = RECREATE
    routed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class State:
    """What stands: containers by service, and the services whose route leads elsewhere."""

    instances: Mapping[str, Sequence[Instance]] = field(default_factory=dict)
    astray: frozenset[str] = frozenset()

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
    def serving(self) -> tuple[Instance, ...]:
        """Those of the former ones that still run."""
        return tuple(one for one, _why in self.olds if one.container.running)


def decide(wanted: Wanted, state: State) -> dict[str, Decision]:
    """Return what becomes of each service, in the order in which they depend on each other."""
    decisions: dict[str, Decision] = {}
    for level in wanted.project.levels(wanted.project.services):
        for name in level:
            service = wanted.project.services[name]
            keep: list[Instance] = []
            olds: list[tuple[Instance, str]] = []
            for one in state.of(name):
                why = shortcoming(wanted, service, one, decisions)
                if not why and len(keep) == service.scale:
                    why = "one more than wanted"
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
    if seen.status == "created":
        return "it was never started"
    if not one.good(service.ends) and not one.starting:
        if seen.running:
            return "it is unhealthy"
        return f"it is {seen.status} (exit code {seen.exit_code})"
    if seen.image_id not in wanted.images[service.name]:
        return "its image changed"
    refers = references(service, one)
    if refers is None or one.hash not in service.hashes(refers, one.inherited):
        return "its configuration changed"
    for name, container_id in refers.items():
        if container_id not in {kept.id for kept in decisions[name].keep}:
            return f"it uses {name}, which is replaced"
    for name, how in service.depends_on.items():
        if how.get("restart") and name not in refers and decisions[name].olds:
            return f"it shall be restarted with {name}, which is replaced"
    return ""


def references(service: Service, one: Instance) -> dict[str, str] | None:
    """Return the ids that a container refers to, by service; None where it has other ones."""
    written = service.spec.get("volumes_from") or ()
    if len(written) != len(one.volumes_from) or set(service.shares) - set(one.shares):
        return None
    found = {
        entry.split(":")[0]: container_id
        for entry, container_id in zip(written, one.volumes_from, strict=True)
        if not entry.startswith("container:")
    }
    found.update({name: one.shares[kind] for kind, name in service.shares.items()})
    return found


def plan(wanted: Wanted, state: State) -> list[Step]:
    """Return the steps from *state* to what is wanted."""
    decisions = decide(wanted, state)
    steps = [*_create(wanted.project, decisions), *_fill(wanted.project, decisions)]
    live = {
        name: decision
        for name, decision in decisions.items()
        if not wanted.project.services[name].static
    }
    if wanted.strategy == ROLLING:
        for name, decision in live.items():
            steps += roll(name, decision)
    else:
        for level in wanted.project.levels(
            name for name, decision in live.items() if decision.news or decision.serving
        ):
            steps.append(_replace({name: live[name] for name in level}))
    for name in sorted(wanted.routed & set(live)):
        # Rolling has told the router at every step.
        moved = live[name].news or live[name].serving
        if name in state.astray or (moved and wanted.strategy == RECREATE):
            steps.append(Step(ROUTE, f"send the traffic of {name} to it", {"service": name}))
    for name, decision in decisions.items():
        steps += _rename(wanted.project.services[name], decision)
    olds = {name: [one.id for one, _why in d.olds] for name, d in decisions.items() if d.olds}
    if olds:
        names = [one.name for d in decisions.values() for one, _why in d.olds]
        steps.append(Step(REMOVE, f"remove {enumerate_words(names)}", {"olds": olds}))
    return steps


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


def _replace(decisions: Mapping[str, Decision]) -> Step:
    said = []
    for name, decision in decisions.items():
        if decision.serving:
            said.append(f"replace {enumerate_words([one.name for one in decision.serving])}")
        else:
            said.append(f"start {name}")
    detail = {
        name: {"stop": [one.id for one in decision.serving], "start": decision.news}
        for name, decision in decisions.items()
    }
    return Step(REPLACE, enumerate_words(said), {"services": detail})


def roll(name: str, decision: Decision) -> list[Step]:
    """Return the steps of one service in lock-step: one more serves before one less does."""
    steps: list[Step] = []
    leaving = list(decision.serving)
    for slot in range(decision.news):
        steps.append(Step(START, f"start one of {name}", {"service": name, "slot": slot}))
        if leaving:
            steps.append(_retire(name, leaving.pop(0)))
    return steps + [_retire(name, one) for one in leaving]


def _retire(name: str, one: Instance) -> Step:
    return Step(RETIRE, f"retire {one.name}", {"service": name, "id": one.id})


def _rename(service: Service, decision: Decision) -> list[Step]:
    """Return the step that gives the only container its name, where a broken run did not."""
    wanted = service.container_name
    return [
        Step(RENAME, f"name {one.name} {wanted}", {"id": one.id, "name": wanted, "was": one.name})
        for one in decision.keep
        if wanted and one.name != wanted
    ]


def describe(state: State) -> str:
    """Show what stands, for diff mode."""
    lines = []
    for name in sorted(state.instances):
        for one in state.instances[name]:
            seen = one.container
            health = f", {seen.health}" if seen.health else ""
            lines.append(
                f"{name}: {one.name} ({seen.status}{health}) image {short(seen.image_id)} "
                f"container {one.id[:12]}"
            )
    return "".join(f"{line}\n" for line in lines)


def expected(wanted: Wanted, state: State) -> str:
    """Show what will stand, and why; of the environment the names only."""
    lines = []
    decisions = decide(wanted, state)
    for name in sorted(decisions):
        decision = decisions[name]
        service = wanted.project.services[name]
        for one in decision.keep:
            seen = one.container
            health = f", {seen.health}" if seen.health else ""
            lines.append(
                f"{name}: {one.name} ({seen.status}{health}) image {short(seen.image_id)} "
                f"container {one.id[:12]}"
            )
        ids = sorted(short(found) for found in wanted.images[name])
        why = enumerate_words(dict.fromkeys(why for _one, why in decision.olds))
        for _slot in range(decision.news):
            names = ", ".join(service.environment_names)
            lines.append(
                f"{name}: new, image {ids[0] if ids else f'{service.image} as it will be'}"
                + (f", environment {names}" if names else "")
                + (f" ({why})" if why else "")
            )
    return "".join(f"{line}\n" for line in lines)


def short(image_id: str) -> str:
    """Return an image's id as people read it."""
    return image_id.removeprefix("sha256:")[:12]
