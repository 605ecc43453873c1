# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Calls to an engine side by side, and calls that outlast an engine's absence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import ParamSpec, TypeVar

from ..deadline import Deadline, Pace, outlast
from ..signals import uninterrupted
from .errors import EngineAway

T = TypeVar("T")
P = ParamSpec("P")
# How long an undo waits for an engine that is away: it may be restarting.
BACK_SECONDS = 60.0
BACK_PACE = Pace(interval=1.0, first=0.0)
AT_ONCE = 8


def patiently(call: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Call until the engine answers, for an undo: nobody comes after it.

    :raises EngineAway: the engine did not come back in time.
    """
    return outlast(
        lambda: call(*args, **named),
        (EngineAway,),
        deadline=Deadline(BACK_SECONDS),
        pace=BACK_PACE,
    )


def together(calls: Iterable[Callable[[], object]]) -> None:
    """Run calls side by side; the first error is raised once all of them have ended.

    The same holds for a signal: what is under way ends first, so that an undo never runs beside
    the calls that it undoes. Each call must be bounded in time.
    """
    waiting = list(calls)
    with uninterrupted():
        if len(waiting) == 1:
            waiting[0]()
            return
        with ThreadPoolExecutor(AT_ONCE) as pool:
            running: list[Future[object]] = [pool.submit(call) for call in waiting]
            wait(running)
    for done in running:
        done.result()
