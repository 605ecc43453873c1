# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import email.utils
import io
import json
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.deadline import Deadline
from ansible_collections.immutable.delivery.plugins.module_utils.errors import (
    DeliveryError,
    TimeoutExceeded,
)
from ansible_collections.immutable.delivery.plugins.module_utils.http import (
    ConnectionBroken,
    Http,
    HttpError,
    Unreachable,
    check_url,
    host_name,
    retry_after,
)
from ansible_collections.immutable.delivery.plugins.module_utils.http_sockets import CHUNK

from .clock import FakeDeadline
from .loopback import Answer, Seen, Server, refusing, serving

OK = Answer(200, {"Content-Type": "application/json"}, b'{"status": "ok"}')


def ask(server: Server | str, method: str = "GET", path: str = "/", **options: Any) -> Any:
    """Send one request and return its answer."""
    url = server if isinstance(server, str) else server.url
    deadline = options.pop("deadline", None) or FakeDeadline(30)
    sent = {name: options.pop(name) for name in ("data", "repeat", "stream") if name in options}
    return Http(url, **options).request(method, path, deadline=deadline, **sent)


# Addresses, hosts and headers


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:80", "http://127.0.0.1:80"),
        ("https://api.example.org/", "https://api.example.org"),
        ("https://api.example.org/below//", "https://api.example.org/below"),
        ("HTTP://[::1]:8080", "HTTP://[::1]:8080"),
    ],
)
def test_usable_addresses(url: str, expected: str) -> None:
    assert check_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        *("", " ", "api.example.org", "//api.example.org", "http://", "http:///path"),
        *("ftp://api.example.org", "file:///etc/passwd", "http://host:port", "http://host:99999"),
        *("http://[::1", "http://:80", "https:api.example.org", "unix:///run/x"),
    ],
)
def test_unusable_addresses_are_named(url: str) -> None:
    with pytest.raises(HttpError, match=r"^api_url .* is not an http or https address") as raised:
        check_url(url)
    assert "https://HOST[:PORT][/PATH]" in raised.value.next_step


def test_an_address_with_a_password_is_refused_and_not_shown() -> None:
    with pytest.raises(HttpError, match=r"^url must not carry a user name") as raised:
        check_url("https://me:s3cret-pw@host/", "url")
    assert "s3cret-pw" not in repr(raised.value) + str(raised.value)


@given(st.text(max_size=30))
def test_an_address_is_usable_or_refused(url: str) -> None:
    try:
        checked = check_url(url)
    except HttpError as error:
        assert str(error)
    else:
        assert checked.lower().startswith(("http://", "https://"))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("api.example.org", "api.example.org"),
        ("api.example.org:8443", "api.example.org"),
        ("localhost", "localhost"),
        ("[::1]", "::1"),
        ("[::1]:443", "::1"),
        ("127.0.0.1:80", "127.0.0.1"),
    ],
)
def test_a_host_may_have_a_port(host: str, expected: str) -> None:
    assert host_name(host) == expected


@pytest.mark.parametrize(
    "host",
    [
        *("https://api.example.org", "api.example.org/", "a b", "a\r\nX-Evil: 1", "a\nb", "a\0b"),
        *("me@host", "host:port", "host:99999", ":80", "[::1", " host", "host\t", "h?x", "h#x"),
        *("höst", "a\\b"),
    ],
)
def test_what_is_no_host_is_refused_before_anything_is_sent(host: str) -> None:
    with serving(OK) as server, pytest.raises(HttpError, match="is not a host name"):
        ask(server, host_header=host)
    assert server.connections == 0


@pytest.mark.parametrize(
    "value", ["key\r\nX-Evil: 1", "key\n", "a\0b", " key", "key ", "k\tey", "schlüssel", "\x7f"]
)
def test_a_header_that_cannot_be_sent_is_refused_without_being_shown(value: str) -> None:
    with pytest.raises(HttpError) as raised:
        Http("http://127.0.0.1:1", headers={"Authorization": value})
    assert str(raised.value) == (
        "the value for Authorization has characters that no header can carry."
    )


def test_the_host_asked_for_may_differ_from_the_address() -> None:
    with serving(OK) as server:
        http = Http(server.url, host_header="api.example.org:8080")
        http.request("GET", "/health", deadline=FakeDeadline(5))
    assert server.seen[0].headers["Host"] == "api.example.org:8080"
    assert http.name == f"{server.url} (Host api.example.org:8080)"
    assert http.calls == 1


def test_a_connection_is_kept_for_the_next_request() -> None:
    with serving(OK) as server:
        http = Http(server.url)
        for _number in range(3):
            assert http.json(http.request("GET", "/", deadline=FakeDeadline(5)))
    assert (len(server.seen), server.connections) == (3, 1)


def test_a_netrc_does_not_replace_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with serving(OK) as server:
        ask(server, headers={"Authorization": "our-key"})
        ask(server)
    assert server.seen[0].headers["Authorization"] == "our-key"
    assert "Authorization" not in server.seen[1].headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status: int) -> None:
    with (
        serving(OK) as elsewhere,
        serving(Answer(status, {"Location": f"{elsewhere.url}/"})) as server,
    ):
        response = ask(server, headers={"Authorization": "our-key"})
    assert response.status_code == status
    assert response.is_redirect
    assert elsewhere.seen == []


