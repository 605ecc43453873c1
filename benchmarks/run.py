# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs every benchmark, prints its table, and writes RESULTS.md from a whole run.

    benchmarks/run.py [--quick] [NAME ...]

With names, only their tables are replaced in RESULTS.md; with --quick nothing is written, since the
page is of whole and unshortened runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib import import_module
from pathlib import Path

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.page import BENCHMARKS, write

HERE = Path(__file__).resolve().parent


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
    tables = {}
    for name in arguments.names or BENCHMARKS:
        print(f"running {name} ...", file=sys.stderr, flush=True)
        table = import_module(f"benchmarks.{name}").run(arguments.quick)
        print(f"\n{table.text()}\n", flush=True)
        if not arguments.quick:
            # At once: a run of all takes long, and one that is ended has still measured these.
            write({name: table})
        tables[name] = table
    return 0 if all(table.kept for table in tables.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
