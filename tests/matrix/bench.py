# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the cells of both matrices share: an engine, an image, routers; and how one cell is run."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from queue import Queue
from typing import Any

from docker import DockerClient

from tests.matrix import crash, kill
from tests.matrix.cells import DEMO, SOAK_SECONDS, Crash
from tests.matrix.flows import FLOWS, Flow, Kept
from tests.matrix.fronts import Front, open_fronts
from tests.matrix.kills import KILL_FLOWS, Kill, Moment, kills, moments
from tests.support.actor import actor_image
from tests.support.engine import connect, new_prefix, remove_all
from tests.support.service_front import engine_front

# Beside other tests; a cell that runs with few others waits most of the time.
AT_ONCE = 2


@dataclass(frozen=True)
class Row:
    """A cell, what was seen, and what is not as it must be; nothing was seen if it did not run."""

    cell: Crash | Kill
    seen: crash.ObservedCrash | kill.ObservedKill | None
    faults: Sequence[str]


@dataclass(frozen=True)
class Clean:
    """A deploy that nobody interrupts: what it asked the engine, and the containers it left."""

    requests: Sequence[str]
    containers: Sequence[Kept]


@dataclass
class Bench:
    """Runs cells, a few at a time."""

    engine: DockerClient
    image: str
    fronts: Mapping[tuple[str, str], Front]
    prefix: str
    folder: Path
    at_once: int = AT_ONCE
    clean: dict[str, Clean] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = count(1)
        self._routes: Queue[str] = Queue()
        for route in sorted({route for _router, route in self.fronts}):
            self._routes.put(route)

    @contextmanager
    def flow(self, flow: str, router: str) -> Iterator[Flow]:
        """A service for one cell; nothing of it is left afterwards."""
        route = self._routes.get()
        try:
            # No name may begin with another: what is removed is known by how its name begins.
            name = f"{self.prefix}-c{next(self._numbers):03}"
            folder = self.folder / name
            folder.mkdir()
            front = self.fronts[router, route]
            found = FLOWS[flow](self.engine, name, self.image, front, folder)
            try:
                yield found
            finally:
                found.clean_up()
        finally:
            self._routes.put(route)

    def crash(self, cell: Crash) -> Row:
        """Run a cell of the crash matrix."""
        with self.flow(cell.flow, cell.router) as flow:
            seen = crash.run_crash(cell, flow)
        return Row(cell, seen, crash.judge(cell, seen))

    def kill(self, cell: Kill) -> Row:
        """Run a cell of the kill matrix."""
        clean = self.clean_deploy(cell.flow)
        with self.flow(cell.flow, cell.router) as flow:
            seen = kill.run_kill(cell, flow)
        return Row(cell, seen, kill.judge(cell, seen, clean.containers))

    def clean_deploy(self, name: str) -> Clean:
        """Deploy without an interruption, once for each flow."""
        if name not in self.clean:
            with self.flow(name, DEMO) as flow, engine_front() as front:
                for version in (kill.OLD, kill.NEW):
                    front.requests.clear()
                    where = {"docker_host": front.url} if flow.on_an_engine else {}
                    ended = crash.deploy(flow, version, {}, soak=SOAK_SECONDS, **where)
                    assert ended.code == 0, ended.output
                self.clean[name] = Clean(tuple(front.requests), flow.containers())
        return self.clean[name]

    def kills(self, flows: Iterable[str] = KILL_FLOWS) -> list[Kill]:
        """Return all cells of the kill matrix, for which each flow is run once."""
        found: dict[str, list[Moment]] = {}
        for flow in flows:
            found[flow] = moments(flow, self.clean_deploy(flow).requests)
        return kills(found)

    def run(self, cells: Sequence[Any], run_cell: Callable[[Any], Row]) -> Iterator[Row]:
        """Run the cells, a few at a time; rows come in the order of the cells."""

        def attempt(cell: Any) -> Row:
            try:
                return run_cell(cell)
            except Exception:
                return Row(cell, None, [f"it could not be run: {traceback.format_exc()[-2000:]}"])

        pool = ThreadPoolExecutor(self.at_once)
        try:
            yield from pool.map(attempt, cells)
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def open_bench(at_once: int = AT_ONCE) -> Iterator[Bench]:
    """A bench for so many cells at once; what they made on the engine is removed."""
    engine, prefix = connect(), new_prefix()
    routes = [f"m{number}" for number in range(at_once)]
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with open_fronts(folder, routes) as fronts:
                yield Bench(engine, actor_image(), fronts, prefix, folder, at_once)
    finally:
        remove_all(engine, prefix)
        engine.close()
