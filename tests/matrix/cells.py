# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The crash matrix as data: when a new release crashes, by which flow, behind which router.

Pure: a cell says how the new release behaves, and what is expected of the deploy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

SERVICE = "service"
SERVICE_FIXED = "service_fixed"
RECREATE = "recreate"
ROLLING = "rolling"
BLUE_GREEN = "blue_green"
SERVICES = (SERVICE, SERVICE_FIXED)
FLOWS = (SERVICE, SERVICE_FIXED, RECREATE, ROLLING, BLUE_GREEN)
# Whose old and new version cannot run at the same time.
WITH_A_GAP = (SERVICE_FIXED, RECREATE)

HAPROXY, NGINX, DEMO = "haproxy", "nginx", "registry"
ROUTERS = (HAPROXY, NGINX, DEMO)

START = "at start"
HEALTHY = "once healthy"
TEST = "at its last test"
VERIFY = "at the last verify request"
SWITCHED = "2 s after the switch"
DRAIN = "during the drain"
SOAK = "at the end of the soak"
LOOP = "in a loop"
CRASHES = (START, HEALTHY, TEST, VERIFY, SWITCHED, DRAIN, SOAK, LOOP)
AFTER_THE_SWITCH = (VERIFY, SWITCHED, DRAIN, SOAK)

SOAK_SECONDS = 4
VERIFY_COUNT = 3
VERIFY_SECONDS = 5
# How long clients may see failures of a release that crashed after it got the traffic: until the
# crash is noticed, and the former release has the traffic again. Wide, for a machine that is busy.
NOTICED_SECONDS = 15.0
# The same for flows with a gap: the former container has to start again as well.
GAP_SECONDS = 60.0


@dataclass(frozen=True)
class Crash:
    """One cell of the crash matrix."""

    flow: str
    moment: str
    router: str

    @property
    def name(self) -> str:
        return f"{self.flow}, crash {self.moment}, {self.router}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What makes the new release crash; see tests/support/actor_image/actor.py."""
        # Only the engine asks a container that compose recreates for its health.
        healthy = "checked:0.2" if self.flow == RECREATE else "health:1"
        return {
            "CRASH": {
                START: "start",
                HEALTHY: healthy,
                TEST: "test:1",
                VERIFY: f"verify:{VERIFY_COUNT}",
                SWITCHED: "traffic:2",
                DRAIN: "traffic:1",
                SOAK: f"traffic:{SOAK_SECONDS - 0.5}",
                LOOP: "started:1.5",
            }[self.moment]
        }

    @property
    def restart(self) -> str:
        """The restart policy of the new release."""
        if self.flow in SERVICES:
            return "unless-stopped"
        return "always" if self.moment == LOOP else "no"

    @property
    def slow_seconds(self) -> float:
        """How long slow requests take; some are always under way when the traffic is switched."""
        return 4.0 if self.moment == DRAIN else 0.5


@dataclass(frozen=True)
class Expected:
    """What is expected of a cell besides: the play fails, and the former release serves.

    :param window: the seconds during which requests may fail; 0: none may.
    :param why: why they may.
    """

    window: float
    why: str = ""


def crashes() -> list[Crash]:
    """Return all cells."""
    cells = (Crash(*values) for values in product(FLOWS, CRASHES, ROUTERS))
    # A compose project has no tests: its last one is the last verify request.
    return [cell for cell in cells if cell.flow in SERVICES or cell.moment != TEST]


def expected(cell: Crash) -> Expected:
    """Return what is expected of a cell."""
    # A new release for a fixed port is rehearsed at another one first.
    rehearsed = cell.flow == SERVICE_FIXED and cell.moment in (START, HEALTHY, TEST)
    if cell.flow in WITH_A_GAP and not rehearsed:
        return Expected(GAP_SECONDS, "one port, or one container at a time")
    if cell.moment in AFTER_THE_SWITCH or cell.moment == LOOP:
        return Expected(NOTICED_SECONDS, "it had the traffic")
    return Expected(0.0)
