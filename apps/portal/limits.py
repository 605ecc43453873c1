# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rate limit of the deploy API."""

from __future__ import annotations

import math
import time
from collections import deque


class RateLimit:
    """At most rate calls in any window of seconds; rate 0 is no limit. Refusals are not counted."""

    def __init__(self, rate: int, window: float) -> None:
        self.rate = rate
        self._window = window
        self._calls: deque[float] = deque()

    def take(self) -> int | None:
        """Count a call: None where it may pass, else the whole seconds until one may."""
        if not self.rate:
            return None
        now = time.monotonic()
        while self._calls and self._calls[0] <= now - self._window:
            self._calls.popleft()
        if len(self._calls) >= self.rate:
            return max(1, math.ceil(self._calls[0] + self._window - now))
        self._calls.append(now)
        return None

    def headers(self) -> dict[str, str]:
        """What the gateway tells its callers, allowed or not."""
        if not self.rate:
            return {}
        left = self.rate - len(self._calls)
        return {
            "X-RateLimit-Limit-Minute": str(self.rate),
            "X-RateLimit-Remaining-Minute": str(left),
        }
