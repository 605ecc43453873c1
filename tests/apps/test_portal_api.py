# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in portal's own API: users, applications, subscriptions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.portal import KEY, Portal, start_portal


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    with start_portal(tmp_path_factory.mktemp("portal"), release="r7") as running:
        yield running


def test_health_says_which_release_answers_and_every_answer_which_version(portal: Portal) -> None:
    health = portal.call("GET", "/health")
    assert health.status_code == 200
    assert health.json() == {"status": "ok", "version": "v24", "release": "r7", "locked": False}
    for path in ("/health", "/nothing", "/deploy/v1/export/x/status", "/users?limit=x"):
        assert portal.call("GET", path).headers["X-Portal-Version"] == "v24"


def test_a_user_is_read_back_by_id_and_by_email(portal: Portal) -> None:
    created = portal.sign_up("Ada")
    assert created.status_code == 201
    user = created.json()
    assert len(user["id"]) == 40
    assert int(user["id"], 16) >= 0
    assert created.headers["Location"] == f"/users/{user['id']}"
    assert portal.call("GET", f"/users/{user['id']}").json() == user
    found = portal.call("GET", "/users", params={"email": "ADA@example.org"}).json()
    row = {"id": user["id"], "name": "Ada Tester", "email": "Ada@example.org"}
    assert (found["items"], found["count"]) == ([row], 1)
    assert portal.call("GET", "/users", params={"email": "no@example.org"}).json()["count"] == 0


def test_a_password_is_kept_hashed_and_never_answered(portal: Portal) -> None:
    body = {"firstName": "P", "lastName": "W", "email": "pw@example.org", "password": "opensesame"}
    created = portal.call("POST", "/users", json=body)
    user_id = created.json()["id"]
    read = portal.call("GET", f"/users/{user_id}")
    for response in (created, read):
        assert "password" not in response.json()
        assert "opensesame" not in response.text
    stored = json.loads((portal.data / "users" / f"{user_id}.json").read_text())
    assert stored["password"].startswith("$scrypt$")
    assert "opensesame" not in json.dumps(stored)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "'firstName'"),
        (b'{"firstName": "a", "lastName": "b"}', "'email'"),
        (b'{"firstName": " ", "lastName": "b", "email": "a@b"}', "'firstName'"),
        (b'{"firstName": 1, "lastName": "b", "email": "a@b"}', "'firstName'"),
        (b'{"firstName": "a", "lastName": "b", "email": "nobody"}', "'email'"),
        (b'{"firstName": "a", "lastName": "b", "email": "a @b"}', "'email'"),
        (b'{"firstName": "\\ud800", "lastName": "b", "email": "a@b"}', "surrogate"),
        (b'{"firstName": "%s", "lastName": "b", "email": "a@b"}' % (b"a" * 300), "longer"),
        (b'{"id": "../x", "firstName": "a", "lastName": "b", "email": "a@b"}', "'id'"),
        (b'{"id": "_index", "firstName": "a", "lastName": "b", "email": "a@b"}', "'id'"),
        (b'{"id": 7, "firstName": "a", "lastName": "b", "email": "a@b"}', "'id'"),
        (b'{"groups": ["/"], "firstName": "a", "lastName": "b", "email": "a@b"}', "'groups'"),
    ],
)
def test_a_bad_user_is_refused_with_a_sentence(portal: Portal, body: bytes, says: str) -> None:
    before = portal.counts()
    response = portal.call("POST", "/users", data=body)
    assert response.status_code == 400
    assert says in response.json()["message"]
    assert portal.counts() == before


def test_a_body_that_is_too_large_is_refused(portal: Portal) -> None:
    response = portal.call("POST", "/users", data=b" " * (2 << 20))
    assert response.status_code == 413
    assert response.json()["message"]


def test_email_and_id_are_unique(portal: Portal) -> None:
    body = {"id": "twin", "firstName": "T", "lastName": "W", "email": "twin@example.org"}
    assert portal.call("POST", "/users", json=body).status_code == 201
    same_email = {**body, "id": "other", "email": "TWIN@example.org"}
    assert portal.call("POST", "/users", json=same_email).status_code == 409
    same_id = {**body, "email": "other@example.org"}
    response = portal.call("POST", "/users", json=same_id)
    assert response.status_code == 409
    assert "'twin'" in response.json()["message"]


@pytest.mark.parametrize(
    "path",
    ["/users/nobody", "/users/..%2f..%2fetc", "/users/_index", "/applications/none", "/nowhere"],
)
def test_what_does_not_exist_is_404_with_a_message(portal: Portal, path: str) -> None:
    response = portal.call("GET", path)
    assert response.status_code == 404
    assert response.json()["message"]


def test_a_method_that_is_not_there_is_405(portal: Portal) -> None:
    response = portal.call("DELETE", "/users")
    assert response.status_code == 405
    assert "GET" in response.headers["Allow"]
    assert portal.call("PUT", "/health").json()["message"]


def test_pages_cover_all_users_once(tmp_path: Path) -> None:
    with start_portal(tmp_path) as portal:
        ids = [portal.sign_up(f"page{number}").json()["id"] for number in range(5)]
        pages = [
            portal.call("GET", "/users", params={"offset": offset, "limit": 2}).json()
            for offset in (0, 2, 4, 6)
        ]
        assert [row["id"] for page in pages for row in page["items"]] == ids
        assert {page["count"] for page in pages} == {5}
        for bad in ({"offset": "-1"}, {"limit": "many"}, {"limit": "9" * 30}):
            assert portal.call("GET", "/users", params=bad).status_code == 400


