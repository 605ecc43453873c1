# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole of a run: the images, then the containers, and what is told of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..change import Outcome, after, run, undoing
from ..engine.client import connect
from ..engine.options import Connection
from ..errors import BadOption, DeliveryError
from ..signals import ignore_signals, signals_as_errors
from .blue_green import BlueGreenChange, look
from .cli import Compose
from .colours import Move, Standing, candidate, live_project, slots
from .containers import Containers
from .context import LABEL
from .engine_state import Image, Instance, instances
from .events import Watch
from .images import ALWAYS, Images, ImagesChange, Policy
from .options import compose_of, routing_of
from .plan import BLUE_GREEN, ROLLING, State, Wanted, decide
from .project import Project, check_repeatable, check_startable, load
from .redeploy import RedeployChange
from .routing import ProjectRouting

if TYPE_CHECKING:
    from docker import DockerClient


def nowhere(service: str, digest: str) -> bool:
    """Tell that no container was built from that already."""
    return False


@dataclass(frozen=True)
class Session:
    """What every part of a run needs."""

    params: Mapping[str, Any]
    check_mode: bool
    warn: Callable[[str], None]
    client: DockerClient
    compose: Compose
    connection: Connection

    @property
    def policy(self) -> Policy:
        """When to build and to pull."""
        return Policy(self.params["build"], self.params["pull"])

    @property
    def keep(self) -> bool:
        """Whether a former project is kept, stopped."""
        return int(self.params["keep_releases"]) > 0

    def named(self, name: str) -> Project:
        """Return the project as it is under another name."""
        return replace(self, compose=replace(self.compose, name=name)).load()

    def load(self) -> Project:
        """Read the compose files.

        :raises DeliveryError: they hold what the strategy cannot do.
        """
        strategy = self.params["strategy"]
        project = load(
            self.compose,
            services=self.params["services"],
            static=self.params["static_services"],
            run_once=self.params["run_once_services"],
        )
        if strategy != BLUE_GREEN:
            check_startable(project)
        if strategy in {ROLLING, BLUE_GREEN}:
            check_repeatable(project, self.compose.folder, strategy)
        return project

    def routing(self, project: Project) -> ProjectRouting | None:
        """Return the router, where there is one."""
        return routing_of(self.params, project, self.connection)

    def getting(
        self,
        project: Project,
        satisfied: Callable[[str, str], bool] = lambda service, digest: False,
    ) -> ImagesChange:
        """Return what gets the project's images."""
        compose = replace(self.compose, name=project.name)
        return ImagesChange(self.client, compose, project, self.policy, satisfied=satisfied)

    def containers(
        self, project: Project, images: Mapping[str, Image | None] | None = None
    ) -> Containers:
        """Return what works on the project's containers."""
        compose = replace(self.compose, name=project.name)
        return Containers(self.client, compose, project, self.params["wait_timeout"], images or {})


def redeploy(
    params: Mapping[str, Any], check_mode: bool, warn: Callable[[str], None]
) -> dict[str, Any]:
    """Do the whole of it; return what the module documents.

    :raises DeliveryError: it failed; what had been done was taken back.
    """
    if not 0 < params["wait_timeout"] < float("inf"):
        raise BadOption("wait_timeout must be more than 0 seconds, and not endless")
    connection = Connection.of(params)
    compose = compose_of(params, connection)
    client = connect(connection)
    try:
        with signals_as_errors():
            session = Session(params, check_mode, warn, client, compose, connection)
            if params["strategy"] == BLUE_GREEN:
                return beside(session)
            return in_place(session)
    finally:
        client.close()


