# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the proxy passes on, to the byte, and what it says when a service misbehaves."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.apps import AppProcess
from tests.support.certificates import Authority
from tests.support.proxy import (
    PATIENCE,
    Proxy,
    Scripted,
    always,
    scripted,
    start_backend,
    start_proxy,
    talk,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppProcess]:
    app = start_backend(tmp_path_factory.mktemp("backend"), "v1")
    yield app
    app.kill()


@pytest.fixture(scope="module")
def proxy(backend: AppProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with start_proxy(tmp_path_factory.mktemp("proxy"), idle_timeout=2, connect_timeout=2) as app:
        app.register("demo", backend.url)
        app.register("based", backend.url + "/base/path")
        yield app


def ask(proxy: Proxy, data: bytes) -> bytes:
    return talk(proxy.port, data)


def one(proxy: Proxy, line: bytes, *headers: bytes) -> bytes:
    """One request on a connection that ends after it."""
    lines = b"".join(h + b"\r\n" for h in headers)
    return ask(proxy, line + b"\r\nHost: h\r\nConnection: close\r\n" + lines + b"\r\n")


def seen(answer: bytes) -> dict[str, Any]:
    """What the echoing service says it was sent."""
    result: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return result


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"/demo", "/"),
        (b"/demo/", "/"),
        (b"/demo?a=b", "/?a=b"),
        (b"/demo/1", "/1"),
        (b"/demo/a%2Fb%20c+d/%e4", "/a%2Fb%20c+d/%e4"),
        (b"/demo//double///slash/", "//double///slash/"),
        (b"/demo/../services/demo", "/../services/demo"),
        (b"/demo/x?", "/x?"),
        (b"/demo/x?&&a=%26&b=/?&c", "/x?&&a=%26&b=/?&c"),
        (b"/demo/;p=1,2'()*!@:$~", "/;p=1,2'()*!@:$~"),
        (b"/based", "/base/path/"),
        (b"/based/x?y", "/base/path/x?y"),
        (b"http://other:99/demo/abs?x", "/abs?x"),
    ],
)
def test_the_path_is_passed_on_byte_for_byte(proxy: Proxy, sent: bytes, expected: str) -> None:
    assert seen(one(proxy, b"GET " + sent + b" HTTP/1.1"))["path"] == expected


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_every_method_is_passed_on_with_its_body(proxy: Proxy, method: str) -> None:
    for body in (b"", b"x" * 1000, b"y" * 300_000):
        answer = requests.request(method, f"{proxy.url}/demo/m", data=body, timeout=PATIENCE)
        assert answer.headers["X-Version"] == "v1"
        assert (answer.json()["method"], answer.json()["size"]) == (method, len(body))


def test_headers_are_passed_on_as_they_are_and_the_forwarded_ones_added(proxy: Proxy) -> None:
    headers = seen(one(proxy, b"GET /demo/x HTTP/1.1", b"x-OddCase: 1", b"X-Many: a", b"X-Many: b"))
    assert headers["headers"] == [
        ["Host", "h"],
        ["x-OddCase", "1"],
        ["X-Many", "a"],
        ["X-Many", "b"],
        ["X-Forwarded-For", "127.0.0.1"],
        ["X-Forwarded-Proto", "http"],
        ["X-Forwarded-Prefix", "/demo"],
        ["X-Forwarded-Host", "h"],
    ]


def test_forwarded_headers_of_a_proxy_in_front_are_continued(proxy: Proxy) -> None:
    answer = one(
        proxy,
        b"GET /demo/x HTTP/1.1",
        b"X-Forwarded-For: 10.0.0.9",
        b"x-forwarded-for: 10.0.0.8",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: public.example",
        b"X-Forwarded-Prefix: /outer",
    )
    headers = dict(seen(answer)["headers"])
    assert headers["X-Forwarded-For"] == "10.0.0.9, 10.0.0.8, 127.0.0.1"
    assert headers["X-Forwarded-Proto"] == "https"
    assert headers["X-Forwarded-Host"] == "public.example"
    assert headers["X-Forwarded-Prefix"] == "/outer/demo"


