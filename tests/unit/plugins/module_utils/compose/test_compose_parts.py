# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What plans are made of: lines of files, downtimes, colours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.compose.cli import Compose
from ansible_collections.immutable.delivery.plugins.module_utils.compose.colours import (
    CLEAR,
    POLICY,
    RESUME,
    RETIRE,
    SOAK,
    SWITCH,
    UP,
    WATCH,
    Move,
    Split,
    Standing,
    candidate,
    live_project,
    plan,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.engine_state import (
    Instance,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.events import (
    ROUTED,
    Event,
    downtimes,
    event_of,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.suitable import line_of
from ansible_collections.immutable.delivery.plugins.module_utils.engine.options import Connection

from .world import instance, service

FILE = """\
version: "3"
volumes:
  web:
    ports: {}
services:
  # web:
  db:
    ports: [1]
  "web":
    image: x
    environment:
      ports: 1
    ports:
      - "80:80"
"""


def test_lines_are_found_by_their_place() -> None:
    lines = FILE.splitlines()
    assert line_of(lines, "web", "ports") == 13
    assert line_of(lines, "db", "ports") == 8
    assert line_of(lines, "web", "container_name") is None
    assert line_of(["services: {web: {ports: [1]}}"], "web", "ports") is None


def events(*told: tuple[float, str, str]) -> list[Event]:
    return [Event(int(time * 1e9), "web", name, action) for time, name, action in told]


@pytest.mark.parametrize(
    ("told", "checked", "down"),
    [
        ([], (), 0.0),
        ([(1, "old", "kill"), (2, "old", "die"), (3, "new", "start")], (), 2.0),
        # Its own check decides where it has one.
        (
            [(1, "old", "kill"), (3, "new", "start"), (5, "new", "health_status: healthy")],
            ("new",),
            4.0,
        ),
        # The new one was there first.
        ([(1, "new", "start"), (2, "old", "kill"), (3, "old", "die")], (), 0.0),
        # The longest of two.
        (
            [
                *[(1, "old", "die"), (2, "new", "start"), (3, "new", "die")],
                *[(6, "new", "start")],
            ],
            (),
            3.0,
        ),
        ([(1, "old", "die")], (), None),
    ],
)
def test_downtime_is_when_nobody_is_ready(
    told: list[tuple[float, str, str]], checked: tuple[str, ...], down: float | None
) -> None:
    assert downtimes(reversed(events(*told)), {"web": {"old"}}, checked) == {"web": down}


@pytest.mark.parametrize(
    ("told", "down"),
    [
        ([(1, "old", "kill"), (2, "old", "die"), (3, "new", "start"), (5, "", ROUTED)], 4.0),
        # In lock-step, and where the router had been told before the old one went.
        ([(1, "new", "start"), (2, "", ROUTED), (3, "old", "kill")], 0.0),
        ([(1, "new", "start"), (3, "old", "kill"), (4, "", ROUTED)], 1.0),
        # A new one that ended before the router was told of it.
        ([(1, "old", "die"), (2, "new", "start"), (3, "new", "die"), (4, "", ROUTED)], None),
    ],
)
def test_behind_a_router_a_service_is_down_until_that_follows(
    told: list[tuple[float, str, str]], down: float | None
) -> None:
    assert downtimes(events(*told), {"web": {"old"}}, (), {"web"}) == {"web": down}


def test_who_was_not_there_was_not_down() -> None:
    found = downtimes(events((1, "new", "start"), (2, "x", "die")), {"web": set()}, ())
    assert found == {"web": 0.0}


def test_signals_that_end_nothing_are_no_events() -> None:
    def killed(number: str) -> Event | None:
        actor = {"ID": "x", "Attributes": {"signal": number}}
        return event_of({"Action": "kill", "Actor": actor, "timeNano": 1})

    assert killed("1") is None
    assert killed("15") == Event(1, "", "x", "kill")
    assert event_of({"Action": "exec_start: x"}) is None


def standing(*running: str, live: str | None = None, stopped: str = "") -> Standing:
    web = service("web")
    found = {
        name: {"web": [instance(web, status="running" if name in running else "exited")]}
        for name in (*running, *([stopped] if stopped else []))
    }
    urls = {f"http://h:{number}": name for number, name in enumerate(running)}
    routes = {"web": [url for url, name in urls.items() if name == live]}
    return Standing({"p-blue": {}, "p-green": {}, "p": {}, **found}, routes, urls)


@pytest.mark.parametrize(
    ("seen", "live", "target"),
    [
        (standing(), None, "p-blue"),
        (standing("p-blue", live="p-blue"), "p-blue", "p-green"),
        (standing("p-green", "p-blue", live="p-green"), "p-green", "p-blue"),
        (standing("p", live="p"), "p", "p-blue"),
        # The machine was started anew, so the router's address is an old one.
        (standing("p-blue", stopped="p-green"), "p-blue", "p-green"),
        (standing("p", "p-blue"), "p-blue", "p-green"),
    ],
)
def test_who_is_live_is_asked_of_the_router(seen: Standing, live: str | None, target: str) -> None:
    assert live_project(seen, "p") == live
    assert candidate("p", live) == target


def test_traffic_to_both_is_nobodys() -> None:
    seen = standing("p-blue", "p-green", live="p-blue")
    split = Standing(seen.projects, {**seen.routes, "api": ["http://h:1"]}, seen.reached)
    with pytest.raises(Split, match="p-blue and p-green"):
        live_project(split, "p")


def coloured(started: int, **more: Any) -> dict[str, list[Instance]]:
    """A project of a service and of a job that has ended."""
    web, job = service("web"), service("job")
    found = {"created": started - 1, "started": started, **more}
    return {"web": [instance(web, **found)], "job": [instance(job, status="exited")]}


STOPPED = {"status": "exited", "finished": 50}


@pytest.mark.parametrize(
    ("blue", "green", "live"),
    [
        # A candidate gets its restart policies before it gets traffic.
        (coloured(10, restart="always"), coloured(20), ["p-blue"]),
        (coloured(20), coloured(10, restart="always"), ["p-green"]),
        (coloured(10), coloured(20, restart="always"), ["p-blue", "p-green"]),
        (coloured(20), coloured(10), ["p-green", "p-blue"]),
        (coloured(10, restart="always"), coloured(20, restart="always"), ["p-blue", "p-green"]),
        # Health and age tell if nothing else does.
        (coloured(10, health="unhealthy"), coloured(20), ["p-green"]),
        (coloured(10), coloured(20, health="unhealthy"), ["p-blue"]),
        (coloured(20, health="unhealthy"), coloured(10, health="unhealthy"), ["p-green"]),
        (coloured(10, health="starting"), coloured(20), ["p-blue", "p-green"]),
        # One that crashed since and was restarted has another port than the router knows.
        (coloured(10), coloured(20, restarts=1), ["p-blue"]),
        (coloured(10, restarts=2), coloured(20), ["p-green"]),
        (coloured(10, restarts=1), coloured(20, restarts=1), ["p-blue", "p-green"]),
        # None runs: what was retired has lost its policies, and ended first.
        (coloured(10, **STOPPED), coloured(20, status="exited", finished=60), ["p-green"]),
        (coloured(10, **STOPPED, restart="always"), coloured(20, **STOPPED), ["p-blue"]),
        (
            coloured(10, **STOPPED),
            {"web": [instance(service("web"), status="created")]},
            ["p-blue"],
        ),
        ({}, {}, []),
    ],
)
def test_who_may_be_live_if_nobody_has_traffic(
    blue: dict[str, list[Instance]], green: dict[str, list[Instance]], live: list[str]
) -> None:
    seen = Standing({"p-blue": blue, "p-green": green, "p": {}}, {"web": ["http://gone:1"]})
    assert seen.may_be_live(list(seen.projects)) == live
    if len(live) > 1:
        with pytest.raises(Split, match="p-blue and p-green run, and the router sends traffic to"):
            live_project(seen, "p")
    else:
        assert live_project(seen, "p") == (live[0] if live else None)
        assert candidate("p", live[0] if live else None) not in live


def test_a_project_that_is_stopped_in_part_was_on_its_way_out() -> None:
    old = coloured(10, restart="always")
    old["api"] = [instance(service("api"), created=9, started=10, **STOPPED)]
    new = coloured(20, restart="always")
    new["api"] = [instance(service("api"), created=19, started=20, restart="always")]
    seen = Standing({"p-blue": old, "p-green": new, "p": {}}, {"web": []})
    assert (seen.whole("p-blue"), seen.whole("p-green")) == (False, True)
    assert live_project(seen, "p") == "p-green"


def test_the_steps_between_two_projects() -> None:
    seen = standing("p-blue", live="p-blue", stopped="p-green")
    move = Move("p-green", True, {"web": None})
    assert [step.action for step in plan(seen, move)] == [CLEAR, UP, SWITCH, RETIRE]
    stays = Move("p-blue", False, {"web": ["http://H:0/"]})
    assert plan(seen, stays) == []
    assert [step.summary for step in plan(seen, Move("p-blue", False, {}, keep=False))] == [
        "remove p-green"
    ]


def test_the_live_project_gets_the_traffic_back_if_the_router_leads_nowhere() -> None:
    crashed = coloured(20, restarts=1, restart="always")
    projects = {"p-blue": coloured(10, restart="always"), "p-green": crashed, "p": {}}
    move = Move("p-green", True, {"web": None})
    steps = plan(Standing(projects, {"web": ["http://gone:1"]}), move)
    assert [step.action for step in steps] == [RESUME, CLEAR, UP, SWITCH, RETIRE]
    assert steps[0].detail == {"project": "p-blue"}
    # Without a route there is no outage.
    assert plan(Standing(projects, {"web": []}), move)[0].action == CLEAR


def test_a_project_is_watched_before_the_former_one_is_stopped() -> None:
    seen = standing("p-blue", live="p-blue")
    move = Move("p-green", True, {"web": None}, restart={"web": "always"}, soak=10.0)
    assert [step.action for step in plan(seen, move)] == [UP, POLICY, SWITCH, SOAK, RETIRE]
    # Two run after a run that was killed: it had not watched the new one to its end.
    both = standing("p-green", "p-blue", live="p-green")
    stays = Move("p-green", False, {"web": ["http://h:0"]}, restart={"web": "always"}, soak=10.0)
    assert [step.action for step in plan(both, stays)] == [POLICY, SOAK, RETIRE]
    assert both.other("p-green") == "p-blue"
    # Nor is the one that served before removed for another new one until it has been watched.
    other = Move("p-blue", True, {"web": None}, soak=10.0)
    steps = [WATCH, CLEAR, UP, SWITCH, SOAK, RETIRE]
    assert [step.action for step in plan(both, other)] == steps
    assert next(step.action for step in plan(both, replace(other, soak=0.0))) == CLEAR
    assert plan(standing("p-green", live="p-green"), replace(stays, restart={})) == []


def test_secrets_are_not_in_what_is_shown_of_a_project() -> None:
    compose = Compose(Connection(), Path("/"), environment={"A": "pass", "B": "password"})
    assert "pass" not in repr(compose)