def in_place(session: Session) -> dict[str, Any]:
    """Redeploy by ``recreate`` or ``rolling``."""
    project = session.load()
    routing = session.routing(project)
    getting = session.getting(project)
    got = run(getting, check_mode=session.check_mode)
    with Watch(session.client, project.name) as watch:
        with undoing(partial(tag_back, session, getting)):
            wanted = wanted_of(session, project, got, routing)
            change = RedeployChange(
                session.containers(project, got.after.standing), wanted, routing
            )
            outcome = run(change, check_mode=session.check_mode)
        ignore_signals()
        with after(outcome):
            if not session.check_mode:
                change.clean_up()
            seen = instances(session.client, project.name)
            now = [one for name in project.services for one in seen.get(name, ())]
            before = [one for name in project.services for one in outcome.before.of(name)]
            down = downtimes(project, before, now, watch if outcome.made else None)
            for text in (*change.left, *(routing.left if routing else ())):
                session.warn(text)
            return result(session, got, outcome, before, now, down=down)


def tag_back(session: Session, getting: ImagesChange | None) -> str:
    """Give the former images their names back after a failure; return what is wrong then."""
    ignore_signals()
    if getting is None or session.check_mode:
        return ""
    try:
        getting.tag_back()
    except DeliveryError as error:
        return f"The former images could not get their names back: {error.message}."
    return ""


def wanted_of(
    session: Session, project: Project, got: Outcome[Images], routing: ProjectRouting | None
) -> Wanted:
    """Return what shall stand, now that the images are known."""
    stale = got.before.stale if session.check_mode else frozenset()
    ids = {
        name: frozenset({seen.id} if seen is not None and name not in stale else ())
        for name, seen in got.after.standing.items()
    }
    return Wanted(
        project, ids, session.params["strategy"], frozenset(routing.entrances if routing else ())
    )


def beside(session: Session) -> dict[str, Any]:
    """Redeploy by ``blue_green``."""
    base = session.load()
    routing = session.routing(base)
    if routing is None:
        raise BadOption("strategy blue_green needs router")
    projects = [*slots(base.name), base.name]
    standing = look(session.containers(base), routing, projects, remember=True)
    for name in sorted(standing.live) if len(standing.live) > 1 else ():
        # A run was killed between two switches: what it wanted is made whole.
        half = session.named(name)
        seen = session.getting(half).observe()
        if fits(half, standing, seen, session.policy):
            move = Move(name, False, {}, keep=session.keep)
            return finish(session, routing, standing, move, unchanged(seen), project=half)
    live = live_project(standing, base.name)
    target = session.named(candidate(base.name, live))
    fitting = None if live is None else session.named(live)

    def satisfied(service: str, digest: str) -> bool:
        """Whether the live containers were built from that already."""
        ones = standing.projects[live].get(service, ()) if live else ()
        return bool(ones) and all(one.container.labels.get(LABEL) == digest for one in ones)

    getting = session.getting(target, satisfied)
    if fitting is not None and session.policy.build != ALWAYS:
        seen = getting.observe()
        if not seen.stale and fits(fitting, standing, seen, session.policy):
            move = Move(fitting.name, False, {}, keep=session.keep)
            return finish(session, routing, standing, move, unchanged(seen), project=fitting)
    if not session.check_mode:
        getting = session.getting(target)
    got = run(getting, check_mode=session.check_mode)
    if fitting is not None and fits(fitting, standing, got.after, session.policy):
        move = Move(fitting.name, False, {}, keep=session.keep)
        return finish(session, routing, standing, move, got, project=fitting)
    move = Move(target.name, True, dict.fromkeys(routing.entrances), keep=session.keep)
    return finish(session, routing, standing, move, got, project=target, getting=getting)


def unchanged(seen: Images) -> Outcome[Images]:
    """Return what came of images that are as they should be."""
    return Outcome(False, seen, seen, [], {"before": "", "after": ""})


def fits(project: Project, standing: Standing, seen: Images, policy: Policy) -> bool:
    """Tell whether a project stands as it is wanted, whatever its images are called."""
    if seen.stale:
        return False
    ids = {}
    for name in project.services:
        image, digest = seen.standing[name], seen.digests.get(name)
        ids[name] = {image.id} if image is not None else set()
        if digest is not None and policy.build != ALWAYS:
            ids[name] |= {
                one.container.image_id
                for one in standing.projects[project.name].get(name, ())
                if one.container.labels.get(LABEL) == digest
            }
    wanted = Wanted(project, {name: frozenset(found) for name, found in ids.items()})
    decisions = decide(wanted, State(standing.projects[project.name]))
    return not any(decision.changed for decision in decisions.values())


