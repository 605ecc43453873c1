# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd's JSON gateway as a client meets it: several members, refusals, and garbage."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.http import Http
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import RouterError
from ansible_collections.immutable.delivery.plugins.module_utils.routers.etcd import Etcd, range_of
from ansible_collections.immutable.delivery.plugins.module_utils.routers.etcd_options import (
    etcd_of,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_store import (
    Changed,
    Entry,
    LeaseLost,
    StoreAway,
    StoreFull,
)

from ..loopback import Answer, Seen, refusing, serving

HEADER = {"cluster_id": "1", "member_id": "2", "revision": "7", "raft_term": "2"}


def said(document: Any, status: int = 200) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(document).encode())


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def etcd(*urls: str, timeout: float = 20, **options: str) -> Etcd:
    return Etcd([Http(url) for url in urls], timeout, **options)


def refusal(code: int, text: str, status: int = 400) -> Answer:
    return said({"error": text, "message": text, "code": code}, status)


def test_keys_are_read_with_their_revisions() -> None:
    kvs = [
        {"key": b64("/d/a"), "value": b64("1"), "mod_revision": "3"},
        # What is empty is left out.
        {"key": b64("/d/b"), "mod_revision": "4"},
    ]
    with serving(said({"header": HEADER, "kvs": kvs, "count": "2"})) as server:
        read = etcd(server.url).read("/d/")
        assert read == {"/d/a": Entry("1", 3), "/d/b": Entry("", 4)}
        (seen,) = server.seen
    assert (seen.method, seen.path) == ("POST", "/v3/kv/range")
    assert json.loads(seen.body) == {"key": b64("/d/"), "range_end": b64("/d0")}


def test_nothing_there_is_no_keys() -> None:
    with serving(said({"header": HEADER})) as server:
        assert etcd(server.url).read("/d/") == {}


def test_the_end_of_a_range_is_what_follows_the_prefix() -> None:
    end = base64.b64decode(range_of("/dä/")["range_end"])
    assert "/dä/".encode() < "/dä/zzz".encode() < end


def test_a_swap_says_at_which_revision() -> None:
    with serving(said({"header": HEADER, "succeeded": True})) as server:
        assert etcd(server.url).swap("/d/a", "2", 3) == 7
        body = json.loads(server.seen[0].body)
    assert body["compare"] == [
        {"key": b64("/d/a"), "target": "MOD", "result": "EQUAL", "mod_revision": "3"}
    ]
    assert body["success"] == [{"request_put": {"key": b64("/d/a"), "value": b64("2")}}]
    with serving(said({"header": HEADER})) as server, pytest.raises(Changed):
        etcd(server.url).swap("/d/a", "2", 3)


def test_leases() -> None:
    answers = {
        "/v3/lease/grant": said({"header": HEADER, "ID": "12", "TTL": "6"}),
        "/v3/lease/keepalive": Answer(
            body=b'{"result":{"ID":"12","TTL":"6"}}\n{"result":{"ID":"12"}}\n'
        ),
        "/v3/kv/put": refusal(5, "etcdserver: requested lease not found", 404),
    }
    with serving(lambda seen: answers[seen.path]) as server:
        it = etcd(server.url)
        assert it.grant(5.2) == "12"
        assert json.loads(server.seen[0].body) == {"TTL": "6"}
        assert it.keep_alive("12")
        with pytest.raises(LeaseLost):
            it.put("/d/a", "1", "12")
    with serving(said({"result": {"ID": "12"}})) as server:
        assert not etcd(server.url).keep_alive("12")


# Several members.


def test_a_member_that_is_away_is_passed_over_and_not_asked_first_again() -> None:
    with serving(said({"header": HEADER})) as server, refusing() as gone:
        it = etcd(gone, server.url)
        assert it.read("/d/") == {}
        assert [member.base_url for member in it.members] == [server.url, gone]


@pytest.mark.parametrize(
    "answer",
    [
        refusal(14, "etcdserver: no leader", 503),
        refusal(14, "etcdserver: request timed out", 503),
        said({"error": {"grpc_code": 14, "message": "no leader"}}),
        Answer(502, {}, b"<html>"),
        None,
    ],
)
def test_a_member_without_a_leader_is_passed_over(answer: Answer | None) -> None:
    with (
        serving(lambda seen: answer) as cut_off,
        serving(said({"header": HEADER})) as server,
    ):
        assert etcd(cut_off.url, server.url).read("/d/") == {}
        assert len(cut_off.seen) >= 1


def test_no_member_answers() -> None:
    with (
        serving(refusal(14, "etcdserver: no leader", 503)) as cut_off,
        refusing() as gone,
        pytest.raises(StoreAway) as caught,
    ):
        etcd(cut_off.url, gone, timeout=0.5).read("/d/")
    text = str(caught.value)
    assert "no leader" in text
    assert "cannot be reached" in text
    assert "majority" in text


