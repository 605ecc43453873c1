# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Time for tests: deadlines whose sleeps take none."""

from __future__ import annotations

from ansible_collections.immutable.delivery.plugins.module_utils.deadline import Deadline


class FakeDeadline(Deadline):
    """A deadline whose sleeps only move its clock, and are remembered."""

    def __init__(self, seconds: float) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        super().__init__(seconds, clock=lambda: self.now, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