def finish(
    session: Session,
    routing: ProjectRouting,
    standing: Standing,
    move: Move,
    got: Outcome[Images],
    *,
    project: Project,
    getting: ImagesChange | None = None,
) -> dict[str, Any]:
    """Make the move; return what the module documents.

    :param getting: what got the images, where they have been got for this move.
    """
    if not move.deploy:
        urls = {
            name: [
                routing.url(name, one.container)
                for one in standing.projects[move.target].get(name, ())
            ]
            for name in routing.entrances
        }
        move = Move(move.target, False, urls, keep=move.keep)
    containers = session.containers(project)
    change = BlueGreenChange(containers, routing, standing, move)
    with Watch(session.client, *standing.projects) as watch:
        with undoing(partial(tag_back, session, getting)):
            outcome = run(change, check_mode=session.check_mode)
        ignore_signals()
        with after(outcome):
            if not session.check_mode:
                change.clean_up()
            before = live_of(standing)
            now = live_of(look(containers, routing, list(standing.projects)))
            down = downtimes(project, before, now, watch if outcome.made else None)
            for text in (*change.left, *routing.left):
                session.warn(text)
            return result(session, got, outcome, before, now, down=down)


def live_of(standing: Standing) -> list[Instance]:
    """Return the containers of the projects that have traffic."""
    return [one for project in sorted(standing.live) for one in standing.instances(project)]


def result(
    session: Session,
    got: Outcome[Images],
    outcome: Outcome[Any],
    before: Sequence[Instance],
    now: Sequence[Instance],
    *,
    down: dict[str, float | None],
) -> dict[str, Any]:
    """Return what the module documents."""
    known = [seconds for seconds in down.values() if seconds is not None]
    there = {one.id for one in now}
    projects = {one.project for one in now}
    replaced = got.after.standing != got.before.standing
    return {
        "changed": outcome.changed or replaced or (session.check_mode and bool(got.before.stale)),
        "steps": [*got.steps, *outcome.steps],
        "diff": {side: got.diff[side] + outcome.diff[side] for side in ("before", "after")},
        "project": projects.pop() if len(projects) == 1 else None,
        "containers": [entry(one) for one in now],
        "previous": [entry(one) for one in before if one.id not in there],
        "release": release_of(now),
        "downtime_seconds": None if len(known) < len(down) else max(known, default=0.0),
        "downtimes": down,
    }


def downtimes(
    project: Project, before: Sequence[Instance], now: Sequence[Instance], watch: Watch | None
) -> dict[str, float | None]:
    """Return how long each service that stays up was down; all 0 where nothing was done."""
    ready = {
        name: {one.id for one in before if one.service == name and one.container.well}
        for name in sorted(project.services)
        if not project.services[name].ends
    }
    if watch is None:
        return dict.fromkeys(ready, 0.0)
    checked = {one.id for one in (*now, *before) if one.container.checked}
    found = watch.downtimes(ready, checked)
    return {name: None if s is None else round(s, 3) for name, s in found.items()}


def entry(one: Instance) -> dict[str, Any]:
    """Return a container for a module's result."""
    seen = one.container
    return {
        "id": seen.id,
        "name": seen.name,
        "service": one.service,
        "project": one.project,
        "image": seen.image,
        "image_id": seen.image_id,
        "status": seen.status,
        "health": seen.health,
        "ports": {port: list(found) for port, found in seen.ports.items()},
    }


def release_of(live: Iterable[Instance]) -> str:
    """Return a digest of all that runs.

    Compose's hashes of configurations are no part of it: a short secret could be guessed from them.
    """
    told = sorted(f"{one.service} {one.id}" for one in live)
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]
