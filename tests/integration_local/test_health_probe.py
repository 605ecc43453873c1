# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""health_probe against small servers: what it waits for and what it tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.modules import run_module
from tests.support.plays import run_play
from tests.unit.plugins.module_utils.loopback import Answer, refusing, serving

UP = Answer(200, {}, b'{"status": "ok", "version": "v24", "locked": false}')
DOWN = Answer(503)


def probe(folder: Path, url: str, **options: Any) -> dict[str, Any]:
    return run_module(folder, "health_probe", {"url": url, "timeout": 30, **options}).result


def test_a_server_is_waited_for_until_it_is_the_one_that_is_meant(tmp_path: Path) -> None:
    old = Answer(200, {}, b'{"version": "v23", "locked": true}')
    checks = [
        {"path": "/health", "fields": {"version": "v24", "locked": False}},
        {"path": "/gone", "status": [200, 404]},
    ]
    with serving(DOWN, None, old, UP) as server:
        result = probe(tmp_path, server.url, checks=checks, count=2, host_header="api.example")
    assert result["changed"] is False
    assert [check["healthy"] for check in result["checks"]] == [2, 2]
    paths = [seen.path for seen in server.seen]
    assert paths == ["/health"] * 5 + ["/gone"] * 2
    assert {(seen.method, seen.headers["Host"]) for seen in server.seen} == {("GET", "api.example")}


FIX = "Nothing was changed. Correct the option, then run this again."


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"timeout": 0},
            "/health did not answer as healthy within 0 s: status 503. Nothing was changed. "
            "See that server's own log.",
        ),
        ({"count": 0}, "count must be at least 1, not 0. " + FIX),
        ({"checks": []}, "checks is empty, so nothing would be proved. " + FIX),
        (
            {"checks": [{"path": "health"}]},
            "a check's path must begin with a slash: health. " + FIX,
        ),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with serving(DOWN) as server:
        result = probe(tmp_path, server.url, **options)
        assert result["failed"] is True
        assert result["msg"].removeprefix(server.url) == told


def test_in_a_play_it_changes_nothing_and_its_failure_is_one_sentence() -> None:
    with serving(UP) as server, refusing() as nobody:
        tasks = [
            {
                "name": name,
                "immutable.delivery.health_probe": {"url": url, "timeout": 0},
                "ignore_errors": True,
            }
            for name, url in (("up", server.url), ("nobody", nobody))
        ]
        played = run_play(tasks, check=True)
    assert not played.changed
    assert not played.task("up").failed, played.output
    assert played.task("nobody").msg == (
        f"{nobody}/health did not answer as healthy within 0 s: {nobody} cannot be reached: "
        "Connection refused. Nothing was changed. See that server's own log."
    )
