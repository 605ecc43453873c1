# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a cell of the kill matrix: a deploy that is interrupted under load, then run again."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from tests.matrix.cells import SOAK_SECONDS
from tests.matrix.crash import RATE, deploy
from tests.matrix.flows import Flow, Kept
from tests.matrix.kills import (
    CHANGES,
    DRAIN,
    HEALTH,
    MODULE,
    PLAY,
    SLOW_STOP_SECONDS,
    VERIFY,
    Kill,
    expected,
)
from tests.matrix.left import end_left, wait_for_left
from tests.matrix.truth import false_claims
from tests.support.modules import start_module
from tests.support.plays import start_play
from tests.support.router_load import RouterLoad, Seen, router_load
from tests.support.service_front import EngineFront, engine_front

OLD, NEW = "v1", "v2"
RUN_SECONDS = 180.0
LOOK_EVERY = 0.05
LOCK = "deploy.lock"
MARK = "DELIVERY_MATRIX_CELL"
ASKED = {HEALTH: b"was asked for /health", VERIFY: b"was asked for /verify"}
# After the first verify request: it is verified then, and watched or drained.
LATER_SECONDS = 2.5


@dataclass(frozen=True)
class Run:
    """One run of the command: how it ended, and what the module returned."""

    ended: bool
    code: int
    result: Mapping[str, Any]
    seconds: float = 0.0
    output: str = field(default="", repr=False)

    @property
    def good(self) -> bool:
        return self.ended and self.code == 0 and not self.result.get("failed")


@dataclass(frozen=True)
class ObservedKill:
    """What a cell came to.

    :param reached: whether the moment came.
    :param between: who served after the interruption, and once what was told to end had ended.
    :param claims: what the interrupted run said that was not so.
    :param lost_after: requests that failed after the command had been run again.
    """

    reached: bool
    interrupted: Run
    between: Sequence[str]
    claims: Sequence[str]
    again: Run
    third: Run
    version: str
    containers: Sequence[Kept]
    left: Sequence[str]
    locked: bool
    requests: int
    lost: int
    lost_after: int
    why: Sequence[str]


@dataclass
class Command:
    """The command while it runs: a play, or the module alone."""

    process: subprocess.Popen[bytes]
    end: Callable[[], Run]


def run_kill(cell: Kill, flow: Flow) -> ObservedKill:
    """Run a cell; return what was seen. Who made the flow cleans it up."""
    good = deploy(flow, OLD, cell.environment, soak=1)
    assert good.code == 0 and not good.result.get("failed"), good.output[-2000:]
    load = RouterLoad(
        flow.front.url,
        host=flow.front.host,
        rate=RATE,
        slow=cell.slow_seconds,
        uploads=0,
        sockets=0,
    )
    mark = f"{MARK}={flow.name}"
    with ExitStack() as stack:
        stack.callback(end_left, mark)
        stack.enter_context(router_load(load))
        time.sleep(0.5)
        reached, first = interrupt(cell, flow, stack)
        between, claims = [], []
        if cell.target == MODULE:
            # Of a play a module may be left at work: there the command follows at once.
            between.append(flow.front.version())
            time.sleep(SLOW_STOP_SECONDS + 2 if cell.slow_stop else 1.0)
            between.append(flow.front.version())
            claims = false_claims(str(first.result.get("state", "")), flow.containers())
        again = start(cell, flow, stack).end()
        over = time.monotonic()
        left = wait_for_left(mark)
        # Whether the lock is free again, its file says; the third run needs no play.
        locked = (flow.folder / LOCK).exists()
        third = start(replace(cell, target=MODULE), flow, stack).end()
        time.sleep(1.0)
        version, containers = flow.front.version(), flow.containers()
    seen: Seen = load.seen
    return ObservedKill(
        reached=reached,
        interrupted=first,
        between=between,
        claims=claims,
        again=again,
        third=third,
        version=version,
        containers=containers,
        left=left,
        locked=locked,
        requests=seen.requests,
        lost=len(seen.failed),
        lost_after=sum(1 for one in seen.failed_at if one > over + 0.1),
        why=sorted(set(seen.failed))[:4],
    )


def interrupt(cell: Kill, flow: Flow, stack: ExitStack) -> tuple[bool, Run]:
    """Run the command, and send the signal at the moment of the cell; return whether it came."""
    sent = threading.Event()
    running: list[Command] = []
    started = threading.Event()

    def send() -> None:
        started.wait(10)
        process = running[0].process
        if process.poll() is None:
            process.send_signal(cell.signal)
            sent.set()

    if cell.moment.number:
        # What is left of a play goes on by it, so it lasts as long as the cell.
        front: EngineFront = stack.enter_context(
            engine_front(CHANGES, "tell", number=cell.moment.number, told=send)
        )
        running.append(start(cell, flow, stack, docker_host=front.url))
        started.set()
        done = running[0].end()
        return sent.is_set(), done
    running.append(start(cell, flow, stack))
    started.set()
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(cell, flow, send, over))
    watcher.start()
    try:
        done = running[0].end()
    finally:
        over.set()
        watcher.join()
    return sent.is_set(), done


