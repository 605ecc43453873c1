# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a switch takes: from sending the registration to the first answer of the new version.

The registration is durable before it is answered, so the rival is the least that this costs on the
same disk: writing a file of that size, syncing it and renaming it into place.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import harness
from benchmarks.bench_proxy import LOAD, RATE, load, register, started_proxy

SWITCHES = 100


def run(quick: bool) -> harness.Table:
    """Switch to and fro between two services, under steady traffic."""
    seconds = 3.0 if quick else 10.0
    with (
        tempfile.TemporaryDirectory() as folder,
        harness.process(LOAD, "serve", "v0") as first,
        harness.process(LOAD, "serve", "v1") as second,
        started_proxy(Path(folder)) as (proxy, _process),
        ThreadPoolExecutor(1) as pool,
    ):
        services = [harness.first_line(first), harness.first_line(second)]
        register(proxy, "demo", services[0])
        traffic = pool.submit(load, f"{proxy}/demo", connections=32, seconds=seconds, rate=RATE)
        seen = _switch(proxy, services, traffic)
        lost = int(traffic.result()["failed"])
        floor = _syncs(Path(folder), len(seen["registered"]))
    table = harness.Table(f"switch of the demo proxy, at {RATE:.0f} requests/s besides")
    for percent in (50, 99):
        for what, key in (("registration answered", "registered"), ("first new answer", "first")):
            row = harness.Row(
                f"{what}, p{percent}",
                "ms",
                harness.LOWER,
                1000 * harness.percentile(seen[key], percent),
                {"file sync": 1000 * harness.percentile(floor, percent)},
            )
            table.rows.append(row)
    stale = float(sum(seen["stale"]))
    table.rows += [
        harness.Row("old answers after a registration", "", harness.LOWER, stale, bound=0),
        harness.Row("requests lost", "", harness.LOWER, float(lost), bound=0),
    ]
    requests = traffic.result()["requests"]
    table.note = f"{len(seen['first'])} switches, {requests} requests besides"
    return table


def _switch(
    proxy: str, services: list[str], traffic: Future[dict[str, Any]]
) -> dict[str, list[float]]:
    parts = urlsplit(proxy)
    api = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    client = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    seen: dict[str, list[float]] = {"registered": [], "first": [], "stale": []}
    number = 0
    while number < SWITCHES or not traffic.done():
        number += 1
        wanted = f"v{number % 2}"
        encoded = quote(services[number % 2], safe="")
        began = time.perf_counter()
        api.request("POST", f"/services/demo/{encoded}")
        answer = api.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the registration was answered {answer.status}")
        seen["registered"].append(time.perf_counter() - began)
        stale = -1
        version = None
        while version != wanted:
            stale += 1
            client.request("GET", "/demo/1")
            reply = client.getresponse()
            reply.read()
            version = reply.headers["X-Version"]
        seen["first"].append(time.perf_counter() - began)
        seen["stale"].append(stale)
    api.close()
    client.close()
    return seen


def _syncs(folder: Path, times: int) -> list[float]:
    """How long the disk takes for a durable file of a registry's size."""
    text = json.dumps({"services": {"demo": "http://127.0.0.1:12345"}, "version": 1}, indent=2)
    taken = []
    for _switch in range(times):
        began = time.perf_counter()
        part = folder / "part"
        with part.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / "whole")
        directory = os.open(folder, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
        taken.append(time.perf_counter() - began)
    return taken


if __name__ == "__main__":
    sys.exit(harness.main(run("--quick" in sys.argv)))
