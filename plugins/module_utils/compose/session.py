# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole of a run: the images, then the containers, and what is told of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..change import Outcome, run
from ..engine.client import connect
from ..engine.options import Connection
from ..errors import DeliveryError
from ..signals import ignore_signals, signals_as_errors
from .cli import Compose
from .containers import Containers
from .engine_state import Instance, instances
from .events import Watch
from .images import Images, ImagesChange, Policy
from .options import compose_of, routing_of
from .plan import BLUE_GREEN, ROLLING, State, Wanted
from .project import Project, check_repeatable, check_startable, load
from .redeploy import RedeployChange
from .routing import Routing

if TYPE_CHECKING:
    from docker import DockerClient


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

    def routing(self, project: Project) -> Routing | None:
        """Return the router, where there is one."""
        return routing_of(self.params["router"], project, self.connection)

    def containers(self, project: Project, got: Outcome[Images]) -> Containers:
        """Return what works on the project's containers."""
        return Containers(
            self.client, self.compose, project, self.params["wait_timeout"], got.after.standing
        )


def redeploy(
    params: Mapping[str, Any], check_mode: bool, warn: Callable[[str], None]
) -> dict[str, Any]:
    """Do the whole of it; return what the module documents.

    :raises DeliveryError: it failed; what had been done was taken back.
    """
    if not 0 < params["wait_timeout"] < float("inf"):
        raise DeliveryError("wait_timeout must be more than 0 seconds, and not endless")
    connection = Connection.of(params)
    compose = compose_of(params, connection)
    client = connect(connection)
    try:
        with signals_as_errors():
            return in_place(Session(params, check_mode, warn, client, compose, connection))
    finally:
        client.close()


def in_place(session: Session) -> dict[str, Any]:
    """Redeploy by ``recreate`` or ``rolling``."""
    project = session.load()
    routing = session.routing(project)
    getting = ImagesChange(session.client, session.compose, project, session.policy)
    got = run(getting, check_mode=session.check_mode)
    with Watch(session.client, project.name) as watch:
        try:
            wanted = wanted_of(session, project, got, routing)
            change = RedeployChange(session.containers(project, got), wanted, routing)
            outcome = run(change, check_mode=session.check_mode)
        except BaseException as error:
            if not session.check_mode:
                tag_back(getting, error)
            raise
        ignore_signals()
        if not session.check_mode:
            change.clean_up()
        values = result(session, change, outcome, got, watch=watch)
    for text in (*change.left, *(routing.left if routing else ())):
        session.warn(text)
    return values


def tag_back(getting: ImagesChange, error: BaseException) -> None:
    """Give the former images their names back after a failure."""
    ignore_signals()
    try:
        getting.tag_back()
    except DeliveryError as failed:
        if isinstance(error, DeliveryError):
            error.with_stands(f"The former images do NOT have their names back: {failed.message}.")


def wanted_of(
    session: Session, project: Project, got: Outcome[Images], routing: Routing | None
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


def result(
    session: Session,
    change: RedeployChange,
    outcome: Outcome[State],
    got: Outcome[Images],
    *,
    watch: Watch,
) -> dict[str, Any]:
    """Return what the module documents."""
    project = change.wanted.project
    now = instances(session.client, project.name)
    live = [one for name in project.services for one in now.get(name, ())]
    former = [one for name in project.services for one in outcome.before.of(name)]
    done = outcome.changed and not session.check_mode
    down = downtimes(change, outcome.before, live, watch if done else None)
    known = [seconds for seconds in down.values() if seconds is not None]
    there = {one.id for one in live}
    replaced = got.after.standing != got.before.standing
    return {
        "changed": outcome.changed or replaced or (session.check_mode and bool(got.before.stale)),
        "steps": [*got.steps, *outcome.steps],
        "diff": {side: got.diff[side] + outcome.diff[side] for side in ("before", "after")},
        "project": project.name,
        "containers": [entry(one) for one in live],
        "previous": [entry(one) for one in former if one.id not in there],
        "release": release_of(live),
        "downtime_seconds": None if len(known) < len(down) else max(known, default=0.0),
        "downtimes": down,
    }


def downtimes(
    change: RedeployChange, before: State, live: Iterable[Instance], watch: Watch | None
) -> dict[str, float | None]:
    """Return how long each service that stays up was down; all 0 where nothing was done."""
    services = change.wanted.project.services
    ready = {
        name: {one.id for one in before.of(name) if one.container.well}
        for name in sorted(services)
        if not services[name].ends
    }
    if watch is None:
        return dict.fromkeys(ready, 0.0)
    checked = {one.id for one in live if one.container.checked}
    checked |= {
        one.id for ones in before.instances.values() for one in ones if one.container.checked
    }
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
        "config_hash": one.hash,
        "status": seen.status,
        "health": seen.health,
        "ports": {port: list(found) for port, found in seen.ports.items()},
    }


def release_of(live: Iterable[Instance]) -> str:
    """Return the digest of all that runs: the images and the configurations."""
    told = sorted(f"{one.service} {one.container.image_id} {one.hash}" for one in live)
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]