# Refusals and garbage.


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(200, {"Content-Type": "text/html"}, b"<html>Welcome</html>"), "not etcd's"),
        (Answer(404, {}, b"Not Found"), "not etcd's"),
        (said([]), "not etcd's"),
        (said({"kvs": 5}), "not etcd's"),
        (said({"kvs": [{"key": "###", "mod_revision": "1"}]}), "not etcd's"),
        (said({"kvs": [{"key": b64("a"), "mod_revision": "x"}]}), "not etcd's"),
        (said({"kvs": ["a"]}), "not etcd's"),
        (said({"message": "no"}, 404), "not etcd's"),
        (refusal(7, "etcdserver: permission denied", 403), "permission denied.*may read and write"),
        (refusal(3, "etcdserver: user name is empty"), "user name is empty.*Give a user"),
    ],
)
def test_an_answer_to_a_read(answer: Answer, message: str) -> None:
    with serving(answer) as server, pytest.raises(DeliveryError, match=message):
        etcd(server.url).read("/d/")


def test_a_full_disk_is_told_at_once() -> None:
    full = refusal(8, "etcdserver: mvcc: database space exceeded", 429)
    with serving(full) as server, pytest.raises(StoreFull) as caught:
        etcd(server.url, timeout=60).put("/d/a", "1")
    assert len(server.seen) == 1
    for part in ("space exceeded", "takes no writes", "compact", "defrag", "alarm disarm"):
        assert part in str(caught.value)


def test_a_member_with_too_many_requests_is_passed_over() -> None:
    busy = refusal(8, "etcdserver: too many requests", 429)
    with serving(busy) as one, serving(said({"header": HEADER})) as other:
        assert etcd(one.url, other.url).read("/d/") == {}


def test_a_delete_is_of_what_was_read() -> None:
    answers = iter(
        [
            {"header": HEADER, "succeeded": True},
            # It is gone already, or somebody has written it meanwhile.
            {"header": HEADER, "responses": [{"response_range": {"header": HEADER}}]},
            {"header": HEADER, "responses": [{"response_range": {"kvs": [{"key": b64("/d/a")}]}}]},
            {"header": HEADER},
        ]
    )
    with serving(lambda seen: said(next(answers))) as server:
        it = etcd(server.url)
        it.delete("/d/a", 3)
        (compare,) = json.loads(server.seen[0].body)["compare"]
        assert (compare["target"], compare["mod_revision"]) == ("MOD", "3")
        it.delete("/d/a", 3)
        with pytest.raises(Changed):
            it.delete("/d/a", 3)
        with pytest.raises(DeliveryError, match="not etcd's"):
            it.delete("/d/a", 3)


@pytest.mark.parametrize("document", [{}, {"header": 5}, {"header": {"revision": "x"}}])
def test_an_answer_to_a_write_that_is_none(document: Any) -> None:
    with serving(said(document)) as server:
        it = etcd(server.url)
        calls = (
            lambda: it.swap("/d/a", "1", 0),
            lambda: it.put("/d/a", "1"),
            lambda: it.delete("/d/a", 3),
            lambda: it.grant(5),
            lambda: it.keep_alive("1"),
        )
        for call in calls:
            with pytest.raises(DeliveryError, match="not etcd's"):
                call()


def test_a_login_that_lapsed_is_made_again_and_shows_no_password() -> None:
    tokens = iter(["one", "two"])

    def answer(seen: Seen) -> Answer:
        if seen.path == "/v3/auth/authenticate":
            assert json.loads(seen.body) == {"name": "deploy", "password": "hush"}
            return said({"header": HEADER, "token": next(tokens)})
        if seen.headers.get("Authorization") == "one":
            return refusal(16, "etcdserver: invalid auth token", 401)
        return said({"header": HEADER})

    with serving(answer) as server:
        it = etcd(server.url, user="deploy", password="hush")
        assert it.read("/d/") == {}
        assert [seen.path for seen in server.seen].count("/v3/auth/authenticate") == 2
    wrong = refusal(3, "etcdserver: authentication failed, invalid user ID or password")
    with serving(wrong) as server, pytest.raises(RouterError) as caught:
        etcd(server.url, user="deploy", password="hush").read("/d/")
    assert "authentication failed" in str(caught.value)
    assert "hush" not in str(caught.value)


# Options.


def options(**etcd_options: Any) -> dict[str, Any]:
    return {
        "api_url": "http://127.0.0.1",
        "timeout": 5,
        "etcd": {"endpoints": ["http://127.0.0.1:2379"], **etcd_options},
    }


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({**options(), "api_url": None}, "needs the address"),
        (options(endpoints=[]), "one member of etcd at least"),
        (options(endpoints=["127.0.0.1:2379"]), "not an http or https address"),
        (options(prefix="delivery"), "cannot be the prefix"),
        (options(prefix="/"), "cannot be the prefix"),
        (options(prefix="/a/"), "cannot be the prefix"),
        (options(nodes=["a/b"]), "cannot be the name of a node"),
        (options(user="deploy"), "needed together"),
        (options(follow_timeout=0), "more than 0"),
        (options(follow_timeout=float("inf")), "not endless"),
    ],
)
def test_options_that_cannot_be_used(params: dict[str, Any], message: str) -> None:
    with pytest.raises(DeliveryError, match=message):
        etcd_of(params)


def test_what_a_module_says_of_health_is_what_registrars_ask() -> None:
    router = etcd_of({**options(), "health_path": "/up", "host_header": "demo.example.org"})
    assert router.health is not None
    assert (router.health.path, router.health.host) == ("/up", "demo.example.org")
    assert router.entrance("demo") == "http://127.0.0.1"
