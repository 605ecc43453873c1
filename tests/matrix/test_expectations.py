# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the matrices expect of their cells, and what they call a fault."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from tests.matrix import cells, crash, kill, kills
from tests.matrix.bench import Row
from tests.matrix.flows import Kept
from tests.matrix.table import crash_grid, kill_grid
from tests.matrix.truth import false_claims

FORMER = Kept("demo-2", "v2", "running", "unless-stopped", 0, 0)
EARLIER = Kept("demo-1", "v1", "exited", "no", 0, 0)
CELL = cells.Crash(cells.SERVICE, cells.START, cells.DEMO)
RESULT = {
    "msg": "the container demo-3 ended with exit code 3",
    "kind": "container",
    "state": "demo-3 was removed. Live as before: demo-2 at http://127.0.0.1:1.",
    "next_step": "Fix the error in the container's log, then deploy again.",
    "log": ["v3 begins", "v3 crashes: it cannot start"],
}
GOOD = crash.ObservedCrash(True, True, RESULT, ("v2", "v2"), (EARLIER, FORMER), requests=100)
KILL = kills.Kill(
    cells.SERVICE, kills.Moment("container stop", 4), signal.SIGTERM, kills.MODULE, cells.DEMO
)
RUN = kill.Run(True, 0, {"changed": False})
CLEAN = (replace(EARLIER, version="v1"), FORMER)
GOOD_KILL = kill.ObservedKill(
    reached=True,
    interrupted=kill.Run(True, 1, {"failed": True}),
    between=("v1", "v1"),
    claims=(),
    again=RUN,
    third=RUN,
    version="v2",
    containers=CLEAN,
    left=(),
    locked=False,
    requests=100,
    lost=0,
    lost_after=0,
    why=(),
)


def test_every_combination_is_there_once() -> None:
    found = cells.crashes()
    assert len({cell.name for cell in found}) == len(found) == 111
    assert {cell.flow for cell in found} == set(cells.FLOWS)
    by_flow = {"service": kills.moments("service", ["POST /containers/create?name=x", "GET /x"])}
    every = kills.kills(by_flow)
    assert len({cell.name for cell in every}) == len(every) == 5 * 3 * 2


@pytest.mark.parametrize(
    ("flow", "moment", "may_fail"),
    [
        (cells.SERVICE, cells.START, False),
        (cells.SERVICE, cells.TEST, False),
        (cells.SERVICE, cells.SWITCHED, True),
        (cells.SERVICE_FIXED, cells.HEALTHY, False),
        (cells.SERVICE_FIXED, cells.VERIFY, True),
        (cells.RECREATE, cells.START, True),
        (cells.ROLLING, cells.START, False),
        (cells.BLUE_GREEN, cells.HEALTHY, False),
    ],
)
def test_requests_may_fail_only_if_the_former_release_could_not_go_on(
    flow: str, moment: str, may_fail: bool
) -> None:
    assert (cells.expected(cells.Crash(flow, moment, cells.DEMO)).window > 0) is may_fail


def test_a_good_cell_has_no_fault() -> None:
    assert crash.judge(CELL, GOOD) == []
    assert kill.judge(KILL, GOOD_KILL, CLEAN) == []


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (replace(GOOD, failed=False), "called a success"),
        (replace(GOOD, versions=("v2", "503")), "a while later: 503 serves"),
        (replace(GOOD, lost=1, why=("post: 502",)), "1 of 100 requests failed: post: 502"),
        (replace(GOOD, late=2), "after the deploy had ended"),
        (replace(GOOD, containers=(FORMER,)), "the earlier good release, is gone"),
        (
            replace(GOOD, containers=(replace(EARLIER, restart="always"), FORMER)),
            "kept with restart policy always",
        ),
        (
            replace(GOOD, containers=(EARLIER, replace(FORMER, status="exited"))),
            "Live as before: demo-2 at http://127', but demo-2 is exited",
        ),
        (replace(GOOD, result={**RESULT, "next_step": ""}), "no next_step"),
        (replace(GOOD, result={**RESULT, "log": []}), "no lines of its log"),
        (replace(GOOD, result={**RESULT, "msg": "ended with exit code 0"}), "exit code 0"),
        (replace(GOOD, result={**RESULT, "next_step": "See who else works on it."}), "blames"),
    ],
)
def test_a_fault_of_a_crash_is_seen(seen: crash.ObservedCrash, words: str) -> None:
    assert any(words in fault for fault in crash.judge(CELL, seen)), crash.judge(CELL, seen)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (replace(GOOD_KILL, reached=False), "the moment did not come"),
        (replace(GOOD_KILL, between=("v1", "502")), "a while later the interruption: 502 serves"),
        (replace(GOOD_KILL, again=replace(RUN, code=2)), "the command again failed"),
        (replace(GOOD_KILL, third=replace(RUN, result={"changed": True})), "changed something"),
        (replace(GOOD_KILL, version="v1"), "in the end v1 serves"),
        (replace(GOOD_KILL, containers=(*CLEAN, FORMER)), "there are"),
        (replace(GOOD_KILL, left=("python",)), "still at work"),
        (replace(GOOD_KILL, locked=True), "the lock is held"),
        (replace(GOOD_KILL, lost=1), "1 of 100 requests failed"),
    ],
)
def test_a_fault_of_a_kill_is_seen(seen: kill.ObservedKill, words: str) -> None:
    found = kill.judge(KILL, seen, CLEAN)
    assert any(words in fault for fault in found), found


def test_what_a_state_says_is_compared_with_the_engine() -> None:
    there = [FORMER, replace(EARLIER, name="web-1", status="running")]
    assert false_claims("web-1 serves again; demo-3 was removed.", there) == []
    assert false_claims("web-1 was stopped again", there) != []
    assert false_claims("demo-2 was removed", there) != []
    assert false_claims("demo-9 serves again", there) != []


def test_requests_to_the_engine_are_told_apart() -> None:
    requests = [
        "GET /containers/json",
        "POST /containers/create?name=x",
        "POST /containers/abc/start",
        "POST /containers/abc/wait?condition=not-running",
        "POST /containers/abc/stop?t=20",
        "DELETE /containers/abc?v=1",
        "POST /networks/create",
    ]
    assert [moment.name for moment in kills.moments(cells.SERVICE, requests)] == [
        "1 container create",
        "2 container start",
        "3 container stop",
        "4 container remove",
        "5 network create",
        *(kills.HEALTH, kills.VERIFY, kills.SOAK, kills.DRAIN),
    ]


def test_the_tables_have_a_line_for_each_flow_and_moment() -> None:
    other = cells.Crash(cells.SERVICE, cells.START, cells.NGINX)
    text = crash_grid([Row(CELL, GOOD, []), Row(other, replace(GOOD, lost=3), ["x"])]).text()
    assert "2 cells, 1 not as they must be" in text
    (line,) = [line for line in text.splitlines() if line.startswith("service ")]
    assert "v2, 0" in line and "v2, 3 in 0.0 s FAULT" in line and "v1 (no)" in line
    text = kill_grid([Row(KILL, GOOD_KILL, [])]).text()
    assert "4 container stop" in text and "v1, 0" in text
