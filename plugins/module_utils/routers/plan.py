# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what a router does to what it shall do: pure, for every router."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..change import Step
from ..errors import enumerate_words
from .base import Route, same_targets

PREPARE = "prepare"
SWITCH = "switch"
REMOVE = "remove"
PROVE = "prove"


@dataclass(frozen=True)
class Wanted:
    """Where the traffic of a service shall go.

    :param urls: empty for nowhere: the service is removed.
    :param prove: whether the switch is proved through the router before it is kept.
    :param prepare: whether the router takes its time to see new targets healthy.
    """

    service: str
    urls: tuple[str, ...] = ()
    prove: bool = False
    prepare: bool = False


def plan(observed: Route, wanted: Wanted) -> Sequence[Step]:
    """Return the steps from *observed* to *wanted*; none where the traffic goes there already."""
    if same_targets(observed.urls, wanted.urls):
        return []
    before, after = enumerate_words(observed.urls), enumerate_words(wanted.urls)
    if not after:
        steps = [Step(REMOVE, f"remove {wanted.service}, which is at {before}")]
    else:
        instead = f" instead of {before}" if before else ""
        steps = []
        if wanted.prepare:
            # Whoever locks something for the switch does this first.
            text = f"have the router see that {after} is healthy"
            steps.append(Step(PREPARE, text, {"early": True}))
        steps.append(Step(SWITCH, f"send {wanted.service} to {after}{instead}"))
        if wanted.prove:
            steps.append(Step(PROVE, f"prove {wanted.service} through the router"))
    return steps


def where(route: Route) -> str:
    """Say in a few words where the traffic goes."""
    if not route.urls:
        return f"{route.service} is registered nowhere"
    text = f"{route.service} goes to {enumerate_words(route.urls)}"
    if route.candidate is not None:
        share, urls = route.candidate.weight, enumerate_words(route.candidate.urls)
        text += f", {share} % of the clients to the candidate {urls}"
    return text
