# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry's client against answers of every kind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.http import Http
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import RouterError
from ansible_collections.immutable.delivery.plugins.module_utils.routers.registry import Registry

from ..loopback import Answer, refusing, serving

HTML = Answer(200, {"Content-Type": "text/html"}, b"<html>Welcome</html>")
HTML_404 = Answer(404, {"Content-Type": "text/html"}, b"Cannot GET /services/demo")


def said(document: Any, status: int = 200) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(document).encode())


def registry(url: str) -> Registry:
    return Registry(Http(url, retry_wait=0.01), timeout=20)


@pytest.mark.parametrize(
    ("answer", "url"),
    [
        (said({"url": {"url": "http://10.0.0.5", "name": "demo"}}), "http://10.0.0.5"),
        (said({}), None),
        (said({"error": "No such service."}, 404), None),
    ],
)
def test_observe(answer: Answer, url: str | None) -> None:
    with serving(answer) as server:
        assert registry(server.url).observe("demo").url == url
        assert [(seen.method, seen.path) for seen in server.seen] == [("GET", "/services/demo")]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (HTML, "that are not JSON"),
        (HTML_404, "that are not JSON"),
        (said([]), "JSON that is not the registry's"),
        (said({"url": "http://10.0.0.5"}), "JSON that is not the registry's"),
        (said({"url": {"url": 5}}), "JSON that is not the registry's"),
        (said({"hello": "world"}), "JSON that is not the registry's"),
        (said({"error": "Not for you."}, 403), "with 403: Not for you"),
        (Answer(503, {}, b"<html>"), "with 503"),
        (Answer(302, {"Location": "/login"}), "with 302"),
    ],
)
def test_an_answer_that_is_no_route_is_refused(answer: Answer, message: str) -> None:
    with serving(answer) as server, pytest.raises(DeliveryError, match=message) as caught:
        registry(server.url).observe("demo")
    assert caught.value.next_step


def test_a_proxy_that_cannot_be_reached() -> None:
    with refusing() as url, pytest.raises(DeliveryError, match="cannot be reached"):
        registry(url).observe("demo")


def test_switch_encodes_the_whole_address() -> None:
    with serving(said({"success": True})) as server:
        registry(server.url).switch("demo", "http://[::1]:8080/a b%2F?")
    assert [(seen.method, seen.path) for seen in server.seen] == [
        ("POST", "/services/demo/http%3A%2F%2F%5B%3A%3A1%5D%3A8080%2Fa%20b%252F%3F")
    ]


def test_a_registration_is_sent_again_when_the_connection_breaks() -> None:
    with serving(None, said({"success": True})) as server:
        registry(server.url).switch("demo", "http://10.0.0.5")
        assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (said({"success": False, "error": "No."}), "did not confirm POST for demo: No"),
        (said({"success": 1}), "did not confirm POST"),
        (said({}), "did not confirm POST"),
        (said({"error": "The disk is full."}, 507), "with 507: The disk is full"),
        (HTML, "that are not JSON"),
        (HTML_404, "with 404"),
    ],
)
def test_a_switch_that_is_not_confirmed_is_an_error(answer: Answer, message: str) -> None:
    with serving(answer) as server, pytest.raises(DeliveryError, match=message):
        registry(server.url).switch("demo", "http://10.0.0.5")


@pytest.mark.parametrize("answer", [said({"success": True}), said({"error": "none"}, 404)])
def test_remove_is_satisfied_where_there_is_nothing(answer: Answer) -> None:
    with serving(answer) as server:
        registry(server.url).remove("demo")
    assert [seen.method for seen in server.seen] == ["DELETE"]


@pytest.mark.parametrize("answer", [said({"success": False}), said({"error": "x"}, 405), HTML_404])
def test_a_removal_that_is_not_confirmed_is_an_error(answer: Answer) -> None:
    with serving(answer) as server, pytest.raises(DeliveryError):
        registry(server.url).remove("demo")


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        (said({"name": "demo", "in_flight": 3}), 3),
        (said({"in_flight": 0}), 0),
        (said({}), None),
        (said({"in_flight": True}), None),
        (said({"in_flight": "3"}), None),
        (HTML_404, None),
        (said({"error": "only POST"}, 405), None),
    ],
)
def test_in_flight(answer: Answer, count: int | None) -> None:
    with serving(answer) as server:
        assert registry(server.url).in_flight("demo") == count
        assert server.seen[0].path == "/services/demo/drain"


@pytest.mark.parametrize("name", ["", "services", "..", "a/b", "a b", "\u00e4", "x" * 129, "a?b"])
def test_a_name_that_would_ask_for_something_else_is_refused(name: str) -> None:
    with serving(said({})) as server:
        for call in (
            lambda: registry(server.url).observe(name),
            lambda: registry(server.url).switch(name, "http://10.0.0.5"),
            lambda: registry(server.url).remove(name),
            lambda: registry(server.url).in_flight(name),
        ):
            with pytest.raises(RouterError, match="cannot be the name of a service"):
                call()
        assert server.seen == []


def test_the_entrance_is_where_the_proxy_passes_requests_on() -> None:
    assert registry("http://proxy:8000/").entrance("demo") == "http://proxy:8000/demo"
