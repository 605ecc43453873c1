# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what a router does to what it shall do: pure, for every router."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..change import Step
from .base import Route, same_address

SWITCH = "switch"
REMOVE = "remove"
PROVE = "prove"
PERSIST = "persist"


@dataclass(frozen=True)
class Wanted:
    """Where the traffic of a service shall go.

    :param url: None for nowhere: the service is removed.
    :param prove: whether the switch is proved through the router before it is kept.
    :param persist: whether the router must be told to keep it over a restart.
    """

    service: str
    url: str | None
    prove: bool = False
    persist: bool = False


def plan(observed: Route, wanted: Wanted) -> Sequence[Step]:
    """Return the steps from *observed* to *wanted*; none where the traffic goes there already."""
    if same_address(observed.url, wanted.url):
        return []
    if wanted.url is None:
        steps = [Step(REMOVE, f"remove {wanted.service}, which is at {observed.url}")]
    else:
        before = f" instead of {observed.url}" if observed.url else ""
        steps = [Step(SWITCH, f"send {wanted.service} to {wanted.url}{before}")]
        if wanted.prove:
            steps.append(Step(PROVE, f"prove {wanted.service} through the router"))
    if wanted.persist:
        steps.append(Step(PERSIST, f"keep the route of {wanted.service} over a restart"))
    return steps


def where(route: Route) -> str:
    """Say in a few words where the traffic goes."""
    if route.url is None:
        return f"{route.service} is registered nowhere"
    return f"{route.service} goes to {route.url}"
