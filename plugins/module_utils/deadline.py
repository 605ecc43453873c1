# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one waiter: every wait of this collection has a deadline, and goes through here.

All times are seconds on the monotonic clock, so a clock that is set while we wait changes nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from . import signals
from .errors import DeliveryError, TimeoutExceeded

T = TypeVar("T")


@dataclass(frozen=True)
class Pace:
    """How often to look.

    The first look comes after ``first`` seconds, each following wait is ``growth`` times the one
    before until ``interval`` is reached. ``jitter`` lengthens each wait by up to that fraction; no
    wait gets shorter than asked for.
    """

    interval: float
    first: float | None = None
    growth: float = 2.0
    jitter: float = 0.0

    def waits(self) -> Iterator[float]:
        """Yield the waits between looks, for ever."""
        wait = self.interval if self.first is None else min(self.first, self.interval)
        while True:
            yield wait * (1 + random.uniform(0, self.jitter))
            # A first look at once (0) must grow all the same.
            wait = min(self.interval, max(wait * self.growth, self.interval / 8))


@dataclass
class Deadline:
    """A moment after which waiting is over.

    :param seconds: from now; the deadline is fixed when the object is made.
    """

    seconds: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = signals.sleep
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def remaining(self) -> float:
        """Seconds left; never negative."""
        return max(0.0, self.started + self.seconds - self.clock())

    @property
    def elapsed(self) -> float:
        """Seconds since the deadline was set."""
        return self.clock() - self.started

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return self.remaining <= 0

    def within(self, seconds: float) -> Deadline:
        """Return a deadline of *seconds* from now, cut to what is left of this one."""
        return Deadline(min(seconds, self.remaining), clock=self.clock, sleep=self.sleep)

    def pause(self, seconds: float, what: str) -> None:
        """Sleep *seconds*, or raise at once where the deadline would pass first.

        :raises TimeoutExceeded: the pause does not fit into what is left.
        """
        if seconds > self.remaining:
            raise TimeoutExceeded(
                f"gave up waiting for {what}: {seconds:.0f} s more were asked for, "
                f"{self.remaining:.0f} s were left of {self.seconds:.0f} s"
            )
        self.sleep(seconds)


def wait_for(
    look: Callable[[], T | None],
    *,
    deadline: Deadline,
    pace: Pace,
    what: str,
    last_seen: Callable[[], str] | None = None,
) -> T:
    """Look until *look* returns something other than None, and return that.

    There is always a last look when the deadline has come, so a slow machine does not turn a state
    that was reached in time into a failure.

    :param look: asks once; returns None for "not yet", and may raise to end the wait.
    :param what: names the awaited state in the error, as in "the export to finish".
    :param last_seen: describes what was seen last, for the error.
    :raises TimeoutExceeded: the deadline passed.
    """
    for wait in pace.waits():
        deadline.sleep(min(wait, deadline.remaining))
        final = deadline.passed
        seen = look()
        if seen is not None:
            return seen
        if final:
            break
    detail = last_seen() if last_seen is not None else ""
    raise TimeoutExceeded(
        f"gave up waiting for {what} after {deadline.elapsed:.0f} s"
        + (f"; last seen: {detail}" if detail else "")
    )


def outlast(
    call: Callable[[], T], away: tuple[type[DeliveryError], ...], *, deadline: Deadline, pace: Pace
) -> T:
    """Call until it raises none of *away*, for an undo: nobody comes after it.

    :raises DeliveryError: any other error at once; one of *away* once the deadline has passed.
    """
    last: list[DeliveryError] = []

    def look() -> tuple[T] | None:
        try:
            return (call(),)
        except away as error:
            last[:] = [error]
            return None

    try:
        return wait_for(look, deadline=deadline, pace=pace, what="an answer")[0]
    except TimeoutExceeded as error:
        raise (last[0] if last else error) from error
