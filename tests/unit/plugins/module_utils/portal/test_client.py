# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The portal's client against a small server that gives one answer, well-meant or not."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.http import (
    ConnectionBroken,
    Http,
    HttpError,
)
from ansible_collections.immutable.delivery.plugins.module_utils.portal.client import (
    Cancelled,
    Conflict,
    Lapsed,
    PortalClient,
    PortalError,
    State,
    Status,
)

from ..clock import FakeDeadline
from ..loopback import Answer, Server, serving

Call = Callable[[PortalClient], Any]
PAGE = Answer(200, {"Content-Type": "text/html"}, b"<html>Welcome</html>")
MISSING_PAGE = Answer(404, {"Content-Type": "text/html; charset=utf-8"}, b"<html>No</html>")
CHECK_ADDRESS = (
    "Check that api_url and host_header name the portal's API, below which /deploy/v1 lies."
)


def answer(status: int, document: Any = None, **headers: str) -> Answer:
    return Answer(status, headers, b"" if document is None else json.dumps(document).encode())


def begin_import(client: PortalClient) -> str:
    return client.begin_import(io.BytesIO(b"archive"), "5ha", FakeDeadline(30))


CALLS: dict[str, Call] = {
    "check_key": lambda client: client.check_key(FakeDeadline(30)),
    "begin_export": lambda client: client.begin_export(FakeDeadline(30)),
    "export_status": lambda client: client.export_status("a/b", FakeDeadline(30)),
    "open_data": lambda client: client.open_data("a/b", FakeDeadline(30)),
    "cancel_export": lambda client: client.cancel_export("a/b", FakeDeadline(30)),
    "begin_import": begin_import,
    "import_status": lambda client: client.import_status("a/b", FakeDeadline(30)),
}


def call(name: str, *answers: Answer | None) -> tuple[Any, Server]:
    """Return what the call returned or raised, and the server with what it saw."""
    with serving(*answers) as server:
        http = Http(server.url, headers={"Authorization": "the-key"}, retry_wait=0)
        try:
            return CALLS[name](PortalClient(http)), server
        except DeliveryError as error:
            return error, server


@pytest.mark.parametrize(
    ("name", "answered", "request_line"),
    [
        ("begin_export", answer(201, {"exportId": "abc"}), "POST /deploy/v1/export"),
        ("export_status", answer(204), "GET /deploy/v1/export/a%2Fb/status"),
        ("cancel_export", answer(204), "DELETE /deploy/v1/export/a%2Fb"),
        ("begin_import", answer(201, {"importId": "abc"}), "POST /deploy/v1/import"),
        ("import_status", answer(204), "GET /deploy/v1/import/a%2Fb/status"),
    ],
)
def test_each_call_is_one_request_with_the_key(
    name: str, answered: Answer, request_line: str
) -> None:
    _result, server = call(name, answered)
    [seen] = server.seen
    assert f"{seen.method} {seen.path}" == request_line
    assert seen.headers["Authorization"] == "the-key"


def test_the_key_is_proved_by_an_id_that_nobody_has() -> None:
    result, server = call("check_key", answer(404, {"message": "unknown"}))
    assert result is None
    [seen] = server.seen
    assert seen.method == "GET"
    assert seen.path.startswith("/deploy/v1/export/")


def test_an_archive_is_sent_with_its_hash() -> None:
    _result, server = call("begin_import", answer(201, {"importId": "abc"}))
    assert server.seen[0].headers["X-SHA256-Hash"] == "5ha"
    assert server.seen[0].body == b"archive"


@pytest.mark.parametrize("job", ["export_status", "import_status"])
@pytest.mark.parametrize(
    ("answered", "expected"),
    [
        (answer(204), Status(State.RUNNING)),
        (answer(200), Status(State.DONE)),
        (answer(200, {"status": 2, "message": "fine"}), Status(State.DONE, "fine")),
        (answer(200, [1]), Status(State.DONE)),
        (answer(200, {"message": 7}), Status(State.DONE)),
        (answer(422, {"status": 3, "message": "no plan"}), Status(State.FAILED, "no plan")),
        (answer(422), Status(State.FAILED)),
        (Answer(422, {}, b"not json"), Status(State.FAILED)),
        (answer(410, {"message": "cancelled"}), Status(State.CANCELLED, "cancelled")),
        (answer(404), Status(State.UNKNOWN)),
    ],
)
def test_where_a_job_stands(job: str, answered: Answer, expected: Status) -> None:
    assert call(job, answered)[0] == expected