@pytest.mark.parametrize("status", [200, 201, 204, 400, 403, 404, 409, 422, 500, 503])
def test_any_other_status_is_an_answer(status: int) -> None:
    with serving(Answer(status)) as server:
        assert ask(server, "POST").status_code == status
    assert len(server.seen) == 1


# What is sent again, and what is not


def test_a_refused_connection_is_told_in_plain_words() -> None:
    deadline = FakeDeadline(30)
    with refusing() as url, pytest.raises(Unreachable) as raised:
        ask(url, "POST", deadline=deadline)
    assert str(raised.value) == (
        f"{url} cannot be reached: Connection refused. Check the address, and that the server runs."
    )
    # What was never sent may be sent again, a POST too; but not for ever.
    assert deadline.slept == [0.5, 0.5]


def test_a_name_that_does_not_resolve_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Unreachable) as raised:
        ask("http://portal.invalid")
    assert raised.value.message == (
        "http://portal.invalid cannot be reached: Name or service not known"
    )


def test_nothing_is_tried_again_when_the_time_is_up() -> None:
    deadline = FakeDeadline(0.5)
    with refusing() as url, pytest.raises(Unreachable):
        ask(url, deadline=deadline)
    assert deadline.slept == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_an_idempotent_request_is_sent_again_after_a_broken_connection(method: str) -> None:
    with serving(None, OK) as server:
        assert ask(server, method).status_code == 200
    assert len(server.seen) == 2


def test_a_post_is_not_sent_again_after_a_broken_connection() -> None:
    with serving(None, OK) as server, pytest.raises(ConnectionBroken) as raised:
        ask(server, "POST", "/export")
    assert len(server.seen) == 1
    assert str(raised.value) == (
        f"the connection to {server.url} broke during POST /export: "
        "Remote end closed connection without response."
    )


@pytest.mark.parametrize(("method", "repeat", "times"), [("POST", True, 2), ("GET", False, 1)])
def test_the_caller_knows_better(method: str, repeat: bool, times: int) -> None:
    with serving(None, OK) as server:
        try:
            ask(server, method, repeat=repeat)
        except ConnectionBroken:
            assert not repeat
    assert len(server.seen) == times


def test_a_connection_that_always_breaks_is_given_up() -> None:
    with serving(None) as server, pytest.raises(ConnectionBroken):
        ask(server)
    assert len(server.seen) == 3


def test_a_file_is_sent_whole_and_from_its_beginning_each_time(tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_bytes(b"0123456789" * 1000)
    with serving(None, Answer(429, {"Retry-After": "1"}), OK) as server, file.open("rb") as data:
        data.read(7)
        ask(server, "PUT", data=data)
    assert [seen.body for seen in server.seen] == [file.read_bytes()] * 3


# 429


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 5),
        ({"Retry-After": "17"}, 17),
        ({"Retry-After": " 17 "}, 17),
        ({"Retry-After": "0"}, 0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:01:40 GMT"}, 40),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0),
        ({"Retry-After": "-3"}, 5),
        ({"Retry-After": "1.5"}, 5),
        ({"Retry-After": "soon"}, 5),
        ({"Retry-After": "\u0663"}, 5),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], expected: float) -> None:
    assert retry_after(headers, 5, now=60) == expected


@given(st.text(max_size=40))
def test_any_retry_after_is_a_time_to_wait(value: str) -> None:
    assert retry_after({"Retry-After": value}, 5) >= 0


@pytest.mark.parametrize(
    ("headers", "waits"), [({"Retry-After": "7"}, 7), ({}, 5), ({"Retry-After": "0"}, 1)]
)
def test_too_many_calls_are_waited_out(headers: dict[str, str], waits: float) -> None:
    deadline = FakeDeadline(60)
    with serving(Answer(429, headers), Answer(429, headers), OK) as server:
        assert ask(server, "POST", deadline=deadline).status_code == 200
    assert deadline.slept == [waits, waits]
    assert len(server.seen) == 3


def test_a_date_to_wait_until_is_kept_to() -> None:
    deadline = FakeDeadline(60)
    until = email.utils.formatdate(time.time() + 20, usegmt=True)
    with serving(Answer(429, {"Retry-After": until}), OK) as server:
        ask(server, deadline=deadline)
    assert 1 <= deadline.slept[0] <= 20


def test_too_many_calls_beyond_the_deadline_fail_at_once() -> None:
    deadline = FakeDeadline(30)
    answer = Answer(429, {"Retry-After": "31"})
    with serving(answer) as server, pytest.raises(TimeoutExceeded) as raised:
        ask(server, deadline=deadline)
    assert deadline.slept == []
    text = str(raised.value)
    assert text.startswith(f"{server.url} answers 429: too many calls a minute; gave up waiting")
    assert text.endswith("Wait a minute, or give a longer timeout.")


# Bodies


