# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which options are taken, and how they are filled in and compared."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.traffic.load import (
    identity_of,
    judge,
)
from ansible_collections.immutable.delivery.plugins.module_utils.traffic.readback import (
    FINE,
    LOST,
    UNCHECKED,
    compare,
)
from ansible_collections.immutable.delivery.plugins.module_utils.traffic.settings import (
    Settings,
    Writes,
    fill,
    from_json,
)
from ansible_collections.immutable.delivery.plugins.module_utils.traffic.wire import Answer

URL = "http://127.0.0.1:8000/portal"


def settings(**changes: Any) -> Settings:
    return Settings(**{"url": URL, **changes})


def writes(**changes: Any) -> Settings:
    return settings(writes=Writes(**{"path": "/users", "body": {"name": "{n}"}, **changes}))


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (settings(url="ftp://x"), "url"),
        (settings(url=""), "url"),
        (settings(url=f"{URL}?a=b"), "query"),
        (settings(url=f"{URL}/ a"), "without spaces"),
        (settings(host_header="a\r\nX: y"), "host_header"),
        (settings(host_header="a b"), "host_header"),
        (settings(version_header=""), "version_header"),
        (settings(rate=0.0), "rate"),
        (settings(rate=-1.0), "rate"),
        (settings(rate=float("nan")), "rate"),
        (settings(rate=float("inf")), "rate"),
        (settings(max_seconds=0.0), "max_seconds"),
        (settings(max_seconds=float("inf")), "max_seconds"),
        (settings(timeout=-1.0), "timeout"),
        (settings(connections=0), "connections"),
        (settings(reads=()), "reads"),
        (settings(reads=("health",)), "begin with /"),
        (settings(reads=("/a b",)), "without spaces"),
        (settings(reads=("/a\r\nHost: b",)), "without spaces"),
        (settings(reads=("/a#b",)), "#"),
        (writes(path="users"), "writes.path"),
        (writes(body={"name": "same"}), "{n}"),
        (writes(body={}), "{n}"),
        (writes(read_path="/users/"), "{id}"),
        (writes(id_field=""), "id_field"),
        (writes(compare_fields=("email",)), "email"),
        (writes(refused_status=(200,)), "refused_status"),
    ],
)
def test_options_that_cannot_be_used(wanted: Settings, words: str) -> None:
    with pytest.raises(DeliveryError, match=words):
        wanted.check()


def test_placeholders_are_replaced_at_any_depth_and_nowhere_else() -> None:
    template = {"a": "{run}-{n}", "b": [{"c": "x{n}"}, 5, None], "d": {"{n}": "{other}"}}
    assert fill(template, "r", 7) == {
        "a": "r-7",
        "b": [{"c": "x7"}, 5, None],
        "d": {"{n}": "{other}"},
    }


def test_an_identity_cannot_leave_its_path() -> None:
    assert Writes("/users", {}).path_of("../x y?z") == "/users/..%2Fx%20y%3Fz"
    assert Writes("/users", {}, read_path="/u/{id}/name").path_of(12) == "/u/12/name"


@pytest.mark.parametrize("wanted", [settings(), writes(compare_fields=("name",))])
def test_settings_survive_the_record(wanted: Settings) -> None:
    wanted.check()
    again = from_json(json.loads(json.dumps(wanted.as_json())))
    assert again == wanted
    assert again.differences(wanted) == []


def test_differences_are_named() -> None:
    assert settings().differences(settings(rate=11.0, reads=("/a",))) == ["rate", "reads"]


@pytest.mark.parametrize(
    ("body", "identity"),
    [
        (b'{"id": "a"}', "a"),
        (b'{"id": 5}', 5),
        (b'{"id": ""}', None),
        (b'{"id": null}', None),
        (b'{"id": true}', None),
        (b'{"id": {}}', None),
        (b'{"name": "a"}', None),
        (b'["id"]', None),
        (b"<html>", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
    ],
)
def test_identities(body: bytes, identity: object) -> None:
    assert identity_of(Answer(201, {}, body, True), "id") == identity


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, ""), (204, ""), (302, "status_3xx"), (404, "status_4xx"), (500, "status_5xx")],
)
def test_statuses(status: int, kind: str) -> None:
    assert judge(status) == kind


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        (200, b'{"a": "1", "b": "2"}', FINE),
        (200, b'{"a": "1", "b": "2", "c": 3}', FINE),
        (200, b'{"a": "1", "b": "3"}', LOST),
        (200, b'{"a": "1"}', LOST),
        (404, b"{}", LOST),
        (410, b"", LOST),
        (200, b"<html>", UNCHECKED),
        (200, b"[]", UNCHECKED),
        (200, b"", UNCHECKED),
        (403, b"{}", UNCHECKED),
        (302, b"", UNCHECKED),
        (503, b"", UNCHECKED),
    ],
)
def test_what_reading_back_shows(status: int, body: bytes, found: str) -> None:
    assert compare(Answer(status, {}, body, True), {"a": "1", "b": "2"}, ()) == found


def test_only_the_fields_asked_for_are_compared() -> None:
    answer = Answer(200, {}, b'{"a": "1", "b": "changed"}', True)
    assert compare(answer, {"a": "1", "b": "2"}, ("a",)) == FINE
