# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kill matrix as data: which signal, to whom, in the middle of which step of which flow.

Pure. Steps are told apart by what reaches the engine: each request that changes something is a
moment, and the signal comes while the engine works on it. The others are what the router sees.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, product

from tests.matrix.cells import FLOWS, ROUTERS, WITH_A_GAP

REGISTER = "proxy_register"
KILL_FLOWS = (*FLOWS, REGISTER)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
PLAY, MODULE = "play", "module"
TARGETS = (PLAY, MODULE)

# While the new version answers the first verify request; a while after the verification.
HEALTH, VERIFY, SOAK, DRAIN = "health", "verify", "soak", "drain"
# How long a container that is told to end in a cell of a stop goes on serving.
SLOW_STOP_SECONDS = 8
# Not those that only wait for an end.
CHANGES = r"^(POST|DELETE) (?!.*/wait)"
STOP = "stop"


@dataclass(frozen=True)
class Moment:
    """When the signal comes.

    :param what: the request to the engine that is under way, or what the router does.
    :param number: which of the engine's requests that change something it is; 0: none.
    """

    what: str
    number: int = 0

    @property
    def name(self) -> str:
        return f"{self.number} {self.what}" if self.number else self.what


@dataclass(frozen=True)
class Kill:
    """One cell of the kill matrix."""

    flow: str
    moment: Moment
    signal: signal.Signals
    target: str
    router: str

    @property
    def name(self) -> str:
        return (
            f"{self.flow}, {self.signal.name} to the {self.target} at {self.moment.name}, "
            f"{self.router}"
        )

    @property
    def slow_stop(self) -> bool:
        """Whether containers take their time to end: where one is just being stopped."""
        return self.moment.what.endswith(STOP)

    @property
    def environment(self) -> Mapping[str, str]:
        """How both versions behave; see tests/support/actor_image/actor.py."""
        seconds = str(SLOW_STOP_SECONDS if self.slow_stop else 0)
        return {"VERIFY_SECONDS": "0.3", "IGNORE_TERM": seconds}

    @property
    def slow_seconds(self) -> float:
        """How long slow requests take: at the drain some are always left."""
        return 4.0 if self.moment.what == DRAIN else 0.3


@dataclass(frozen=True)
class ExpectedKill:
    """What is expected besides: the same command again converges, and then changes nothing.

    :param may_lose: whether requests may fail.
    :param may_be_down: whether nobody may serve until the command is run again.
    """

    may_lose: bool
    may_be_down: bool


def expected(cell: Kill) -> ExpectedKill:
    """Return what is expected of a cell."""
    gap = cell.flow in WITH_A_GAP
    return ExpectedKill(may_lose=gap, may_be_down=gap and cell.signal == signal.SIGKILL)


def moments(flow: str, requests: Sequence[str]) -> list[Moment]:
    """Return all moments of a flow.

    :param requests: what a deploy without interruption asked the engine, in that order.
    """
    acts = [shorten(request) for request in requests if changes(request)]
    found = [Moment(act, number) for number, act in enumerate(acts, 1)]
    # Who has been stopped before has no requests to wait for; a router alone watches nobody.
    lacks = DRAIN if flow in WITH_A_GAP else SOAK if flow == REGISTER else ""
    return found + [Moment(what) for what in (HEALTH, VERIFY, SOAK, DRAIN) if what != lacks]


def changes(request: str) -> bool:
    """Tell whether a request to the engine changes something."""
    return re.search(CHANGES, request) is not None


def shorten(request: str) -> str:
    """Return what a request does, without ids, names and parameters."""
    method, _space, path = request.partition(" ")
    path = path.partition("?")[0]
    kind, *rest = path.strip("/").split("/")
    act = rest[-1] if method == "POST" and rest else "remove"
    return f"{kind.removesuffix('s')} {act}"


def kills(by_flow: Mapping[str, Sequence[Moment]]) -> list[Kill]:
    """Return all cells; the routers take turns."""
    cells: list[Kill] = []
    for flow, found in by_flow.items():
        for turn, moment in enumerate(found):
            combinations = list(product(SIGNALS, TARGETS))
            # Another router for the same signal at the next moment.
            routers = islice(cycle(ROUTERS), turn, turn + len(combinations))
            cells += [
                Kill(flow, moment, number, target, router)
                for (number, target), router in zip(combinations, routers, strict=True)
            ]
    return cells
