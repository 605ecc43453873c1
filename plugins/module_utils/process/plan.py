# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what runs to what shall run: pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..change import Step
from ..errors import DeliveryError

START = "start"
WAIT = "wait"
STOP = "stop"
DELETE = "delete"


@dataclass(frozen=True)
class Seen:
    """One process and its folder, as they are.

    :param exists: whether the folder is there.
    :param running: whether the process that the record names runs.
    :param same: whether its arguments, folder and environment are those that are wanted.
    :param ready: whether it has said that it is ready, or does not say so at all.
    """

    exists: bool = False
    running: bool = False
    same: bool = False
    ready: bool = False
    pid: int | None = None
    url: str | None = None
    started_at: str | None = None


@dataclass(frozen=True)
class Wanted:
    """What shall be: ``state`` is started, stopped or absent."""

    name: str
    state: str
    restart: bool = False


def plan(seen: Seen, wanted: Wanted) -> Sequence[Step]:
    """Return the steps.

    :raises DeliveryError: it runs with other arguments, and may not be replaced.
    """
    name = wanted.name
    stop = Step(STOP, f"stop {name} (pid {seen.pid})")
    if wanted.state == "started":
        if not seen.running:
            return [Step(START, f"start {name}")]
        if seen.same:
            return [] if seen.ready else [Step(WAIT, f"wait until {name} is ready")]
        if not wanted.restart:
            raise DeliveryError(
                f"{name} runs already (pid {seen.pid}) with other arguments, another working "
                "folder or another environment",
                state="It was left alone.",
                next_step="Stop it first, or give restart: true.",
            )
        return [stop, Step(START, f"start {name}")]
    steps = [stop] if seen.running else []
    if wanted.state == "absent" and seen.exists:
        steps.append(Step(DELETE, f"delete the folder of {name}"))
    return steps


@dataclass(frozen=True)
class Instance:
    """One of several processes whose folders lie side by side."""

    name: str
    folder: str
    running: bool
    started_at: str
    url: str | None = None
    pid: int | None = None


def plan_prune(
    instances: Sequence[Instance],
    *,
    running: Collection[str],
    keep: int,
    protect: Collection[str],
) -> Sequence[Step]:
    """Stop what may not run, then delete the oldest of what does not run, but for *keep* of it.

    Those in *running* and *protect* are never deleted, and do not count among the kept ones.
    """
    stop = [seen for seen in instances if seen.running and seen.name not in running]
    kept = set(running) | set(protect)
    loose = [seen for seen in instances if seen.name not in kept]
    # ISO 8601 in UTC sorts by time; the folder makes the order certain where times are equal.
    loose.sort(key=lambda seen: (seen.started_at, seen.folder), reverse=True)
    return [
        *(_step(STOP, f"stop {seen.name} (pid {seen.pid})", seen) for seen in stop),
        *(_step(DELETE, f"delete the folder of {seen.name}", seen) for seen in loose[keep:]),
    ]


def _step(action: str, summary: str, seen: Instance) -> Step:
    return Step(action, summary, {"folder": seen.folder, "name": seen.name})
