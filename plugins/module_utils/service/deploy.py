# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The deploy of a service: the steps of the plan, each with what takes it back."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ..change import OnUndo, Step
from ..deadline import Deadline, Pace
from ..engine.health import ContainerFailed, wait_well
from ..engine.inspect import Container
from ..errors import DeliveryError, enumerate_words
from ..routers.canary import Candidate
from ..routers.routing import Routing
from . import canary, staging, testing
from . import plan as steps
from .containers import Engine
from .model import (
    CONFIG,
    DIGEST,
    HELPS,
    IMAGE,
    INSTANCES,
    REHEARSAL,
    RELEASE,
    ROUTE,
    SALT,
    SERVICE,
    TESTS,
    UNPROVED,
    Observed,
    Shape,
    Wanted,
    live,
)
from .observe import Observer
from .plan import Intent, Plan

PACE = Pace(interval=0.25, first=0.0, growth=1.5)
# The gap of a fixed port is as long as it takes to see that it is over.
FAST = Pace(interval=0.05)


class NotAsPlanned(DeliveryError):
    """What stands after a deploy is not what was planned."""

    kind = "not_as_planned"


@dataclass
class Deploy:
    """Brings a service to what is wanted; a :class:`Change`.

    :param tests: how candidates are tested; its image is filled in when it is known.
    :param secrets: what must not be shown of a log.
    """

    wanted: Wanted
    observer: Observer
    tests: testing.Tests | None = None
    pull_timeout: float = 600.0
    health_timeout: float = 60.0
    stop_timeout: int = 30
    secrets: Collection[str] = field(default=(), repr=False)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.engine: Engine = self.observer.engine
        self.planned = Plan(Intent())
        self.before = Observed()
        self.said: dict[str, Any] | None = None
        self.downtime = 0.0
        # The new containers by the names that they get once they are approved.
        self.made: dict[str, str] = {}
        self.rehearsal = ""
        # Whether anybody may have come to the new ones by the router.
        self.routed = False
        self.route: tuple[str, ...] | None = None
        self.candidate: Candidate | None = None
        self._steps: dict[str, Callable[[Step, OnUndo], None]] = {
            steps.CLEAR: self._clear,
            steps.PULL: self._pull,
            steps.REVIVE: self._revive,
            steps.REHEARSE: self._rehearse,
            steps.CREATE: self._create,
            steps.START: self._start,
            steps.REPLACE: self._replace,
            steps.HEALTH: self._health,
            steps.TEST: self._test,
            steps.APPROVE: self._approve,
            steps.ROUTE: self._route,
            steps.UNROUTE: self._unroute,
            canary.MARK: partial(staging.mark, self),
            canary.STAGE: partial(staging.stage, self),
            steps.UNSTAGE: partial(staging.unstage, self),
        }

    @property
    def routing(self) -> Routing:
        """The service at its router, which only what has one asks for."""
        if self.observer.routing is None:
            raise DeliveryError(f"there is no router of {self.wanted.name}")
        return self.observer.routing

    def observe(self) -> Observed:
        """Look at the engine, the router and the registry."""
        self.before = self.observer.observe()
        self.route, self.candidate = self.before.route, self.before.candidate
        return self.before

    def plan(self, observed: Observed) -> Sequence[Step]:
        """Return the steps up to the switch, and its proof."""
        self.planned = canary.plan_for(observed, self.wanted)
        return self.planned.steps

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step."""
        if step is self.planned.steps[0]:
            on_undo(lambda: None, self._as_before())
        self._steps[step.action](step, on_undo)

    def verify(self, observed: Observed, applied: Sequence[Step]) -> Observed:
        """Look whether those that were planned run, and return everything that stands.

        :raises NotAsPlanned: one of them does not.
        """
        after = self.look()
        if self.wanted.absent:
            return after
        ids = self._final_ids()
        well = {member.id for member in after.members if member.well}
        if not well.issuperset(ids):
            raise NotAsPlanned(
                f"an instance of {self.wanted.name} does not run any more, though it was healthy",
                next_step="Look who else works on this engine, then run this again.",
            )
        return after

    def look(self) -> Observed:
        """Return what stands now; the registry and the route's owner are not asked again."""
        now = tuple(self.observer.members())
        return Observed(now, self.route, self.before.release, candidate=self.candidate)

    def describe(self, observed: Observed) -> str:
        """Show the instances that run and what is kept."""
        return _shown(
            (one.name.removesuffix(UNPROVED), one.status + staging.share(observed, one))
            for one in observed.members
            if not one.helps
        )

    def expected(self, observed: Observed, planned: Sequence[Step]) -> str:
        """Show what will stand."""
        intent = self.planned.intent
        gone = {*intent.remove, *intent.left}
        will = replace(observed, candidate=staging.planned_share(self, observed))
        staged = any(step.action == canary.STAGE for step in self.planned.steps)
        new = "running" + (", candidate with 0 %" if staged else "")
        coming = {member.name: new for member in intent.start}
        coming.update(dict.fromkeys(intent.create, new))
        coming.update({member.name: "exited" for member in intent.stop})
        rest = {
            m.name: m.status + staging.share(will, m)
            for m in observed.members
            if m not in gone and not m.helps
        }
        shown = {**rest, **coming}.items()
        return _shown((name.removesuffix(UNPROVED), status) for name, status in shown)

    # The steps, in the order of a deploy.

    def _clear(self, step: Step, on_undo: OnUndo) -> None:
        for member in self.planned.intent.left:
            if member.running and not member.helps:
                # A rollback that was broken off may have left it with requests.
                self.engine.stop(member.id, self.stop_timeout)
            self.engine.remove(member.id)

    def _pull(self, step: Step, on_undo: OnUndo) -> None:
        images, observer = self.observer.images, self.observer
        names = []
        if self.planned.intent.create and not self.before.image_here:
            names.append(observer.image_name)
        if not observer.find_tests() and observer.tests_name not in names:
            names.append(observer.tests_name)
        deadline = Deadline(self.pull_timeout)
        for name in names:
            on_undo(partial(images.forget, name))
            images.pull(name, deadline)

    def _revive(self, step: Step, on_undo: OnUndo) -> None:
        # It may be why somebody deploys that it does not start any more.
        with suppress(DeliveryError):
            for container in step.detail["ids"]:
                self.engine.start(container)

    def _rehearse(self, step: Step, on_undo: OnUndo) -> None:
        name = f"{self._stem}.{REHEARSAL}"
        on_undo(self._end_rehearsal, f"{name} was removed")
        self.rehearsal = name
        self._make(name, None, helps=REHEARSAL)
        self.engine.start(name)
        self._wait([self._id_of(name)])

    def _end_rehearsal(self) -> None:
        if self.rehearsal:
            self.engine.stop(self.rehearsal, self.stop_timeout)
            self.engine.remove(self.rehearsal)
            self.rehearsal = ""

    def _create(self, step: Step, on_undo: OnUndo) -> None:
        self._end_rehearsal()
        for name in self.planned.intent.create:
            unproved = f"{name}{UNPROVED}"
            # Noted first: a request whose answer is lost may have been carried out.
            on_undo(partial(self._discard, unproved, name), f"{name} was removed")
            self.made[name] = self._make(unproved, self.wanted.fixed_port)

    def _discard(self, unproved: str, name: str) -> None:
        container = self.made.get(name, unproved)
        if self.routed:
            # It may still work on requests that came before the route was put back.
            with suppress(DeliveryError):
                self.engine.stop(container, self.stop_timeout)
        self.engine.remove(container)

    def _start(self, step: Step, on_undo: OnUndo) -> None:
        for member in self.planned.intent.start:
            on_undo(partial(self._stop, member.id), f"{member.name} was stopped again")
            self.engine.start(member.id)
        for container in self.made.values():
            self.engine.start(container)

    def _replace(self, step: Step, on_undo: OnUndo) -> None:
        holders = [member.id for member in self.planned.intent.holders]
        served = [one for one in holders if self.engine.inspect(one).running]
        (coming,) = self._coming_ids()
        on_undo(partial(self._put_back, coming, served), self._back_text(served))
        began = self.clock()
        for container in served:
            self._stop(container)
        self.engine.start(coming)
        self._wait([coming], FAST)
        if served:
            self.downtime = round(self.clock() - began, 3)

    def _put_back(self, coming: str, served: Sequence[str]) -> None:
        with suppress(DeliveryError):
            self._stop(coming)
        for container in served:
            self.engine.start(container)
        if served:
            self._wait(served, FAST)

    def _back_text(self, served: Sequence[str]) -> str:
        names = [one.name for one in self.planned.intent.holders if one.id in served]
        return (
            f"{enumerate_words(names)} serves port {self.wanted.fixed_port} again" if names else ""
        )

    def _health(self, step: Step, on_undo: OnUndo) -> None:
        self._wait(step.detail.get("ids") or self._coming_ids())

    def _test(self, step: Step, on_undo: OnUndo) -> None:
        if self.tests is None:
            return
        candidate = self.rehearsal or self._coming_ids()[0]
        seen = self.engine.inspect(candidate)
        tests = testing.with_image(self.tests, self.observer.tests_name)
        name = f"{self._stem}.{TESTS}"
        url = self.observer.url_of(seen) or ""
        try:
            container = testing.create(self.engine, tests, name, self._labels(TESTS), url)
            self.said = testing.finish(self.engine, tests, container, seen.id, self.secrets)
        finally:
            # Where the engine is away this fails as well, and the next deploy clears it away.
            with suppress(DeliveryError):
                self.engine.remove(name)

    def _approve(self, step: Step, on_undo: OnUndo) -> None:
        for name, container in self.made.items():
            self.engine.rename(container, name)
        for member in self.planned.intent.stay:
            if member.unproved:
                on_undo(partial(self.engine.rename, member.id, member.name))
                self.engine.rename(member.id, member.name.removesuffix(UNPROVED))

    def _route(self, step: Step, on_undo: OnUndo) -> None:
        routing = self.observer.routing
        if routing is None:
            return
        urls = self.final_urls()
        self.routed = True
        # Taken back last of what belongs to the switch, so that the candidates end empty-handed.
        on_undo(partial(routing.drain, staging.LAST_REQUESTS), "its last requests were waited for")
        staging.again(self, urls, on_undo)
        routing.switch(urls, on_undo)
        self.route = tuple(urls)
        staging.carried(self)

    def _unroute(self, step: Step, on_undo: OnUndo) -> None:
        if self.observer.routing is not None:
            self.observer.routing.remove(on_undo)
            self.route, self.candidate = (), None

    # What the steps share.

    @property
    def _stem(self) -> str:
        release = self.before.release
        return f"{self.wanted.name}-{release.id}" if release else self.wanted.name

    def final_urls(self) -> list[str]:
        """Return where those are reached that stay, start or were made."""
        final = [self.observer.url_of(self.engine.inspect(one)) for one in self._final_ids()]
        return [url for url in final if url]

    def _coming_ids(self) -> list[str]:
        return [*(member.id for member in self.planned.intent.start), *self.made.values()]

    def _final_ids(self) -> list[str]:
        return [*(member.id for member in self.planned.intent.stay), *self._coming_ids()]

    def _id_of(self, name: str) -> str:
        return self.engine.inspect(name).id

    def _stop(self, container: str) -> None:
        self.engine.stop(container, self.stop_timeout)

    def _make(self, name: str, port: int | None, helps: str = "") -> str:
        shape = self.wanted.shape or Shape(0)
        labels = self._labels(helps)
        return self.engine.create(name, self.observer.image_name, shape, labels, port)

    def _labels(self, helps: str = "") -> dict[str, str]:
        release = self.before.release
        labels = {
            SERVICE: self.wanted.name,
            RELEASE: release.id if release else "",
            DIGEST: release.digest if release else "",
            CONFIG: release.config if release else "",
            SALT: release.salt if release else "",
            IMAGE: self.observer.image_name,
            INSTANCES: str(self.wanted.instances),
            ROUTE: self.wanted.route,
            HELPS: helps,
        }
        return {name: value for name, value in labels.items() if value}

    def _wait(self, containers: Sequence[str], pace: Pace = PACE) -> list[Container]:
        asked = bool(self.wanted.health_path)
        try:
            return wait_well(
                self.engine.client,
                containers,
                Deadline(self.health_timeout),
                secrets=self.secrets,
                look_further=self.observer.shortcoming if asked else None,
                checks=not asked,
                pace=pace,
            )
        except ContainerFailed as error:
            error.next_step = "Mend what its log says, build and deploy again."
            raise

    def _as_before(self) -> str:
        """Say what goes on as before, for a failure."""
        standing = [member for member in live(self.before) if member.running]
        if not standing:
            return f"nothing of {self.wanted.name} is live, as before"
        names = enumerate_words(
            f"{one.name} at {one.url}" if one.url else one.name for one in standing
        )
        return f"live as before: {names}"


def _shown(states: Any) -> str:
    return "".join(f"{name}: {status}\n" for name, status in sorted(states))
