# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils import http_sockets
from ansible_collections.immutable.delivery.plugins.module_utils.deadline import Deadline
from ansible_collections.immutable.delivery.plugins.module_utils.http import (
    ConnectionBroken,
    Http,
    TooSlow,
    Unreachable,
)
from ansible_collections.immutable.delivery.plugins.module_utils.portal.client import PortalClient
from ansible_collections.immutable.delivery.tests.support.certificates import Authority

from .loopback import Answer, Talk, serving, talking

SECONDS = 1.0
# The servers would go on for a minute; a busy machine may take a few seconds more than it should.
AT_MOST = SECONDS + 8
PAUSE = 0.05


def trickle(connection: socket.socket, over: threading.Event, pieces: Iterator[bytes]) -> None:
    """Send *pieces*, one every now and then."""
    end = time.monotonic() + 60
    while time.monotonic() < end and not over.wait(PAUSE):
        connection.sendall(next(pieces))


def after_request(first: bytes, *repeated: bytes) -> Talk:
    """Read a request, send *first*, then trickle *repeated* again and again."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(first)
        trickle(connection, over, itertools.cycle(repeated))

    return talk


def at_once(first: bytes, *repeated: bytes) -> Talk:
    def talk(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(first)
        trickle(connection, over, itertools.cycle(repeated))

    return talk


def silent(connection: socket.socket, over: threading.Event) -> None:
    over.wait(60)


def reads_slowly(connection: socket.socket, over: threading.Event) -> None:
    while not over.wait(PAUSE) and connection.recv(64):
        pass


OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "nothing": silent,
    "status line": after_request(b"HTTP/1.1 200 ", b"O"),
    "one header": after_request(OK + b"X-Long: ", b"x"),
    "headers": after_request(OK, b"X: y\r\n"),
    "informational": after_request(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": after_request(OK + b"Content-Length: 10000\r\n\r\n", b"x"),
    "body to the end": after_request(OK + b"Connection: close\r\n\r\n", b"x"),
    "chunks": after_request(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "size of a chunk": after_request(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
}


@contextlib.contextmanager
def in_time(*errors: type[Exception]) -> Iterator[None]:
    began = time.monotonic()
    with pytest.raises(errors):
        yield
    assert time.monotonic() - began < AT_MOST


@pytest.mark.parametrize("talk", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_trickles_does_not_outlast_the_deadline(talk: Talk) -> None:
    with talking(talk) as url, in_time(ConnectionBroken):
        Http(url).request("GET", "/", deadline=Deadline(SECONDS), repeat=False)


@pytest.mark.parametrize("talk", ANSWERS.values(), ids=ANSWERS)
def test_nor_does_what_the_portal_says_while_its_users_wait(talk: Talk) -> None:
    with talking(talk) as url:
        portal = PortalClient(Http(url))
        with in_time(ConnectionBroken):
            portal.export_status("e1", Deadline(SECONDS))
        with in_time(ConnectionBroken):
            portal.begin_export(Deadline(SECONDS))


def test_a_request_that_may_have_been_sent_says_so_and_that_the_time_is_up() -> None:
    with talking(silent) as url, pytest.raises(TooSlow) as raised:
        Http(url).request("POST", "/export", deadline=Deadline(SECONDS))
    assert raised.value.kind == "timeout"
    assert raised.value.message == f"{url} did not answer POST /export within 1 s"


def test_a_stream_keeps_the_deadline_that_it_is_read_with() -> None:
    with talking(ANSWERS["body"]) as url:
        http = Http(url)
        response = http.request("GET", "/", deadline=Deadline(60), stream=True)
        with in_time(TooSlow):
            for _chunk in http.chunks(response, Deadline(SECONDS)):
                pass


# A record of a handshake that claims 16 KiB.
RECORD = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03"


@pytest.mark.parametrize("talk", [silent, at_once(RECORD, b"x")], ids=["silent", "trickle"])
def test_a_handshake_does_not_outlast_the_deadline(talk: Talk) -> None:
    with talking(talk) as url, in_time(ConnectionBroken, Unreachable):
        address = url.replace("http:", "https:")
        Http(address).request("GET", "/", deadline=Deadline(SECONDS), repeat=False)


def test_over_tls_an_answer_that_trickles_does_not_outlast_the_deadline(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    authority = Authority(tmp_path_factory.mktemp("ca"))
    context = authority.context("127.0.0.1")

    def talk(connection: socket.socket, over: threading.Event) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            after_request(OK, b"X: y\r\n")(secure, over)

    with talking(talk) as url, in_time(TooSlow):
        http = Http(url.replace("http:", "https:"), ca_path=str(authority.path))
        http.request("GET", "/", deadline=Deadline(SECONDS), repeat=False)


def tunnel(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
    after_request(RECORD, b"x")(connection, over)


PROXIES = {
    "nothing": silent,
    "headers": after_request(b"HTTP/1.1 200 Connected\r\n", b"X: y\r\n"),
    "handshake": tunnel,
}


@pytest.mark.parametrize("talk", PROXIES.values(), ids=PROXIES)
def test_a_proxy_does_not_outlast_the_deadline(monkeypatch: pytest.MonkeyPatch, talk: Talk) -> None:
    with talking(talk) as url:
        monkeypatch.setenv("https_proxy", url)
        with in_time(ConnectionBroken, Unreachable):
            http = Http("https://portal.invalid")
            http.request("GET", "/", deadline=Deadline(SECONDS), repeat=False)


def test_several_addresses_share_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as full, contextlib.ExitStack() as held:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _place in range(3):
            # With the queue full the kernel answers nobody.
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", full.getsockname())] * 20
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
        with in_time(Unreachable):
            http = Http("http://portal.invalid")
            http.request("GET", "/", deadline=Deadline(SECONDS))


def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Answer(200)) as server, socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        ends = (held.getsockname(), ("127.0.0.1", server.port))
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", end) for end in ends]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
        http = Http("http://portal.invalid")
        assert http.request("GET", "/", deadline=Deadline(60)).status_code == 200


def test_a_name_that_is_not_resolved_does_not_outlast_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over = threading.Event()

    def stuck(*args: Any, **options: Any) -> list[Any]:
        over.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    with in_time(Unreachable):
        Http("http://portal.invalid").request("GET", "/", deadline=Deadline(SECONDS))
    over.set()


def reads(rate: int, size: int) -> Talk:
    """Read a body of *size* bytes, *rate* bytes a second, and answer."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(65536)
        left = size - len(head.partition(b"\r\n\r\n")[2])
        while left and not over.wait(0.02):
            left -= len(connection.recv(min(left, int(rate * 0.02))))
        connection.sendall(OK + b"Content-Length: 0\r\n\r\n")

    return talk


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_an_upload_may_be_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secure: bool
) -> None:
    """Slower than 1 MiB in the time for a connection, and than what is left in buffers at the end
    in the time in which something must move."""
    monkeypatch.setattr(http_sockets, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(http_sockets, "READ_SECONDS", 0.5)
    path = tmp_path / "body"
    size = 6 * 1024 * 1024
    path.write_bytes(b"x" * size)
    authority = Authority(tmp_path)
    context = authority.context("127.0.0.1")
    reading = reads(size // 3, size)

    def talk(connection: socket.socket, over: threading.Event) -> None:
        if not secure:
            return reading(connection, over)
        with context.wrap_socket(connection, server_side=True) as wrapped:
            return reading(wrapped, over)

    with talking(talk, receive_buffer=65536) as url, path.open("rb") as body:
        address = url.replace("http:", "https:") if secure else url
        http = Http(address, ca_path=str(authority.path))
        began = time.monotonic()
        answer = http.request("POST", "/import", deadline=Deadline(60), data=body)
    assert answer.status_code == 200
    assert time.monotonic() - began > 2


def test_an_upload_that_is_hardly_read_does_not_outlast_the_deadline(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"x" * 16 * 1024 * 1024)
    with (
        talking(reads_slowly, receive_buffer=4096) as url,
        path.open("rb") as body,
        in_time(TooSlow),
    ):
        Http(url).request("POST", "/import", deadline=Deadline(SECONDS), data=body)


def test_without_a_deadline_in_force_a_call_waits_as_long_as_it_may_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_sockets, "READ_SECONDS", 0.2)
    with talking(silent) as url, pytest.raises(ConnectionBroken) as raised:
        Http(url).request("POST", "/", deadline=Deadline(60))
    assert not isinstance(raised.value, TooSlow)
