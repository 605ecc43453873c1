# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.http import Http, HttpError
from ansible_collections.immutable.delivery.plugins.module_utils.probe import (
    Expectation,
    Unhealthy,
    look_up,
    shortcoming,
    wait_healthy,
)

from .clock import FakeDeadline
from .loopback import Answer, refusing, serving

UP = Answer(200, {}, b'{"status": "ok", "version": "v24", "locked": false, "db": {"n": 3}}')
DOWN = Answer(503, {}, b"starting")


@pytest.mark.parametrize(
    ("document", "dotted", "expected"),
    [
        ({"a": 1}, "a", 1),
        ({"a": {"b": {"c": 2}}}, "a.b.c", 2),
        ({"a": {"b": 1}}, "a.c", None),
        ({"a": 1}, "a.b", None),
        ([1, 2], "0", None),
        (None, "a", None),
        ({}, "", None),
        ({"": 4}, "", 4),
    ],
)
def test_a_dotted_name_descends_into_objects(document: Any, dotted: str, expected: Any) -> None:
    assert look_up(document, dotted) == expected


@given(st.recursive(st.none() | st.integers(), st.lists), st.text())
def test_looking_up_never_fails(document: Any, dotted: str) -> None:
    assert look_up(document, dotted) is None


@pytest.mark.parametrize(
    ("answer", "expected", "told"),
    [
        (UP, Expectation(), ""),
        (Answer(204), Expectation(), ""),
        (DOWN, Expectation(), "status 503"),
        (Answer(302, {"Location": "/"}), Expectation(), "status 302"),
        (Answer(404), Expectation(status=(404, 410)), ""),
        (UP, Expectation(status=(404, 410)), "status 200"),
        (UP, Expectation(fields={"version": "v24", "db.n": "3", "locked": "False"}), ""),
        (UP, Expectation(fields={"locked": "false"}), ""),
        (UP, Expectation(fields={"locked": "true"}), "locked is false, not true"),
        (UP, Expectation(fields={"version": "v25"}), "version is v24, not v25"),
        (UP, Expectation(fields={"release": "r1"}), "release is missing, and should be r1"),
    ],
)
def test_what_is_wrong_is_said_in_a_few_words(
    answer: Answer, expected: Expectation, told: str
) -> None:
    with serving(answer) as server:
        assert shortcoming(Http(server.url), expected, FakeDeadline(5)) == told
    assert [seen.path for seen in server.seen] == ["/health"]


def test_a_page_instead_of_json_is_a_shortcoming() -> None:
    page = Answer(200, {"Content-Type": "text/html"}, b"<html>")
    with serving(page) as server:
        told = shortcoming(Http(server.url), Expectation(fields={"a": "b"}), FakeDeadline(5))
    assert told == f"{server.url} answered 200 with 6 bytes (text/html) that are not JSON"


def test_a_server_that_is_not_there_is_a_shortcoming() -> None:
    with refusing() as url:
        told = shortcoming(Http(url), Expectation(), FakeDeadline(5))
    assert told == f"{url} cannot be reached: Connection refused"


def test_a_connection_that_breaks_is_a_shortcoming_and_asked_once() -> None:
    with serving(None) as server:
        told = shortcoming(Http(server.url), Expectation(), FakeDeadline(5))
    assert "broke during GET /health" in told
    assert len(server.seen) == 1


def test_what_waiting_would_not_mend_is_an_error() -> None:
    with serving(UP) as server, pytest.raises(HttpError, match="does not speak TLS"):
        http = Http(server.url.replace("http:", "https:"))
        shortcoming(http, Expectation(), FakeDeadline(5))


def test_health_is_waited_for() -> None:
    deadline = FakeDeadline(60)
    with serving(DOWN, None, DOWN, UP) as server:
        wait_healthy(Http(server.url), Expectation("/up"), deadline=deadline)
    assert [seen.path for seen in server.seen] == ["/up"] * 4
    assert 0 < deadline.elapsed < 60


def test_a_healthy_server_is_asked_at_once() -> None:
    deadline = FakeDeadline(60)
    with serving(UP) as server:
        wait_healthy(Http(server.url), Expectation(), deadline=deadline)
    assert deadline.elapsed == 0


def test_successes_must_come_in_a_row() -> None:
    with serving(UP, UP, DOWN, UP, UP, UP) as server:
        wait_healthy(Http(server.url), Expectation(), deadline=FakeDeadline(60), successes=3)
    assert len(server.seen) == 6


def test_an_unhealthy_server_is_told_with_what_it_said_last() -> None:
    with serving(Answer(500), DOWN) as server, pytest.raises(Unhealthy) as raised:
        wait_healthy(Http(server.url), Expectation(), deadline=FakeDeadline(5))
    assert raised.value.message == (
        f"{server.url}/health did not answer as healthy within 5 s: status 503"
    )
    assert raised.value.next_step


def test_no_time_at_all_still_means_one_question() -> None:
    with serving(DOWN) as server, pytest.raises(Unhealthy):
        wait_healthy(Http(server.url), Expectation(), deadline=FakeDeadline(0))
    assert len(server.seen) == 1
