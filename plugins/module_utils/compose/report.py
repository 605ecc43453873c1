# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module returns of a run that succeeded."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from ..change import Outcome
from .engine_state import Instance
from .events import Watch
from .images import Images
from .project import Project
from .superseded import Superseded


def result(
    check_mode: bool,
    got: Outcome[Images],
    outcome: Outcome[Any],
    before: Sequence[Instance],
    now: Sequence[Instance],
    *,
    down: dict[str, float | None],
    superseded: Sequence[Superseded] = (),
) -> dict[str, Any]:
    """Return what the module documents."""
    known = [seconds for seconds in down.values() if seconds is not None]
    there = {one.id for one in now}
    projects = {one.project for one in now}
    replaced = got.after.standing != got.before.standing
    return {
        "changed": outcome.changed or replaced or (check_mode and bool(got.before.stale)),
        "would_build": got.before.built if check_mode else [],
        "steps": [*got.steps, *outcome.steps],
        "diff": {side: got.diff[side] + outcome.diff[side] for side in ("before", "after")},
        "project": projects.pop() if len(projects) == 1 else None,
        "containers": [entry(one) for one in now],
        "previous": [entry(one) for one in before if one.id not in there],
        "release": release_of(now),
        "downtime_seconds": None if len(known) < len(down) else max(known, default=0.0),
        "downtimes": down,
        "superseded_volumes": [asdict(one) for one in superseded],
    }


def downtimes(
    project: Project,
    before: Sequence[Instance],
    now: Sequence[Instance],
    watch: Watch | None,
    routed: Collection[str] = (),
) -> dict[str, float | None]:
    """Return how long each service that stays up was down; all 0 where nothing was done.

    :param routed: the services that clients reach by a router.
    """
    ready = {
        name: {one.id for one in before if one.service == name and one.container.well}
        for name in sorted(project.services)
        if not project.services[name].ends
    }
    if watch is None:
        return dict.fromkeys(ready, 0.0)
    checked = {one.id for one in (*now, *before) if one.container.checked}
    found = watch.downtimes(ready, checked, routed)
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