def test_applications_belong_to_users_and_subscribe_by_the_static_rules(portal: Portal) -> None:
    owner = portal.sign_up("Owner").json()
    body = {"id": "shop", "name": "Shop", "redirectUri": "https://x/cb", "userId": owner["id"]}
    created = portal.call("POST", "/applications", json=body)
    assert created.status_code == 201
    assert created.json()["owners"][0]["userId"] == owner["id"]
    assert portal.call("GET", "/applications/shop").json() == created.json()
    mine = portal.call("GET", f"/users/{owner['id']}").json()["applications"]
    assert [application["id"] for application in mine] == ["shop"]
    assert portal.call("POST", "/applications", json=body).status_code == 409
    nobody = {"id": "orphan", "name": "Orphan", "userId": "nobody"}
    assert portal.call("POST", "/applications", json=nobody).status_code == 404
    for bad in ({"name": "x"}, {"id": "a/b", "name": "x"}, {"id": "abc"}):
        assert portal.call("POST", "/applications", json=bad).status_code == 400

    path = "/applications/shop/subscriptions"
    assert portal.call("GET", path).json() == []
    subscribed = portal.call("POST", path, json={"api": "brilliant", "plan": "basic"})
    assert subscribed.status_code == 201
    apikey = subscribed.json()["apikey"]
    assert len(apikey) == 40
    oauth = portal.call("POST", path, json={"api": "superduper", "plan": "godlike"}).json()
    assert oauth["clientId"]
    assert oauth["apikey"] is None
    listed = portal.call("GET", path)
    pairs = [(one["api"], one["plan"]) for one in listed.json()]
    assert pairs == [("brilliant", "basic"), ("superduper", "godlike")]
    stored = (portal.data / "subscriptions" / "shop.subs.json").read_text()
    for secret in (apikey, oauth["clientSecret"]):
        assert secret not in listed.text
        assert secret not in stored

    assert portal.call("POST", path, json={"api": "brilliant", "plan": "basic"}).status_code == 409
    refused = {
        ("nothing", "basic"): "no such API",
        ("users", "nothing"): "no such plan",
        ("users", "godlike"): "allows only basic, unlimited",
    }
    for (api, plan), says in refused.items():
        response = portal.call("POST", path, json={"api": api, "plan": plan})
        assert response.status_code == 400
        assert says in response.json()["message"]
    missing = portal.call("POST", "/applications/none/subscriptions", json={"api": "users"})
    assert missing.status_code == 400
    none = {"api": "users", "plan": "basic"}
    assert portal.call("POST", "/applications/none/subscriptions", json=none).status_code == 404


def test_the_static_configuration_can_be_read(portal: Portal) -> None:
    apis = {api["id"]: api["plans"] for api in portal.call("GET", "/apis").json()["apis"]}
    assert apis["orders"] == ["restricted_basic", "restricted_unlimited"]
    plans = {plan["id"] for plan in portal.call("GET", "/plans").json()["plans"]}
    assert {plan for allowed in apis.values() for plan in allowed} == plans


def test_a_crash_loses_no_acknowledged_write(tmp_path: Path) -> None:
    with start_portal(tmp_path) as portal:
        users = [portal.sign_up(f"crash{number}").json() for number in range(20)]
        application = {"id": "crash", "name": "Crash", "userId": users[0]["id"]}
        assert portal.call("POST", "/applications", json=application).status_code == 201
        subscription = {"api": "superduper", "plan": "basic"}
        path = "/applications/crash/subscriptions"
        client = portal.call("POST", path, json=subscription).json()["clientId"]
        portal.kill()
    # What a crash in the middle of a write leaves behind.
    (portal.data / "users" / ".x.json.new").write_text("{")
    (portal.data / "subscriptions" / "half.subs.json").write_text("[]")
    with start_portal(tmp_path) as portal:
        assert portal.counts() == {"users": 20, "applications": 1, "subscriptions": 1}
        for user in users[1:]:
            assert portal.call("GET", f"/users/{user['id']}").json() == user
        assert portal.sign_up("crash0").status_code == 409
        assert not (portal.data / "users" / ".x.json.new").exists()
        assert portal.stop() == 0
    index = json.loads((portal.data / "users" / "_index.json").read_text())
    assert {row["id"] for row in index} == {user["id"] for user in users}
    by_client = json.loads((portal.data / "subscription_index" / f"{client}.json").read_text())
    assert by_client == {"application": "crash", "api": "superduper"}
    by_api = (portal.data / "subscription_api_index" / "superduper.json").read_text()
    assert json.loads(by_api) == [{"application": "crash", "plan": "basic"}]


def test_the_key_is_in_no_answer_argument_or_log(tmp_path: Path) -> None:
    with start_portal(tmp_path) as portal:
        answers = [
            portal.call("GET", "/health").text,
            portal.deploy("GET", "export/x/status").text,
            requests.get(f"{portal.url}/deploy/v1/export/x/status", timeout=30).text,
        ]
        arguments = Path(f"/proc/{portal.process.pid}/cmdline").read_bytes()
        portal.stop()
        assert KEY not in "".join([*answers, portal.log()])
        assert KEY.encode() not in arguments