def test_hop_by_hop_headers_stop_here(proxy: Proxy) -> None:
    request = (
        b"GET /demo/x HTTP/1.1\r\nHost: h\r\nConnection: close, X-Secret-Hop, Host\r\n"
        b"X-Secret-Hop: 1\r\nKeep-Alive: timeout=9\r\nTE: trailers\r\nTrailer: X\r\n"
        b"Proxy-Authorization: Basic eA==\r\nProxy-Connection: close\r\nUpgrade: h2c\r\n"
        b"X-Stays: 1\r\n\r\n"
    )
    names = {name.lower() for name, _value in seen(ask(proxy, request))["headers"]}
    forwarded = {f"x-forwarded-{x}" for x in ("for", "host", "prefix", "proto")}
    assert names == {"host", "x-stays"} | forwarded


def test_hop_by_hop_headers_of_the_answer_stop_here(proxy: Proxy) -> None:
    answer = (
        b"HTTP/1.1 200 Very Fine\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\n"
        b"Proxy-Authenticate: x\r\nSet-Cookie: a=1; Path=/x\r\nset-cookie: b=2\r\n"
        b"X-Bytes: \xe4\xff\r\nContent-Length: 2\r\n\r\nok"
    )
    with scripted(always(answer)) as server:
        proxy.register("raw", server.url)
        assert one(proxy, b"GET /raw/ HTTP/1.1", b"X-Bytes: \xf6") == (
            b"HTTP/1.1 200 Very Fine\r\nSet-Cookie: a=1; Path=/x\r\nset-cookie: b=2\r\n"
            b"X-Bytes: \xe4\xff\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
        )
        assert b"X-Bytes: \xf6\r\n" in server.requests[0]


def test_redirects_and_compressed_bodies_are_the_clients_own_matter(proxy: Proxy) -> None:
    body = gzip.compress(b"x" * 1000)
    head = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Encoding: gzip\r\n"
    with scripted(always(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)) as server:
        proxy.register("raw", server.url)
        answer = one(proxy, b"POST /raw/ HTTP/1.1", b"Content-Encoding: gzip", b"Content-Length: 0")
        assert answer.endswith(b"\r\n\r\n" + body)
        assert b"Location: /elsewhere\r\n" in answer
        assert b"Content-Encoding: gzip\r\n" in server.requests[0]
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("method", "answer", "expected"),
    [
        (b"HEAD", b"200 OK\r\nContent-Length: 99\r\n\r\n", b"200 OK\r\nContent-Length: 99\r\n"),
        (b"HEAD", b"200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"200 OK\r\n"),
        (b"GET", b"204 No Content\r\n\r\n", b"204 No Content\r\n"),
        (b"GET", b"304 Old\r\nContent-Length: 9\r\n\r\n", b"304 Old\r\nContent-Length: 9\r\n"),
        (b"GET", b"200 OK\r\nContent-Length: 0\r\n\r\n", b"200 OK\r\nContent-Length: 0\r\n"),
    ],
)  # fmt: skip
def test_answers_without_a_body_leave_the_connection_in_step(
    proxy: Proxy, method: bytes, answer: bytes, expected: bytes
) -> None:
    request = method + b" /raw/ HTTP/1.1\r\nHost: h\r\n\r\n"
    last = b"GET /demo/tiny HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    with scripted(always(b"HTTP/1.1 " + answer)) as server:
        proxy.register("raw", server.url)
        answers = ask(proxy, request * 2 + last)
    assert answers.startswith((b"HTTP/1.1 " + expected + b"\r\n") * 2 + b"HTTP/1.1 200 OK\r\n")
    assert answers.endswith(b"\r\n\r\nok")


def test_chunked_bodies_pass_both_ways(proxy: Proxy) -> None:
    body = [b"a" * 10, b"b" * 100_000, b"c"]
    answer = requests.post(f"{proxy.url}/demo/echo", data=iter(body), timeout=PATIENCE)
    assert answer.content == b"".join(body)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
    with scripted(always(chunked + b"3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n")) as server:
        proxy.register("raw", server.url)
        answers = talk(proxy.port, b"GET /raw/ HTTP/1.1\r\nHost: h\r\n\r\n", until=b"0\r\n\r\n")
    assert answers == (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )


def test_an_answer_that_ends_with_the_connection_is_given_an_end(proxy: Proxy) -> None:
    with scripted(always(b"HTTP/1.0 200 OK\r\n\r\nall of it", close=True)) as server:
        proxy.register("raw", server.url)
        assert requests.get(f"{proxy.url}/raw/", timeout=PATIENCE).text == "all of it"
        old = ask(proxy, b"GET /raw/ HTTP/1.0\r\n\r\n")
        assert old == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it"
        assert f"Host: 127.0.0.1:{server.port}\r\n".encode() in server.requests[-1]


