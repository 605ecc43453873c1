# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a cell of the crash matrix: a good release under load, then one that crashes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.matrix.cells import SERVICES, SOAK_SECONDS, Crash, Expected, expected
from tests.matrix.flows import Flow, Kept
from tests.matrix.truth import false_claims, faults_of_message
from tests.support.modules import Ended
from tests.support.router_load import RouterLoad, Seen, router_load

RATE = 30.0
DEPLOY_SECONDS = 180
# After the deploy: what was told to end has ended, what restarts in a loop has restarted.
SETTLE_SECONDS = 2.0
BAD = "v3"


@dataclass(frozen=True)
class ObservedCrash:
    """What a cell came to.

    :param versions: who answered right after the deploy, and a while later.
    :param window: the seconds from the first request that failed to the last.
    :param late: requests that failed after the deploy had ended.
    """

    ended: bool
    failed: bool
    result: Mapping[str, Any]
    versions: tuple[str, str]
    containers: Sequence[Kept] = field(default=(), repr=False)
    requests: int = 0
    lost: int = 0
    window: float = 0.0
    late: int = 0
    why: Sequence[str] = ()

    @property
    def kept(self) -> str:
        """The containers in a few words."""
        return ", ".join(f"{one.version} {one.status} ({one.restart})" for one in self.containers)


def run_crash(cell: Crash, flow: Flow) -> ObservedCrash:
    """Run a cell; return what was seen. Who made the flow cleans it up."""
    # Two former releases, so that there is one to keep.
    for version in ("v1", "v2") if cell.flow in SERVICES else ("v2",):
        good = deploy(flow, version, {}, restart=cell.restart, soak=1)
        assert good.code == 0 and not good.result.get("failed"), good.output[-2000:]
    load = RouterLoad(
        flow.front.url,
        host=flow.front.host,
        rate=RATE,
        slow=cell.slow_seconds,
        uploads=0,
        sockets=0,
    )
    with router_load(load):
        time.sleep(1.0)
        bad = deploy(flow, BAD, cell.environment, restart=cell.restart, soak=SOAK_SECONDS)
        over = time.monotonic()
        first = flow.front.version()
        time.sleep(SETTLE_SECONDS)
        second = flow.front.version()
        containers = flow.containers()
    return observed(bad, (first, second), containers, load.seen, over)


def deploy(flow: Flow, version: str, environment: Mapping[str, str], **more: Any) -> Ended:
    """Run a deploy to its end; one that does not end is killed, and has the exit code -9."""
    with flow.start(version, environment, **more) as running:
        try:
            running.process.wait(DEPLOY_SECONDS)
        except subprocess.TimeoutExpired:
            running.process.kill()
        return running.end()


def observed(
    bad: Ended, versions: tuple[str, str], containers: Sequence[Kept], seen: Seen, over: float
) -> ObservedCrash:
    """Return all that a cell came to."""
    at = seen.failed_at
    return ObservedCrash(
        ended=bad.code >= 0,
        failed=bool(bad.result.get("failed")),
        result=bad.result or {"msg": bad.output[-500:]},
        versions=versions,
        containers=containers,
        requests=seen.requests,
        lost=len(at),
        window=round(max(at) - min(at), 2) if at else 0.0,
        late=sum(1 for one in at if one > over + 0.1),
        why=sorted(set(seen.failed))[:4],
    )


def judge(cell: Crash, seen: ObservedCrash) -> list[str]:
    """Return what is not as it must be; nothing if the cell is good. Pure."""
    wanted: Expected = expected(cell)
    found = []
    if not seen.ended:
        found.append(f"did not end within {DEPLOY_SECONDS} s")
    if not seen.failed:
        found.append("the deploy is called a success")
    for when, version in zip(("right after", "a while later"), seen.versions, strict=True):
        if version != "v2":
            found.append(f"{when}: {version} serves")
    if wanted.window == 0 and seen.lost:
        found.append(f"{seen.lost} of {seen.requests} requests failed: {'; '.join(seen.why)}")
    elif seen.window > wanted.window:
        found.append(f"requests failed during {seen.window} s, of at most {wanted.window}")
    if seen.late:
        found.append(f"{seen.late} requests failed after the deploy had ended")
    found += _faults_of_containers(cell, seen.containers)
    if seen.failed:
        found += faults_of_message(seen.result, f"{BAD} crashes")
        found += false_claims(str(seen.result.get("state", "")), seen.containers)
    return found


def _faults_of_containers(cell: Crash, containers: Sequence[Kept]) -> list[str]:
    found = []
    former = [one for one in containers if one.version == "v2"]
    if [(one.status, one.restart) for one in former] != [("running", cell.restart)]:
        shown = [f"{one.status} ({one.restart})" for one in former]
        found.append(f"of v2 there are {shown or 'none'}, not one that runs ({cell.restart})")
    for one in containers:
        if one.version == BAD and one.running:
            found.append(f"{one.name}, which crashes, is {one.status}")
        if not one.running and one.restart != "no":
            found.append(f"{one.name} ({one.version}) is kept with restart policy {one.restart}")
    if cell.flow in SERVICES and "v1" not in {one.version for one in containers}:
        found.append("v1, the earlier good release, is gone")
    return found
