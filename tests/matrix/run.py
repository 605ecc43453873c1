# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the matrices, prints what each cell came to, and writes the tables of whole runs.

    PYTHONPATH=.build/collections:. python -m tests.matrix.run [crash | kill | corpus] [WORD ...]

With words, only cells whose names contain all of them are run, and no table is written; of the
corpus of compose projects those whose names contain one of them.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from benchmarks.page import write
from tests.matrix.bench import Bench, Row, open_bench
from tests.matrix.cells import crashes
from tests.matrix.kills import KILL_FLOWS
from tests.matrix.table import crash_grid, kill_grid, told
from tests.support.corpus_run import run_corpus

CRASH, KILL, CORPUS = "crash", "kill", "corpus"
MATRICES = (CRASH, KILL, CORPUS)
# They wait for containers most of the time.
CELLS_A_PROCESSOR = 3


def main() -> int:
    """Return 1 if a cell is not as it must be."""
    # Routers and containers are ended on the way out, also if the run is ended.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    parser = argparse.ArgumentParser(description="Run the matrices and the corpus.")
    parser.add_argument("words", nargs="*", metavar="crash | kill | corpus | WORD")
    words = parser.parse_args().words
    chosen = [words.pop(0)] if words and words[0] in MATRICES else list(MATRICES)
    bad = 0
    if CORPUS in chosen:
        chosen.remove(CORPUS)
        bad += run_corpus(words)
    if not chosen:
        return 1 if bad else 0
    with open_bench(CELLS_A_PROCESSOR * (os.cpu_count() or 1)) as bench:
        for matrix in chosen:
            rows = run(bench, matrix, words)
            bad += sum(1 for row in rows if row.faults)
            grid = crash_grid(rows) if matrix == CRASH else kill_grid(rows)
            print(f"\n{grid.text()}\n", flush=True)
            if not words:
                write({f"{matrix}_matrix": grid})
    return 1 if bad else 0


def run(bench: Bench, matrix: str, words: Sequence[str]) -> list[Row]:
    """Run a matrix; print each row as it comes."""
    # A word may begin with the name of a flow: then the others need not be tried.
    flows = [word.partition(",")[0] for word in words if word.partition(",")[0] in KILL_FLOWS]
    cells = crashes() if matrix == CRASH else bench.kills(flows or KILL_FLOWS)
    wanted = [cell for cell in cells if all(word in cell.name for word in words)]
    rows = []
    for row in bench.run(wanted, bench.crash if matrix == CRASH else bench.kill):
        print(told(row), flush=True)
        rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main())