def test_a_message_has_an_end() -> None:
    status, _server = call("export_status", answer(422, {"message": "x" * 100_000}))
    assert len(status.message) == 2000


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (204, Cancelled.DONE),
        (200, Cancelled.DONE),
        (410, Cancelled.DONE),
        (202, Cancelled.SCHEDULED),
        (404, Cancelled.UNKNOWN),
    ],
)
def test_what_became_of_giving_back(status: int, expected: Cancelled) -> None:
    assert call("cancel_export", answer(status))[0] is expected


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_key_is_told(name: str) -> None:
    error, server = call(name, answer(403, {"message": "Forbidden"}))
    assert isinstance(error, PortalError)
    assert str(error).startswith(
        f"the portal at {server.url} refuses the deployment key (403). Give the key"
    )


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_host_is_told(name: str) -> None:
    error, server = call(name, Answer(503, {"Content-Type": "text/html"}, b"<html>"))
    assert isinstance(error, PortalError)
    assert error.message == f"the portal at {server.url} answers 503"
    assert "host_header" in error.next_step


@pytest.mark.parametrize("name", CALLS)
def test_a_redirect_is_told_and_not_followed(name: str) -> None:
    error, server = call(name, answer(301, Location="https://elsewhere/"))
    assert isinstance(error, PortalError)
    assert error.message == (
        f"the portal at {server.url} redirects to https://elsewhere/, "
        "which is not followed with the key"
    )
    assert len(server.seen) == 1


@pytest.mark.parametrize("name", CALLS)
def test_a_web_page_for_a_path_that_is_missing_is_not_a_portal(name: str) -> None:
    """Least of all may it pass for a lock that has lapsed."""
    error, server = call(name, MISSING_PAGE)
    assert isinstance(error, PortalError)
    assert not isinstance(error, Lapsed)
    assert error.message.startswith(f"the portal at {server.url} answered 404 to ")
    assert error.next_step == CHECK_ADDRESS


@pytest.mark.parametrize("name", [name for name in CALLS if name != "cancel_export"])
def test_a_web_page_for_everything_is_not_a_portal(name: str) -> None:
    error, _server = call(name, PAGE)
    assert isinstance(error, DeliveryError)


@pytest.mark.parametrize("name", CALLS)
def test_an_unexpected_answer_is_told_with_the_portals_own_message(name: str) -> None:
    error, server = call(name, answer(500, {"message": "the disk is full"}))
    assert isinstance(error, PortalError)
    assert str(error).startswith(f"the portal at {server.url} answered 500 to ")
    assert str(error).endswith(": the disk is full.")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("begin_export", "has another export under way"),
        ("begin_import", "has another import or export under way"),
    ],
)
def test_a_conflict_is_told(name: str, told: str) -> None:
    error, server = call(name, answer(409))
    assert isinstance(error, Conflict)
    assert error.kind == "conflict"
    assert error.message == f"the portal at {server.url} {told}"
    assert "conflict_timeout" in error.next_step


@pytest.mark.parametrize("name", ["begin_export", "begin_import"])
@pytest.mark.parametrize(
    "answered",
    [
        answer(201, {}),
        answer(201, []),
        answer(201, {"exportId": "", "importId": ""}),
        answer(201, {"exportId": 7, "importId": 7}),
        Answer(201, {}, b"<html>"),
        None,
    ],
)
def test_a_job_that_may_have_begun_is_told(name: str, answered: Answer | None) -> None:
    error, server = call(name, answered)
    assert isinstance(error, DeliveryError)
    assert len(server.seen) == 1, "a POST was sent again"
    assert error.state in (
        "The portal may be read-only until its lock lapses (60 s after the call).",
        "An import may be under way all the same.",
    )
    assert error.__cause__ is not error


def test_the_archive_is_opened_as_a_stream() -> None:
    with serving(Answer(200, {"X-SHA256-Hash": "5ha"}, b"archive")) as server:
        client = PortalClient(Http(server.url))
        response = client.open_data("abc", FakeDeadline(30))
        assert response.headers["X-SHA256-Hash"] == "5ha"
        assert b"".join(client.http.chunks(response, FakeDeadline(30))) == b"archive"


@pytest.mark.parametrize(
    ("answered", "kind", "told"),
    [
        (Answer(200, {}, b"x"), PortalError, "sent an archive without X-SHA256-Hash"),
        (answer(404, {"message": "no"}), Lapsed, "no longer has the archive of export a/b"),
        (answer(410), Lapsed, "no longer has the archive of export a/b"),
        (answer(400, {"message": "not ready"}), PortalError, "answered 400 to the archive's"),
    ],
)
def test_an_archive_that_cannot_be_had_is_told(
    answered: Answer, kind: type[DeliveryError], told: str
) -> None:
    error, _server = call("open_data", answered)
    assert error.__class__ is kind
    assert told in error.message


def test_a_finished_job_must_be_said_in_json() -> None:
    error, _server = call("import_status", PAGE)
    assert isinstance(error, HttpError)
    assert "that are not JSON" in error.message


@pytest.mark.parametrize("name", ["check_key", "export_status", "cancel_export", "import_status"])
def test_what_can_be_asked_again_is_asked_again(name: str) -> None:
    result, server = call(name, None, answer(404))
    assert not isinstance(result, ConnectionBroken)
    assert len(server.seen) == 2
