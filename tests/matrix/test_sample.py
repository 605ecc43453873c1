# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sample of both matrices; `make matrix` runs the whole of them."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from tests.matrix.bench import Bench, Row
from tests.matrix.cells import FLOWS, crashes
from tests.matrix.kills import KILL_FLOWS
from tests.matrix.table import told

# On two quiet processors a cell takes some ten seconds: one of each flow.
CRASHES = 1
# Of a few flows; each needs a deploy that nobody interrupts first.
KILLED_FLOWS, KILLS = 2, 2


def faults(rows: Iterable[Row], seed: str) -> str:
    """Show the rows that are not as they must be."""
    bad = [told(row) for row in rows if row.faults]
    return "\n".join([f"MATRIX_SEED={seed}", *bad]) if bad else ""


def test_releases_that_crash(bench: Bench, seed: str) -> None:
    chosen = Random(seed)
    cells = [
        cell
        for flow in FLOWS
        for cell in chosen.sample([one for one in crashes() if one.flow == flow], CRASHES)
    ]
    assert not faults(bench.run(cells, bench.crash), seed)


def test_deploys_that_are_killed(bench: Bench, seed: str) -> None:
    chosen = Random(seed)
    flows = chosen.sample(KILL_FLOWS, KILLED_FLOWS)
    cells = [cell for flow in flows for cell in chosen.sample(bench.kills([flow]), KILLS)]
    assert not faults(bench.run(cells, bench.kill), seed)
