# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every benchmark hands back: measured values beside their rivals', taken in the same run.

The machine is shared and noisy, so seconds of different runs say little; ratios within one run do.
A benchmark is a module with `run(quick: bool) -> Table`; `quick` asks for under 10 seconds.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOWER = "lower"
HIGHER = "higher"


@dataclass(frozen=True)
class Row:
    """One quantity: ours, the rivals' by name, and which direction is good."""

    what: str
    unit: str
    better: str  # LOWER or HIGHER
    ours: float
    rivals: dict[str, float] = field(default_factory=dict)
    # The bound that ours itself has to keep, in `unit`; None where only the comparison matters.
    bound: float | None = None

    def ratio(self, rival: str) -> float:
        """Ours divided by the rival's; NaN where the rival has no value."""
        value = self.rivals.get(rival, math.nan)
        return self.ours / value if value else math.nan

    @property
    def kept(self) -> bool:
        """Whether ours keeps its bound."""
        if self.bound is None:
            return True
        return self.ours <= self.bound if self.better == LOWER else self.ours >= self.bound


@dataclass
class Table:
    """The result of one benchmark."""

    title: str
    rows: list[Row] = field(default_factory=list)
    note: str = ""

    @property
    def kept(self) -> bool:
        """Whether every bound is kept."""
        return all(row.kept for row in self.rows)

    def as_data(self) -> dict[str, Any]:
        """For a JSON file."""
        return {
            "title": self.title,
            "note": self.note,
            "rows": [
                {
                    "what": row.what,
                    "unit": row.unit,
                    "better": row.better,
                    "ours": row.ours,
                    "rivals": row.rivals,
                    "ratios": {name: row.ratio(name) for name in row.rivals},
                    "bound": row.bound,
                    "kept": row.kept,
                }
                for row in self.rows
            ],
        }

    def text(self) -> str:
        """For a terminal: a column for us, one for each rival, and ours as a multiple of it."""
        rivals = list(dict.fromkeys(name for row in self.rows for name in row.rivals))
        cells = [
            ["", "unit", "better", "ours", *(c for r in rivals for c in (r, "ours/it")), "bound"]
        ]
        for row in self.rows:
            line = [row.what, row.unit, row.better, _number(row.ours)]
            for name in rivals:
                known = name in row.rivals
                line += [_number(row.rivals[name]) if known else "-"]
                ratio = row.ratio(name)
                line += ["-" if math.isnan(ratio) else f"{ratio:.2f}x"]
            bound = "-" if row.bound is None else _number(row.bound)
            cells.append([*line, bound if row.kept else f"{bound} MISSED"])
        widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
        lines = [
            "  ".join(
                cell.ljust(width) if i < 3 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in cells
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([self.title, *lines, *([self.note] if self.note else [])])


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all values do not exceed; NaN of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def process(*argv: object) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program whose first line on stdout says that it is ready; end it afterwards."""
    # What it logs would bury the tables, and is wanted only where it went wrong.
    with tempfile.TemporaryFile("w+") as log:
        child = subprocess.Popen(
            [sys.executable, *map(str, argv)], stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            yield child
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read()[-4000:])
            raise
        finally:
            _end(child)


def _end(child: subprocess.Popen[str]) -> None:
    child.terminate()
    try:
        child.wait(20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdout is not None:
        child.stdout.close()


def first_line(child: subprocess.Popen[str]) -> str:
    """The line that says that the program is ready; raises RuntimeError when it ended instead."""
    assert child.stdout is not None
    line = child.stdout.readline().strip()
    if not line:
        raise RuntimeError(f"{child.args!r} ended before it was ready")
    return line


def main(table: Table) -> int:
    """Print a table, for a benchmark that is started by itself; returns the exit code."""
    print(table.text())
    if "--json" in sys.argv:
        print(json.dumps(table.as_data()))
    return 0 if table.kept else 1
