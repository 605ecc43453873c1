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
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import (
    Overtaken,
    RouterError,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.registry import Registry

from ..loopback import Answer, refusing, serving

BLUE, GREEN, OTHER = (f"http://10.0.0.{number}" for number in (5, 6, 7))
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
        registry(server.url).switch("demo", ["http://[::1]:8080/a b%2F?"])
    assert [(seen.method, seen.path) for seen in server.seen] == [
        ("POST", "/services/demo/http%3A%2F%2F%5B%3A%3A1%5D%3A8080%2Fa%20b%252F%3F")
    ]


def test_a_registration_is_sent_again_when_the_connection_breaks() -> None:
    with serving(None, said({"success": True})) as server:
        registry(server.url).switch("demo", ["http://10.0.0.5"])
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
        registry(server.url).switch("demo", ["http://10.0.0.5"])


# Our own proxy: several addresses, and entity tags.


def tagged(document: Any, tag: str, status: int = 200) -> Answer:
    plain = said(document, status)
    return Answer(status, {**plain.headers, "ETag": tag}, plain.body)


def standing(*urls: str, tag: str = '"7"') -> Answer:
    return tagged({"url": {"url": urls[0], "name": "demo"}, "urls": list(urls)}, tag)


def test_all_addresses_are_observed() -> None:
    with serving(standing(BLUE, GREEN)) as server:
        route = registry(server.url).observe("demo")
    assert (route.urls, route.url) == ((BLUE, GREEN), BLUE)


@pytest.mark.parametrize("urls", [[], [5], [""], "x", {}, [BLUE, None]])
def test_a_list_of_addresses_that_cannot_be_right_is_refused(urls: Any) -> None:
    answer = said({"url": {"url": BLUE, "name": "demo"}, "urls": urls})
    with serving(answer) as server, pytest.raises(RouterError, match="not the registry's"):
        registry(server.url).observe("demo")


def test_a_switch_holds_for_what_was_observed_last() -> None:
    answers = (
        standing(BLUE),
        tagged({"success": True}, '"8"'),
        tagged({"success": True}, '"9"'),
        tagged({"success": True}, '"0"'),
    )
    with serving(*answers) as server:
        router = registry(server.url)
        router.observe("demo")
        router.switch("demo", [GREEN])
        router.switch("demo", [BLUE, GREEN])
        router.remove("demo")
    assert [(s.method, s.path, s.headers.get("If-Match"), s.body) for s in server.seen[1:]] == [
        ("PUT", "/services/demo", '"7"', json.dumps({"urls": [GREEN]}).encode()),
        ("PUT", "/services/demo", '"8"', json.dumps({"urls": [BLUE, GREEN]}).encode()),
        ("DELETE", "/services/demo", '"9"', b""),
    ]


@pytest.mark.parametrize("tag", ['W/"7"', ""])
def test_a_tag_that_cannot_be_matched_is_not_sent(tag: str) -> None:
    with serving(standing(BLUE, tag=tag), said({"success": True})) as server:
        router = registry(server.url)
        router.observe("demo")
        router.switch("demo", [GREEN])
    assert server.seen[1].method == "POST"
    assert "If-Match" not in server.seen[1].headers


@pytest.mark.parametrize("switch", [True, False])
def test_a_lost_race_says_who_stands_now(switch: bool) -> None:
    refused = tagged({"error": "Changed."}, '"9"', 412)
    with serving(standing(BLUE), refused, standing(OTHER, tag='"9"')) as server:
        router = registry(server.url)
        router.observe("demo")
        with pytest.raises(Overtaken, match=f"somebody else .*: demo goes to {OTHER}") as caught:
            router.switch("demo", [GREEN]) if switch else router.remove("demo")
    assert isinstance(caught.value, RouterError)
    assert caught.value.next_step


def test_a_repeat_that_finds_its_own_work_done_is_satisfied() -> None:
    refused = tagged({"error": "Changed."}, '"8"', 412)
    with serving(standing(BLUE), None, refused, standing(GREEN, tag='"8"')) as server:
        router = registry(server.url)
        router.observe("demo")
        router.switch("demo", [GREEN])
    assert [seen.method for seen in server.seen] == ["GET", "PUT", "PUT", "GET"]


@pytest.mark.parametrize("answer", [HTML_404, said({"error": "no"}, 405), said({}, 501)])
def test_a_proxy_that_takes_one_address_only_says_so(answer: Answer) -> None:
    with serving(answer) as server, pytest.raises(RouterError, match="takes one address for demo"):
        registry(server.url).switch("demo", [BLUE, GREEN])


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
            lambda: registry(server.url).switch(name, ["http://10.0.0.5"]),
            lambda: registry(server.url).remove(name),
            lambda: registry(server.url).in_flight(name),
        ):
            with pytest.raises(RouterError, match="cannot be the name of a service"):
                call()
        assert server.seen == []


def test_the_entrance_is_where_the_proxy_passes_requests_on() -> None:
    assert registry("http://proxy:8000/").entrance("demo") == "http://proxy:8000/demo"
