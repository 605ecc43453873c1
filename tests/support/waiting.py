# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way in which tests wait for something that tells nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

# Looking this often costs little and delays a test by no more than it.
LOOK_EVERY = 0.02

T = TypeVar("T")


def eventually(check: Callable[[], T | None], what: str, timeout: float = 60) -> T:
    """Return the first true value of *check*, asked again and again.

    Fails the test where there is none within *timeout* seconds, which says *what* never came.
    """
    deadline = time.monotonic() + timeout
    while not (value := check()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(LOOK_EVERY)
    return value
