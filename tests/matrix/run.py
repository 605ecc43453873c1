# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the matrices: all cells, or those whose names contain the words that are given.

    python -m tests.matrix.run crash [WORD ...]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from queue import Queue

from tests.matrix.cells import Crash, crashes
from tests.matrix.crash import described, judge, run_crash
from tests.matrix.flows import actor_image
from tests.matrix.fronts import Front, open_fronts
from tests.support.engine import connect, new_prefix, remove_all

AT_ONCE = 2


class Bench:
    """The engine, the image and the routers that all cells share."""

    def __init__(self, engine, image: str, fronts, prefix: str, folder: Path) -> None:
        self.engine = engine
        self.image = image
        self.fronts: dict[tuple[str, str], Front] = fronts
        self.prefix = prefix
        self.folder = folder
        self.routes: Queue[str] = Queue()
        for route in sorted({route for _router, route in fronts}):
            self.routes.put(route)
        self.number = 0

    @contextmanager
    def place(self, router: str) -> Iterator[tuple[str, Front, Path]]:
        """A name, a service of a router, and a folder for one cell."""
        route = self.routes.get()
        self.number += 1
        name = f"{self.prefix}-c{self.number}"
        folder = self.folder / name
        folder.mkdir()
        try:
            yield name, self.fronts[router, route], folder
        finally:
            self.routes.put(route)


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """What all cells share; what they made on the engine is removed."""
    engine, prefix = connect(), new_prefix()
    try:
        with open_fronts(folder, [f"m{number}" for number in range(AT_ONCE)]) as fronts:
            yield Bench(engine, actor_image(), fronts, prefix, folder)
    finally:
        remove_all(engine, prefix)
        engine.close()


def run_one(bench: Bench, cell: Crash):
    with bench.place(cell.router) as (name, front, folder):
        try:
            seen = run_crash(cell, bench.engine, name, bench.image, front, folder)
        except Exception:
            return cell, None, [f"the cell could not be run: {traceback.format_exc()[-1500:]}"]
    return cell, seen, judge(cell, seen)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cells = [c for c in crashes() if all(word in c.name for word in arguments.words)]
    bad = 0
    with tempfile.TemporaryDirectory() as folder, open_bench(Path(folder)) as bench:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for cell, seen, faults in pool.map(lambda cell: run_one(bench, cell), cells):
                bad += bool(faults)
                print(f"{'FAULT' if faults else 'good '} {cell.name}")
                if seen is not None:
                    print(f"      {seen.versions}; lost {seen.lost}/{seen.requests} in {seen.window} s; {seen.kept}")
                    print(f"      {described(seen)}")
                    print(f"      state: {seen.result.get('state')} next: {seen.result.get('next_step')}")
                for fault in faults:
                    print(f"   -  {fault}")
                sys.stdout.flush()
                if arguments.json:
                    with arguments.json.open("a") as out:
                        out.write(json.dumps({"cell": asdict(cell), "seen": seen and asdict(seen), "faults": faults}, default=str) + "\n")
    print(f"{bad} of {len(cells)} cells have faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