def test_an_old_client_can_keep_its_connection(proxy: Proxy) -> None:
    request = b"GET /demo/tiny HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    answers = ask(proxy, request + b"GET /demo/tiny HTTP/1.0\r\n\r\n")
    assert answers.count(b"\r\n\r\nok") == 2
    assert answers.count(b"Connection: keep-alive\r\n") == 1


@pytest.mark.parametrize("size", [10, 200_000])
def test_a_client_that_waits_for_100_continue_is_told_to_go_on(proxy: Proxy, size: int) -> None:
    head = b"POST /demo/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nExpect: 100-continue\r\n"
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client:
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % size)
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"x" * size)
        answer = client.makefile("rb").read()
    assert seen(answer)["size"] == size
    assert "Expect" not in dict(seen(answer)["headers"])


def test_a_client_that_waits_for_100_continue_is_refused_before_it_sends(proxy: Proxy) -> None:
    head = (
        b"POST /nobody/x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    )
    answer = talk(proxy.port, head, until=b"}")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"Connection: close\r\n" in answer


def test_requests_in_one_packet_and_in_single_bytes_are_answered(proxy: Proxy) -> None:
    request = b"POST /demo/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
    last = request.replace(b"Host: h", b"Host: h\r\nConnection: close")
    assert ask(proxy, request * 4 + last).count(b"\r\n\r\nabc") == 5
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request:
            client.sendall(bytes([byte]))
        assert client.recv(65536).endswith(b"\r\n\r\nabc")


def test_interim_answers_are_passed_over(proxy: Proxy) -> None:
    with scripted(always(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK)) as server:
        proxy.register("raw", server.url)
        assert one(proxy, b"GET /raw/ HTTP/1.1").startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_early_answer_reaches_a_client_that_still_sends(proxy: Proxy) -> None:
    def refuse(server: Scripted, connection: socket.socket, _number: int) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    with scripted(refuse) as server:
        proxy.register("raw", server.url)
        answer = requests.post(f"{proxy.url}/raw/", data=b"x" * 1_000_000, timeout=PATIENCE)
    assert (answer.status_code, answer.text) == (413, "no")


def test_a_service_that_stops_taking_a_body_is_a_504(proxy: Proxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        proxy.register("raw", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client:
            client.sendall(b"POST /raw/ HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n")
            client.settimeout(PATIENCE)
            client.sendall(b"x" * 20_000_000)
            assert client.recv(65536).startswith(b"HTTP/1.1 504 ")
    assert proxy.drain("raw")["current_in_flight"] == 0


# What the proxy says itself.


@pytest.mark.parametrize("path", ["/", "/nobody", "/nobody/x", "//demo/x", "/%64emo/x", "/Demo/"])
def test_an_unknown_service_is_a_404_in_json(proxy: Proxy, path: str) -> None:
    answer = seen(one(proxy, b"GET " + path.encode() + b" HTTP/1.1"))
    assert answer["error"].startswith("No service is registered")


def test_a_service_that_refuses_connections_is_a_502(proxy: Proxy) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        proxy.register("raw", f"http://127.0.0.1:{closed.getsockname()[1]}")
        for method in ("GET", "POST"):
            answer = requests.request(method, f"{proxy.url}/raw/", data=b"x", timeout=PATIENCE)
            assert answer.status_code == 502
            assert "'raw' does not answer" in answer.json()["error"]
    assert proxy.drain("raw")["current_in_flight"] == 0


def test_a_host_that_does_not_exist_is_a_502(proxy: Proxy) -> None:
    proxy.register("raw", "http://does-not-exist.invalid")
    assert requests.get(f"{proxy.url}/raw/", timeout=PATIENCE).status_code == 502


def test_a_service_that_says_nothing_is_a_504(proxy: Proxy) -> None:
    def silent(server: Scripted, connection: socket.socket, _number: int) -> None:
        server.read_request(connection)
        connection.recv(1)

    with scripted(silent) as server:
        proxy.register("raw", server.url)
        answer = requests.post(f"{proxy.url}/raw/", data=b"x", timeout=PATIENCE)
        assert (answer.status_code, len(server.requests)) == (504, 1)
        assert answer.json()["error"] == "The service did not answer in time."


def test_a_service_that_leads_back_to_the_proxy_is_noticed(proxy: Proxy) -> None:
    proxy.register("circle", f"{proxy.url}/circle")
    answer = requests.get(f"{proxy.url}/circle/x", timeout=PATIENCE)
    assert answer.status_code == 508
    assert "leads back" in answer.json()["error"]


def test_a_service_over_tls_is_verified(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = authority.context("localhost")

    def serve(server: Scripted, connection: socket.socket, _number: int) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            always(OK)(server, secured, 1)

    with scripted(serve) as server:
        url = f"https://localhost:{server.port}"
        for trusted, status in ((authority.path, 200), (None, 502)):
            env = {"SSL_CERT_FILE": str(trusted)} if trusted else {}
            with start_proxy(tmp_path, env=env) as own:
                own.register("raw", url)
                answer = requests.post(f"{own.url}/raw/", data=b"x", timeout=PATIENCE)
                assert answer.status_code == status, answer.text
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rX-Forged: 1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_an_answer_that_is_not_http_is_a_502(proxy: Proxy, answer: bytes) -> None:
    with scripted(always(answer, close=True)) as server:
        proxy.register("raw", server.url)
        reply = requests.get(f"{proxy.url}/raw/", timeout=PATIENCE)
        assert reply.status_code == 502, reply.text
        assert "X-Forged" not in reply.headers


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf",
    ],
)
def test_half_an_answer_never_passes_for_a_whole_one(
    proxy: Proxy, start: bytes, version: bytes, reset: bool
) -> None:
    half_seen = threading.Event()

    def die(server: Scripted, connection: socket.socket, _number: int) -> None:
        server.read_request(connection)
        connection.sendall(start)
        assert half_seen.wait(PATIENCE)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    unframed_end = b"Connection: close" in start and not reset
    with (
        scripted(die) as server,
        socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client,
    ):
        proxy.register("raw", server.url)
        client.sendall(b"GET /raw/ HTTP/" + version + b"\r\nHost: h\r\n\r\n")
        data = b""
        while b"half" not in data or not data.endswith(b"0\r\n\r\n"):
            try:
                more = client.recv(65536)
            except ConnectionResetError:
                more = b"<reset>"
            data += more
            if more in {b"", b"<reset>"}:
                break
            if b"half" in data:
                half_seen.set()
    if unframed_end:
        # The service ended its answer in the only way it had: this one is whole.
        assert data.endswith(b"half" if version == b"1.0" else b"4\r\nhalf\r\n0\r\n\r\n")
    elif b"Content-Length: 1000" in data:
        assert data.removesuffix(b"<reset>").endswith(b"\r\n\r\nhalf")
    elif version == b"1.1":
        assert not data.removesuffix(b"<reset>").endswith(b"0\r\n\r\n")
    else:
        assert data.endswith(b"<reset>")
    assert proxy.drain("raw")["current_in_flight"] == 0


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /demo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4", 400),
        (b"POST /demo/ HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding:chunked", 400),
        (b"POST /demo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked", 501),
        (b"POST /demo/x HTTP/1.1\r\nHost: h\r\nContent-Length: -1", 400),
        (b"GET /demo/x HTTP/1.1", 400),
        (b"GET /demo/x HTTP/1.1\r\nHost: h\r\nExpect: a-miracle", 417),
        (b"CONNECT demo:80 HTTP/1.1\r\nHost: h", 404),
        (b"OPTIONS * HTTP/1.1\r\nHost: h", 404),
        (b"\x16\x03\x01\x02", 400),
        (b"GET /demo/x HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 100_000, 400),
        (b"POST /demo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\nab", 408),
        (b"POST /demo/x HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nab", 408),
        (b"POST /demo/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)  # fmt: skip
def test_a_bad_request_gets_an_answer_and_leaves_nothing_behind(
    proxy: Proxy, head: bytes, status: int
) -> None:
    answer = talk(proxy.port, head + b"\r\n\r\n", until=b"\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 %d " % status, b"HTTP/1.0 %d " % status)), answer
    assert proxy.drain("demo")["current_in_flight"] == 0
    assert "Traceback" not in proxy.app.log()


def test_bytes_that_are_not_ascii_in_a_path_arrive_encoded(proxy: Proxy) -> None:
    answer = one(proxy, b"GET /demo/\xc3\xa4\xff HTTP/1.1")
    assert b" 400 " in answer.split(b"\r\n")[0] or seen(answer)["path"] == "/%C3%A4%FF"