def _watch(cell: Kill, flow: Flow, send: Callable[[], None], over: threading.Event) -> None:
    """Wait for a moment that the new version tells of, and send the signal then."""
    text = ASKED.get(cell.moment.what, ASKED[VERIFY])
    while not over.wait(LOOK_EVERY):
        if text in flow.log(NEW):
            if cell.moment.what not in ASKED:
                over.wait(LATER_SECONDS)
            send()
            return


def start(cell: Kill, flow: Flow, stack: ExitStack, **more: Any) -> Command:
    """Start the command; it is the same at each run."""
    soak = 0 if cell.moment.what == DRAIN else SOAK_SECONDS
    options = flow.arguments(NEW, cell.environment, soak=soak, **more)
    if cell.target == PLAY:
        return _start_play(flow, options, stack)
    folder = flow.folder / f"run-{time.monotonic_ns()}"
    folder.mkdir()
    module = stack.enter_context(start_module(folder, flow.module, options))
    began = time.monotonic()

    def end() -> Run:
        try:
            module.process.wait(RUN_SECONDS)
            ended = True
        except subprocess.TimeoutExpired:
            module.process.kill()
            ended = False
        done = module.end()
        seconds = round(time.monotonic() - began, 1)
        return Run(ended, done.code, done.result, seconds, done.output[-3000:])

    return Command(module.process, end)


def _start_play(flow: Flow, options: Mapping[str, Any], stack: ExitStack) -> Command:
    """Start a play with a lock around the work, as the roles have it."""
    lock = {"path": str(flow.folder / LOCK), "name": flow.name}
    module = "immutable.delivery.deploy_lock"
    task = {
        "name": "Deploy",
        "block": [
            {"name": "Lock", module: lock},
            {"name": "Work", f"immutable.delivery.{flow.module}": dict(options)},
        ],
        "always": [{"name": "Unlock", module: {**lock, "state": "released"}}],
    }
    play = stack.enter_context(start_play([task], env={MARK: flow.name}))
    began = time.monotonic()

    def end() -> Run:
        try:
            done = play.wait(RUN_SECONDS)
        except AssertionError as error:
            return Run(False, -9, {}, RUN_SECONDS, str(error)[-3000:])
        work = [one for one in done.results if one.task in ("Lock", "Work")]
        seconds = round(time.monotonic() - began, 1)
        result = work[-1].data if work else {}
        return Run(True, done.rc, result, seconds, done.output[-3000:])

    return Command(play.process, end)


def judge(cell: Kill, seen: ObservedKill, clean: Sequence[Kept]) -> list[str]:
    """Return what is not as it must be; nothing if the cell is good. Pure.

    :param clean: the containers that the same deploy leaves if nobody interrupts it.
    """
    wanted = expected(cell)
    found = []
    if not seen.reached:
        return ["the moment did not come"]
    if not seen.interrupted.ended:
        found.append("the interrupted run did not end")
    for when, version in zip(("right after", "a while later"), seen.between, strict=False):
        if version not in (OLD, NEW) and not wanted.may_be_down:
            found.append(f"{when} the interruption: {version} serves")
    found += [*seen.claims, *_faults_of_runs(seen)]
    if seen.version != NEW:
        found.append(f"in the end {seen.version} serves")
    if shape(seen.containers) != shape(clean):
        found.append(f"there are {shape(seen.containers)}, not {shape(clean)}")
    if seen.left:
        found.append(f"still at work: {'; '.join(seen.left)}")
    if seen.locked:
        found.append("the lock is held")
    if seen.lost and not wanted.may_lose:
        found.append(f"{seen.lost} of {seen.requests} requests failed: {'; '.join(seen.why)}")
    if seen.lost_after:
        found.append(f"{seen.lost_after} requests failed after the command had been run again")
    return found


def _faults_of_runs(seen: ObservedKill) -> list[str]:
    if not seen.again.good:
        return [f"the command again failed: {_said(seen.again)}"]
    if not seen.third.good:
        return [f"the command a third time failed: {_said(seen.third)}"]
    if seen.third.result.get("changed"):
        return ["the command a third time changed something"]
    return []


def shape(containers: Sequence[Kept]) -> list[str]:
    """Return which versions there are, in which status, with which restart policy."""
    return sorted(f"{one.version} {one.status} ({one.restart})" for one in containers)


def _said(run: Run) -> str:
    return str(run.result.get("msg") or run.output[-300:])[:300]
