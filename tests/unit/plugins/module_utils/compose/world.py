# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A project and an engine that live in memory, for the properties of plans."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.immutable.delivery.plugins.module_utils.change import Step
from ansible_collections.immutable.delivery.plugins.module_utils.compose.decision import (
    RECREATE,
    State,
    Wanted,
    decide,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.engine_state import (
    Instance,
    Mount,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.hashing import with_due
from ansible_collections.immutable.delivery.plugins.module_utils.compose.naming import (
    aside,
    due_name,
    slots,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.plan import (
    CREATE,
    FILL,
    REMOVE,
    RENAME,
    REPLACE,
    RETIRE,
    START,
    plan,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.project import Project
from ansible_collections.immutable.delivery.plugins.module_utils.compose.service import Service
from ansible_collections.immutable.delivery.plugins.module_utils.engine.inspect import Container

IMAGE = "sha256:new"


def told(specs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What stands for compose's hashes: another one for each configuration."""
    return [repr(sorted((k, repr(v)) for k, v in spec.items() if k != "scale")) for spec in specs]


def service(name: str, *, scale: int = 1, static: bool = False, **spec: Any) -> Service:
    """A service as it is wanted."""
    given = {"image": name, **spec}
    return Service(name, given, name, scale, *told([given]), ends=static, static=static)


def wanted(*services: Service, strategy: str = RECREATE, **more: Any) -> Wanted:
    """What shall stand: these services, each with the new image."""
    named = {one.name: one for one in services}
    model = {"services": {name: one.spec for name, one in named.items()}}
    images = {name: frozenset({IMAGE}) for name in named}
    return Wanted(Project("p", model, named), images, strategy, **more)


def instance(
    one: Service,
    number: int = 1,
    *,
    status: str = "running",
    health: str = "",
    image: str = IMAGE,
    hash_: str = "",
    refers: Mapping[str, str] | None = None,
    exit_code: int = 0,
    mounts: Sequence[Mount] = (),
    name: str = "",
    restart: str = "no",
    created: int = 0,
    started: int = 0,
    finished: int = 0,
    restarts: int = 0,
    id_: str = "",
) -> Instance:
    """A container of that service; as it is wanted where nothing else is said."""
    refers = refers or {}
    container = Container(
        id=id_ or f"{one.name}-{number}",
        name=name or one.container_name or f"p-{one.name}-{number}",
        image_id=image,
        status=status,
        health=health,
        exit_code=exit_code,
        restart=restart,
        created=created,
        started=started,
        finished=finished,
        restarts=restarts,
    )
    (due,) = told([one.resolved(refers) if refers else one.spec])
    return Instance(
        container,
        "p",
        one.name,
        number,
        hash_ or due,
        mounts=tuple(mounts),
        volumes_from=tuple(refers[source] for source in one.volumes_from if source in refers),
        shares={kind: refers[n] for kind, n in one.shares.items() if n in refers},
        # Which port of a range it got does not matter to these tests.
        ports=tuple(port for port in one.ports if port.first == port.last),
        due=due,
    )


class World:
    """Runs steps as the engine would."""

    def __init__(self, want: Wanted, instances: Mapping[str, Sequence[Instance]]) -> None:
        self.want = want
        self.all = with_due(told, want.project.services, instances)
        self.start = State({name: list(ones) for name, ones in self.all.items()})
        self.made: dict[str, list[str]] = {}
        self.touched: set[str] = set()
        self.count = 0

    @property
    def state(self) -> State:
        return State(self.all)

    def serving(self, name: str) -> int:
        """How many containers of a service would answer."""
        return sum(one.container.well for one in self.all.get(name, ()))

    def run(self) -> list[Step]:
        """Run the whole plan."""
        steps = plan(self.want, self.start)
        for step in steps:
            self.apply(step)
        return steps

    def apply(self, step: Step) -> None:
        detail = step.detail
        if step.action == CREATE:
            for wave in detail["waves"]:
                self._create(wave)
        elif step.action == FILL:
            for name in detail["services"]:
                self._give_names(name)
                self._set(self.made[name], status="exited")
        elif step.action == REPLACE:
            for group in detail["groups"]:
                self._set(group["stop"], status="exited", exit_code=0)
                for name in group["start"]:
                    self._give_names(name)
                    self._set(self.made[name], status="running")
                    self._check_claims()
        elif step.action == START:
            self._set([self.made[detail["service"]][detail["slot"]]], status="running")
            self._give_names(detail["service"], self.made[detail["service"]][: detail["slot"] + 1])
        elif step.action == RETIRE:
            self._set([detail["id"]], status="exited")
            self._give_names(detail["service"])
        elif step.action == RENAME:
            self._give_name(detail["id"], detail["name"])
        elif step.action == REMOVE:
            gone = {one for ids in detail["olds"].values() for one in ids}
            self.touched |= gone
            self.all = {n: [o for o in ones if o.id not in gone] for n, ones in self.all.items()}

    def _check_claims(self) -> None:
        """A port of the host is one container's, and so is a name."""
        there = [one for ones in self.all.values() for one in ones]
        alive = [one for one in there if one.container.alive]
        for one, other in itertools.combinations(alive, 2):
            assert not any(p.overlaps(q) for p in one.ports for q in other.ports), (one, other)
        names = [one.name for one in there]
        assert len(names) == len(set(names)), names

    def _create(self, wave: Mapping[str, int]) -> None:
        kept = decide(self.want, self.start)
        refers = {name: made[0] for name, made in self.made.items()}
        refers.update({name: one.first for name, one in kept.items() if one.first})
        for name, count in wave.items():
            one = self.want.project.services[name]
            assert all(needed in refers for needed in one.references), (name, refers)
            ones = self.all.setdefault(name, [])
            olds = [old for old, _why in kept[name].olds]
            for slot in slots(kept[name].keep, olds, count):
                self.count += 1
                id_ = f"{name}-new-{self.count}"
                (label,) = told([one.resolved(refers)])
                new = instance(
                    one,
                    slot.number,
                    status="created",
                    hash_=label,
                    refers={source: refers[source] for source in one.references},
                    name=aside(
                        one.container_name or f"p-{name}-{slot.number}", f"{self.count:012}"
                    ),
                    id_=id_,
                )
                ones.append(new)
                self.made.setdefault(name, []).append(new.id)

    def _give_names(self, name: str, ids: Sequence[str] | None = None) -> None:
        service = self.want.project.services[name]
        for one in [one for one in self.all[name] if one.id in (ids or self.made.get(name, ()))]:
            due = due_name(service, one)
            holders = [o for ones in self.all.values() for o in ones if o.name == due]
            if service.static or not any(other.container.alive for other in holders):
                self._give_name(one.id, due)

    def _give_name(self, container_id: str, name: str) -> None:
        for number, one in enumerate([one for ones in self.all.values() for one in ones]):
            if one.name == name and one.id != container_id:
                self._set([one.id], name=aside(name, f"f{number:011}"))
        self._set([container_id], name=name)

    def _set(self, ids: Sequence[str], **fields: Any) -> None:
        self.touched |= set(ids)
        for ones in self.all.values():
            for at, one in enumerate(ones):
                if one.id in ids:
                    ones[at] = replace(one, container=replace(one.container, **fields))
