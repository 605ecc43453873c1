# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two changes as one: the second follows the first, and a failure of it undoes both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from ..change import Change, OnUndo, Step

FirstT = TypeVar("FirstT")
SecondT = TypeVar("SecondT")


class Both(Generic[FirstT, SecondT]):
    """Runs *first*, then *second*; both are observed and planned before anything is done."""

    def __init__(self, first: Change[FirstT], second: Change[SecondT]) -> None:
        self.first = first
        self.second = second
        self._of_first: set[int] = set()

    def observe(self) -> tuple[FirstT, SecondT]:
        """Observe both."""
        return self.first.observe(), self.second.observe()

    def plan(self, observed: tuple[FirstT, SecondT]) -> Sequence[Step]:
        """Return the steps of both."""
        first, second = self.first.plan(observed[0]), self.second.plan(observed[1])
        # Equal steps may be planned twice: whose a step is, is told by which object it is.
        self._of_first = set(map(id, first))
        return [*first, *second]

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step."""
        change = self.first if id(step) in self._of_first else self.second
        change.apply(step, on_undo)

    def verify(
        self, observed: tuple[FirstT, SecondT], applied: Sequence[Step]
    ) -> tuple[FirstT, SecondT]:
        """Verify both."""
        first, second = self._split(applied)
        return self.first.verify(observed[0], first), self.second.verify(observed[1], second)

    def describe(self, observed: tuple[FirstT, SecondT]) -> str:
        """Show both."""
        return self.first.describe(observed[0]) + self.second.describe(observed[1])

    def expected(self, observed: tuple[FirstT, SecondT], steps: Sequence[Step]) -> str:
        """Show what both come to."""
        first, second = self._split(steps)
        return self.first.expected(observed[0], first) + self.second.expected(observed[1], second)

    def _split(self, steps: Sequence[Step]) -> tuple[list[Step], list[Step]]:
        mine = [step for step in steps if id(step) in self._of_first]
        return mine, [step for step in steps if id(step) not in self._of_first]
