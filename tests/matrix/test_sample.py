# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sample of the crash matrix; `make matrix` runs the whole of it, and the kill matrix."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from tests.matrix.bench import Bench, Row
from tests.matrix.cells import FLOWS, crashes
from tests.matrix.table import told

# On two quiet processors a cell takes some ten seconds: one of each flow.
CRASHES = 1


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
