# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The drain: requests that are under way on former targets are waited for."""

from __future__ import annotations

from dataclasses import dataclass

from ..deadline import Deadline, Pace, wait_for
from ..errors import DeliveryError, Interrupted, TimeoutExceeded
from .base import Router, Timed

DRAIN_PACE = Pace(interval=0.5, first=0.0)


class NotDrained(DeliveryError):
    """Requests were left on a former target when the time was up."""

    kind = "not_drained"


@dataclass(frozen=True)
class Drained:
    """What a drain came to; both are None if the router cannot tell.

    :param lasts: the seconds that requests may go on for, if only time tells.
    """

    drained: bool | None
    in_flight: int | None
    seconds: float
    lasts: float | None = None


def drain(router: Router, service: str, timeout: float) -> Drained:
    """Wait until no request is left on a former target, for *timeout* seconds at most."""
    deadline = Deadline(timeout)
    left: int | None = None

    def look() -> bool | None:
        nonlocal left
        try:
            left = router.in_flight(service)
        except Interrupted:
            raise
        except DeliveryError:
            # The switch has been made and verified; that one look failed must not undo it.
            left = None
            return None
        return None if left else True

    try:
        wait_for(look, deadline=deadline, pace=DRAIN_PACE, what="the drain")
    except TimeoutExceeded:
        return Drained(False, left, deadline.elapsed)
    if left is None and isinstance(router, Timed):
        return _wait_out(router, service, deadline)
    return Drained(None if left is None else True, left, deadline.elapsed)


def _wait_out(router: Timed, service: str, deadline: Deadline) -> Drained:
    try:
        lasts = router.drains_in(service)
    except Interrupted:
        raise
    except DeliveryError:
        return Drained(None, None, deadline.elapsed)
    enough = lasts <= deadline.remaining
    deadline.sleep(min(lasts, deadline.remaining))
    if enough:
        return Drained(True, None, deadline.elapsed)
    return Drained(None, None, deadline.elapsed, lasts - deadline.elapsed)
