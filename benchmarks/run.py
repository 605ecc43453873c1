# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs every benchmark, prints its table, and writes RESULTS.md from a whole run.

    benchmarks/run.py [--quick] [NAME ...]

With --quick, or with names, nothing is written: RESULTS.md is of one whole and unshortened run.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import harness

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
BENCHMARKS = (
    "bench_archive",
    "bench_proxy",
    "bench_switch",
    "bench_window",
    "bench_deploys",
    "bench_alb",
    "bench_service",
    "bench_routers",
    "bench_compose",
)

HEADER = """# Benchmarks

Written by `make bench` from one whole run on {when:%Y-%m-%d}: {cores} cores, {machine}, Python
{python}. The machine is shared and noisy, so read the ratios, which were taken side by side in one
run, and not the absolute values.

"""


def markdown(tables: list[harness.Table]) -> str:
    """The results as a page."""
    header = HEADER.format(
        when=datetime.now(UTC),
        cores=os.cpu_count(),
        machine=platform.machine(),
        python=platform.python_version(),
    )
    parts = []
    for table in tables:
        title, _newline, body = table.text().partition("\n")
        parts.append(f"## {title}\n\n```text\n{body}\n```\n")
    return header + "\n".join(parts)


def main() -> int:
    """Return 1 where a bound was missed."""
    # Labs and servers are ended on the way out, and so they are where the run itself is ended.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    parser = argparse.ArgumentParser(description="Run the benchmarks.")
    parser.add_argument("--quick", action="store_true", help="shorter, and without RESULTS.md")
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="only these")
    arguments = parser.parse_args()
    # The modules are imported by their full name, from the link that set-up made.
    os.environ["PYTHONPATH"] = str(HERE.parent / ".build" / "collections")
    tables = []
    for name in arguments.names or BENCHMARKS:
        print(f"running {name} ...", file=sys.stderr, flush=True)
        table = import_module(f"benchmarks.{name}").run(arguments.quick)
        print(f"\n{table.text()}\n", flush=True)
        tables.append(table)
    if not arguments.quick and not arguments.names:
        RESULTS.write_text(markdown(tables), encoding="utf-8")
        print(f"written: {RESULTS.relative_to(Path.cwd())}", file=sys.stderr)
    return 0 if all(table.kept for table in tables) else 1


if __name__ == "__main__":
    sys.exit(main())