def test_a_body_comes_in_pieces() -> None:
    body = bytes(range(256)) * 20_000
    with serving(Answer(200, {}, body)) as server:
        http = Http(server.url)
        response = http.request("GET", "/", deadline=FakeDeadline(30), stream=True)
        pieces = list(http.chunks(response, FakeDeadline(30)))
    assert b"".join(pieces) == body
    assert max(map(len, pieces)) <= CHUNK


@pytest.mark.parametrize("stream", [True, False])
def test_a_truncated_body_is_noticed(stream: bool) -> None:
    answer = Answer(200, {"Content-Length": "1000"}, b"x" * 400)
    with serving(answer) as server, pytest.raises(ConnectionBroken) as raised:
        http = Http(server.url)
        deadline = FakeDeadline(30)
        response = http.request("POST", "/data", deadline=deadline, stream=stream)
        list(http.chunks(response, deadline))
    assert str(raised.value) == (
        f"the body from {server.url} ended early: 400 bytes came, 600 more were due."
    )


def test_a_body_that_trickles_does_not_outlast_the_deadline() -> None:
    def trickle() -> Any:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(0.01)
            yield b"x"

    with serving(lambda seen: Answer(200, {}, trickle())) as server:
        http = Http(server.url)
        deadline = Deadline(0.3)
        with pytest.raises(TimeoutExceeded, match="took longer than 1 s"):
            http.request("GET", "/", deadline=deadline)
    assert deadline.elapsed < 30


def test_an_upload_does_not_outlast_the_deadline(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"x" * 100_000)
    deadline = FakeDeadline(5)

    class Slow(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            deadline.now += 6
            return super().read(1000)

    with (
        serving(OK) as server,
        Slow(path) as data,
        pytest.raises(TimeoutExceeded, match=r"did not answer POST / within 5 s"),
    ):
        ask(server, "POST", data=data, deadline=deadline)


@pytest.mark.parametrize(
    ("content_type", "body", "told"),
    [
        ("text/html; charset=utf-8", b"<html>Welcome</html>", "20 bytes (text/html)"),
        ("application/json", b"{", "1 bytes (application/json)"),
        ("application/json", b"", "0 bytes (application/json)"),
        ("application/json", b"\xff\xfe\xff", "3 bytes (application/json)"),
        ("application/json", b"[" * 200_000, "200000 bytes (application/json)"),
        ("application/json", b"9" * 10_000, "10000 bytes (application/json)"),
        ("", b"plain", "5 bytes ()"),
    ],
)
def test_what_is_not_json_is_told_by_its_kind(content_type: str, body: bytes, told: str) -> None:
    with serving(Answer(200, {"Content-Type": content_type}, body)) as server:
        http = Http(server.url)
        response = http.request("GET", "/", deadline=FakeDeadline(5))
        with pytest.raises(HttpError) as raised:
            http.json(response)
    assert str(raised.value) == (
        f"{server.url} answered 200 with {told} that are not JSON. "
        "Check that the address is the API's own and not a web page before it."
    )


def test_an_answer_that_is_far_too_large_is_not_read_to_its_end() -> None:
    sent = 0

    def endless() -> Any:
        nonlocal sent
        while sent < 200:
            sent += 1
            yield b"x" * CHUNK

    with (
        serving(lambda seen: Answer(200, {}, endless())) as server,
        pytest.raises(HttpError, match="with more than 8 MiB, where a short answer was due"),
    ):
        ask(server)
    assert sent < 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_json_comes_as_it_was_sent() -> None:
    sent: list[Any] = []

    def answer(seen: Seen) -> Answer:
        return Answer(200, {}, json.dumps(sent[-1]).encode())

    with serving(answer) as server:
        http = Http(server.url)

        @given(json_values)
        @settings(max_examples=40)
        def same(value: Any) -> None:
            sent.append(value)
            assert http.json(http.request("GET", "/", deadline=FakeDeadline(5))) == value

        same()


# The key


KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40)
FAULTS = [
    None,
    Answer(200, {"Content-Type": "text/html"}, b"<html>"),
    Answer(200, {"Content-Length": "9"}, b"short"),
    Answer(429, {"Retry-After": "3600"}),
]


@given(key=KEYS, method=st.sampled_from(["GET", "POST"]), fault=st.sampled_from(FAULTS))
@settings(max_examples=30)
def test_the_key_is_in_no_error_and_no_repr(key: str, method: str, fault: Answer | None) -> None:
    # A key that is a part of the messages' own words cannot be told from them.
    key = f"k3y-{key}"
    with serving(fault) as server, tempfile.TemporaryFile() as body:
        http = Http(server.url, headers={"Authorization": key}, retry_wait=0)
        with pytest.raises(DeliveryError) as raised:
            http.json(http.request(method, "/", deadline=FakeDeadline(5), data=body))
    shown = [repr(http), str(http)]
    error: BaseException | None = raised.value
    while error is not None:
        shown += [repr(error), str(error)]
        error = error.__cause__
    assert server.seen[0].headers["Authorization"] == key
    assert not [text for text in shown if key in text]
