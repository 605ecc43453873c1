# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo proxy against a direct connection and against a textbook aiohttp proxy, in one run."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import harness

HERE = Path(__file__).resolve().parent
LOAD = HERE / "proxy_load.py"
PROXY = HERE.parent / "apps" / "proxy-service" / "main.py"
RATE = 500.0


@contextmanager
def started_proxy(folder: Path) -> Iterator[tuple[str, int]]:
    """The proxy as a process of its own: its URL and pid."""
    ready = folder / "ready.json"
    argv = [
        "--listen",
        "127.0.0.1:0",
        "--ready-file",
        ready,
        "--registry",
        folder / "services.json",
    ]
    with harness.process(PROXY, *argv) as child:
        deadline = time.monotonic() + 20
        while not ready.exists():
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the proxy did not start")
            time.sleep(0.01)
        yield json.loads(ready.read_text())["url"], child.pid


def register(proxy: str, name: str, url: str) -> None:
    """Switch `name` to `url`."""
    with urlopen(
        Request(f"{proxy}/services/{name}/{quote(url, safe='')}", method="POST"), timeout=20
    ) as answer:
        answer.read()


def load(url: str, *, connections: int, seconds: float, rate: float = 0) -> dict[str, Any]:
    """Run the clients as a process and return what they saw."""
    argv = [LOAD, "load", url, "--connections", connections, "--seconds", seconds, "--rate", rate]
    done = subprocess.run(
        [sys.executable, *map(str, argv)], capture_output=True, text=True, timeout=120, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _all_answered(result: dict[str, Any]) -> dict[str, Any]:
    if result["failed"]:
        raise RuntimeError(f"{result['failed']} of {result['requests']} requests failed")
    return result


def download(url: str, blocks: int) -> float:
    """MiB a second of one large answer."""
    began = time.perf_counter()
    size = 0
    with urlopen(f"{url}/big/{blocks}", timeout=60) as answer:
        while data := answer.read(1024 * 1024):
            size += len(data)
    if size != blocks * 64 * 1024:
        raise RuntimeError(f"{url} sent {size} bytes")
    return size / (time.perf_counter() - began) / 2**20


def run(quick: bool) -> harness.Table:
    """Throughput, latency at a fixed rate, processor time and streaming."""
    seconds = 0.8 if quick else 1.5
    rounds = 1 if quick else 5
    blocks = 1600 if quick else 8000
    table = harness.Table(
        "proxy-service: half GET, half POST, small bodies, kept-alive connections"
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        harness.process(LOAD, "serve", "v1") as service,
        started_proxy(Path(folder)) as (proxy, pid),
    ):
        direct = harness.first_line(service)
        with harness.process(LOAD, "textbook", direct) as other:
            urls = {
                "ours": f"{proxy}/demo",
                "direct": direct,
                "textbook aiohttp": harness.first_line(other) + "/demo",
            }
            pids = {"ours": pid, "textbook aiohttp": other.pid}
            register(proxy, "demo", direct)
            _measure(table, urls=urls, pids=pids, seconds=seconds, rounds=rounds, blocks=blocks)
    table.note = "direct: the same clients and service with nothing in between"
    return table


def _measure(
    table: harness.Table,
    *,
    urls: dict[str, str],
    pids: dict[str, int],
    seconds: float,
    rounds: int,
    blocks: int,
) -> None:
    throughput: dict[str, list[float]] = {name: [] for name in urls}
    latency: dict[str, list[list[float]]] = {name: [] for name in urls}
    busy: dict[str, list[float]] = {name: [] for name in pids}
    stream: dict[str, list[float]] = {name: [] for name in urls}
    # Turn by turn, so that what disturbs the machine disturbs all of them.
    for _round in range(rounds):
        for name, url in urls.items():
            result = _all_answered(load(url, connections=16, seconds=seconds))
            throughput[name].append(result["requests"] / result["seconds"])
        for name, url in urls.items():
            before = harness.cpu_seconds(pids[name]) if name in pids else 0.0
            result = _all_answered(load(url, connections=32, seconds=seconds, rate=RATE))
            latency[name].append(result["latencies"])
            if name in pids:
                used = harness.cpu_seconds(pids[name]) - before
                busy[name].append(100 * used / result["seconds"])
        for name, url in urls.items():
            stream[name].append(download(url, blocks))
    best = {name: max(values) for name, values in throughput.items()}
    _add(table, "throughput, 16 connections", "requests/s", harness.HIGHER, best)
    for percent in (50, 99):
        values = {n: _milliseconds(v, percent) for n, v in latency.items()}
        _add(table, f"latency p{percent} at {RATE:.0f} requests/s", "ms", harness.LOWER, values)
    base = _milliseconds(latency["direct"], 50)
    added = {n: _milliseconds(v, 50) - base for n, v in latency.items() if n != "direct"}
    _add(table, "latency added to direct, p50", "ms", harness.LOWER, added)
    cpu = {name: min(values) for name, values in busy.items()}
    _add(table, f"processor at {RATE:.0f} requests/s", "% of a core", harness.LOWER, cpu, bound=50)
    speed = {name: max(values) for name, values in stream.items()}
    _add(table, "large download", "MiB/s", harness.HIGHER, speed)


def _milliseconds(rounds: list[list[float]], percent: float) -> float:
    """The middle one of the rounds' percentiles: one disturbed round must not decide."""
    return 1000 * statistics.median(harness.percentile(v, percent) for v in rounds)


def _add(
    table: harness.Table,
    what: str,
    unit: str,
    better: str,
    values: dict[str, float],
    *,
    bound: float | None = None,
) -> None:
    rivals = {name: value for name, value in values.items() if name != "ours"}
    table.rows.append(harness.Row(what, unit, better, values["ours"], rivals, bound))


if __name__ == "__main__":
    sys.exit(harness.main(run("--quick" in sys.argv)))
