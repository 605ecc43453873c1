# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole of a run: the images, then the containers, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ..change import Outcome, after, run, undoing
from ..engine.client import connect
from ..engine.containers import Containers
from ..engine.options import Connection
from ..errors import BadOption, enumerate_words
from ..given import check_least, check_seconds
from ..signals import ignore_signals, signals_as_errors
from .absent import absent
from .alone import alone
from .beside import beside
from .coloured import LABEL
from .decision import Wanted
from .engine_state import PROJECT, instances
from .events import Watch
from .history import going_back, keep
from .images import Images, image_ids
from .options import compose_of
from .orphans import orphans_of, warning, with_orphans
from .project import Project
from .redeploy import RedeployChange
from .report import downtimes, result
from .routing import ProjectRouting
from .session import Session, tag_back
from .strategies import BLUE_GREEN, Given
from .suitable import Unsuitable


def redeploy(
    params: Mapping[str, Any], check_mode: bool, warn: Callable[[str], None]
) -> dict[str, Any]:
    """Do the whole of it; return what the module documents.

    :raises DeliveryError: it failed; what had been done was undone.
    """
    for name in ("wait_timeout", "build_timeout", "pull_timeout"):
        if not 0 < params[name] < float("inf"):
            raise BadOption(f"{name} must be more than 0 seconds, and not endless")
    check_seconds(params, ("soak",))
    check_least(params, "keep_releases", 0)
    if params["remove_volumes"] and params["state"] != "absent":
        raise BadOption("remove_volumes is for state absent alone")
    connection = Connection.of(params)
    compose = compose_of(params, connection)
    client = connect(connection)
    try:
        with signals_as_errors():
            session = Session(params, check_mode, warn, client, compose, connection)
            if check_mode:
                return _redeploy(session)
            with alone(connection, session.name):
                return _redeploy(session)
    finally:
        client.close()


def _redeploy(session: Session) -> dict[str, Any]:
    if session.params["state"] == "absent":
        return absent(session)
    if session.params["state"] == "rolled_back":
        session = going_back(session)
    if session.params["strategy"] == BLUE_GREEN:
        return beside(session)
    return in_place(session)


def in_place(session: Session) -> dict[str, Any]:
    """Redeploy by ``recreate`` or ``rolling``."""
    project = session.load()
    check_no_colour(session, project)
    routing = session.routing(project)
    getting = session.getting(project)
    given = session.given()
    # Once before anything is built or pulled, as far as it is known then.
    session.hows(project, given, getting.standing())
    got = run(getting, check_mode=session.check_mode)
    session.warn_of_builds(got.before)
    with Watch(session.client, project.name) as watch:
        with undoing(partial(tag_back, session, getting)):
            standing = instances(session.client, project.name)
            orphans = orphans_of(session.compose, project, standing)
            wanted = wanted_of(session, project, got, routing, given)
            if session.params["remove_orphans"]:
                wanted = replace(wanted, project=with_orphans(project, orphans))
            change = RedeployChange(
                session.containers(project, got.after.standing), wanted, routing
            )
            change.traffic.told = watch.routed
            outcome = run(change, check_mode=session.check_mode)
        ignore_signals()
        with after(outcome):
            if not session.check_mode:
                change.clean_up()
            keep(session, project, given, got.after.standing)
            seen = instances(session.client, project.name)
            now = [one for name in project.services for one in seen.get(name, ())]
            before = [one for name in project.services for one in outcome.before.of(name)]
            seen_by = watch if outcome.made else None
            down = downtimes(project, before, now, seen_by, wanted.routed)
            kept = change.removed.superseded
            staying = [one for ones in orphans.values() for one in ones]
            if staying and not session.params["remove_orphans"]:
                session.warn(warning(staying))
            left = (*change.removed.left, *change.containers.left, *map(str, kept))
            for text in (*left, *(routing.left if routing else ())):
                session.warn(text)
            shown = result(
                session.check_mode, got, outcome, before, now, down=down, superseded=kept
            )
            return {**shown, "orphans": sorted(one.name for one in staying)}


def check_no_colour(session: Session, project: Project) -> None:
    """Make sure that no colour of the project runs, which nobody would stop.

    :raises Unsuitable: one runs.
    """
    found = Containers(session.client).find(f"{LABEL}={project.name}")
    running = sorted({one.labels[PROJECT] for one in found if one.alive})
    if running:
        strategy = session.params["strategy"]
        raise Unsuitable(
            f"{enumerate_words(running)} runs, which strategy blue_green has brought up; strategy "
            f"{strategy} would run a second one of each of its services",
            next_step="Keep strategy blue_green. To leave it, take the project down first.",
        )


def wanted_of(
    session: Session,
    project: Project,
    got: Outcome[Images],
    routing: ProjectRouting | None,
    given: Given,
) -> Wanted:
    """Return what shall stand, now that the images are known."""
    return Wanted(
        project,
        image_ids(got, session.check_mode),
        session.params["strategy"],
        frozenset(routing.entrances if routing else ()),
        session.params["soak"],
        outdated=session.outdated(project, instances(session.client, project.name)),
        hows=session.hows(project, given, got.after.standing),
    )
