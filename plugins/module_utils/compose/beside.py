# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole of a run by ``blue_green``: a second project beside the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ..change import Outcome, after, run, undoing
from ..errors import BadOption
from ..signals import ignore_signals
from .blue_green import BlueGreenChange, look
from .colours import Move, Standing, candidate, live_project, slots
from .decision import State, Wanted, decide
from .engine_state import Instance
from .events import Watch
from .hashing import with_due
from .images import Images, ImagesChange
from .project import Project
from .report import downtimes, result
from .routing import ProjectRouting
from .session import Session, tag_back


def beside(session: Session) -> dict[str, Any]:
    """Redeploy by ``blue_green``."""
    base = session.load()
    routing = session.routing(base)
    if routing is None:
        raise BadOption("strategy blue_green needs router")
    projects = [*slots(base.name), base.name]
    standing = look(session.containers(base), routing, projects, remember=True)
    several = standing.may_be_live(projects)
    for name in several if len(several) > 1 else ():
        # A run was killed before it was done with its switches: what it wanted is made whole.
        half = session.named(name)
        seen = session.getting(half).observe()
        # What that run was forced to replace it has replaced.
        outdated = session.outdated(half, standing.projects[name], forced=False)
        if fits(session, half, standing, seen, outdated):
            move = Move(name, False, {})
            return finish(session, routing, standing, move, unchanged(seen), project=half)
    live = live_project(standing, base.name)
    target = session.named(candidate(base.name, live))
    fitting = None if live is None else session.named(live)
    outdated = {} if fitting is None else session.outdated(fitting, standing.projects[fitting.name])
    if fitting is not None:
        seen = session.getting(fitting).observe()
        if not seen.built and not seen.stale and fits(session, fitting, standing, seen, outdated):
            move = Move(fitting.name, False, {})
            return finish(session, routing, standing, move, unchanged(seen), project=fitting)
    # The label is part of an image's id, which must not depend on the colour.
    getting = session.getting(target, base.name)
    got = run(getting, check_mode=session.check_mode)
    if fitting is not None and fits(session, fitting, standing, got.after, outdated):
        move = Move(fitting.name, False, {})
        return finish(session, routing, standing, move, got, project=fitting)
    move = Move(target.name, True, dict.fromkeys(routing.entrances))
    return finish(session, routing, standing, move, got, project=target, getting=getting)


def unchanged(seen: Images) -> Outcome[Images]:
    """Return what came of images that are as they should be."""
    return Outcome(False, seen, seen, [], {"before": "", "after": ""})


def fits(
    session: Session,
    project: Project,
    standing: Standing,
    seen: Images,
    outdated: Mapping[str, str],
) -> bool:
    """Tell whether a project stands as it is wanted, with images of these ids.

    :param outdated: why containers are to be replaced all the same, by their ids.
    """
    if seen.stale:
        return False
    ids = {name: frozenset({one.id} if one else ()) for name, one in seen.standing.items()}
    ask = session.containers(project).ask
    found = with_due(ask, project.services, standing.projects[project.name])
    decisions = decide(Wanted(project, ids, outdated=outdated), State(found))
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
    urls: Mapping[str, Sequence[str] | None] = move.routed
    if not move.deploy:
        urls = {
            name: [
                routing.url(name, one.container)
                for one in standing.projects[move.target].get(name, ())
            ]
            for name in routing.entrances
        }
    move = replace(
        move,
        routed=urls,
        keep=session.keep,
        restart={name: service.restart for name, service in project.services.items()},
        soak=session.params["soak"],
    )
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
            return result(session.check_mode, got, outcome, before, now, down=down)


def live_of(standing: Standing) -> list[Instance]:
    """Return the containers of the projects that have traffic."""
    return [one for project in sorted(standing.live) for one in standing.instances(project)]
