# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The switch: nothing is lost, nothing new reaches the old version, what runs there is counted."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from tests.support.apps import AppProcess
from tests.support.proxy import (
    PATIENCE,
    Proxy,
    Scripted,
    scripted,
    start_backend,
    start_proxy,
)
from tests.support.proxy_client import KeepAlive
from tests.support.waiting import eventually

SLOW = "/demo/slow?seconds=0.2"
OK = b"HTTP/1.1 200 OK\r\nX-Version: scripted\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[AppProcess]]:
    folder = tmp_path_factory.mktemp("backends")
    apps = [start_backend(folder, version) for version in ("v0", "v1")]
    yield apps
    for app in apps:
        app.kill()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with start_proxy(tmp_path_factory.mktemp("proxy"), connect_timeout=2) as app:
        yield app


@contextmanager
def in_background(
    method: str, url: str, data: bytes | None = None
) -> Iterator[Future[requests.Response]]:
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(requests.request, method, url, data=data, timeout=PATIENCE)


class Hold:
    """A script that answers only once it may; tells when a request has come."""

    def __init__(self) -> None:
        self._begun = threading.Event()
        self.finish = threading.Event()

    def __call__(self, server: Scripted, connection: socket.socket, _number: int) -> None:
        server.read_request(connection)
        self._begun.set()
        assert self.finish.wait(PATIENCE)
        connection.sendall(OK)

    def begun(self) -> None:
        assert self._begun.wait(PATIENCE), "no request came"


def in_flight(proxy: Proxy, name: str) -> None:
    eventually(lambda: proxy.drain(name)["current_in_flight"] == 1, "a request is in flight")


def refuses_connections(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


class Traffic:
    """Steady requests on kept-alive connections, each checked against the switches around it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.order: list[str] = []  # versions in the order in which their switch was begun
        self.confirmed = 0  # how many of these switches were answered
        self.answered = 0
        self.wrong: list[str] = []
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        for number in range(8):
            method, body = [("GET", None), ("POST", b"x" * 200)][number % 2]
            self._tasks.append(asyncio.create_task(self._run(method, "/demo/x", body)))
        for method in ("GET", "POST"):
            self._tasks.append(asyncio.create_task(self._run(method, SLOW, b"")))

    async def _run(self, method: str, path: str, body: bytes | None) -> None:
        client = await KeepAlive.open(self.url)
        while not self._stop.is_set():
            earliest = self.confirmed - 1
            answer = await client.request(method, path, body)
            self.answered += 1
            allowed = self.order[earliest:]
            if answer.status != 200 or answer.version not in allowed:
                self.wrong.append(f"{method} {path}: {answer}, allowed {allowed}")
        client.close()

    async def switch(self, admin: KeepAlive, version: str, url: str) -> None:
        self.order.append(version)
        answer = await admin.request("POST", f"/services/demo/{quote(url, safe='')}", b"")
        assert answer.status == 200, answer
        self.confirmed += 1

    async def finish(self) -> None:
        self._stop.set()
        # A connection that broke is an exception here.
        await asyncio.gather(*self._tasks)


def test_two_hundred_switches_under_load_lose_nothing(
    proxy: Proxy, backends: list[AppProcess]
) -> None:
    async def play() -> Traffic:
        admin = await KeepAlive.open(proxy.url)
        traffic = Traffic(proxy.url)
        await traffic.switch(admin, "v0", backends[0].url)
        await traffic.start()
        for number in range(1, 201):
            await traffic.switch(admin, f"v{number % 2}", backends[number % 2].url)
        await traffic.finish()
        admin.close()
        return traffic

    traffic = asyncio.run(play())
    assert traffic.wrong == []
    assert traffic.answered > 200
    assert proxy.drain("demo", wait=PATIENCE)["in_flight"] == 0
    assert proxy.drain("demo")["current_in_flight"] == 0


def test_old_versions_can_be_ended_after_their_drain_without_a_loss(
    proxy: Proxy, tmp_path: Path
) -> None:
    async def play(stack: ExitStack) -> Traffic:
        admin = await KeepAlive.open(proxy.url)
        traffic = Traffic(proxy.url)
        old = start_backend(tmp_path, "w0")
        stack.callback(old.kill)
        await traffic.switch(admin, "w0", old.url)
        await traffic.start()
        for number in range(1, 6):
            new = await asyncio.to_thread(start_backend, tmp_path, f"w{number}")
            stack.callback(new.kill)
            await traffic.switch(admin, f"w{number}", new.url)
            drained = await admin.request("GET", "/services/demo/drain?wait=30")
            assert b'"in_flight": 0' in drained.body
            assert await asyncio.to_thread(old.stop) == 0
            old = new
        await traffic.finish()
        return traffic

    with ExitStack() as stack:
        traffic = asyncio.run(play(stack))
    assert traffic.wrong == []


def test_what_runs_on_the_old_version_ends_there_and_is_counted(
    proxy: Proxy, backends: list[AppProcess]
) -> None:
    hold = Hold()
    with scripted(hold) as old:
        proxy.register("held", old.url)
        with in_background("POST", f"{proxy.url}/held/x", b"x") as running:
            hold.begun()
            assert proxy.drain("held")["current_in_flight"] == 1
            proxy.register("held", backends[0].url)
            state = proxy.drain("held")
            assert (state["in_flight"], state["current_in_flight"]) == (1, 0)
            assert state["draining"] == [{"url": old.url, "in_flight": 1}]
            new = requests.get(f"{proxy.url}/held/x", timeout=PATIENCE)
            assert new.headers["X-Version"] == "v0"
            assert proxy.api("DELETE", "/held").status_code == 200
            assert proxy.drain("held")["in_flight"] == 1
            hold.finish.set()
            assert proxy.drain("held", wait=PATIENCE)["in_flight"] == 0
            assert running.result(PATIENCE).headers["X-Version"] == "scripted"
    assert proxy.drain("held")["draining"] == []


def test_back_to_a_version_that_still_drains(proxy: Proxy, backends: list[AppProcess]) -> None:
    hold = Hold()
    with scripted(hold) as old:
        proxy.register("back", old.url)
        with in_background("GET", f"{proxy.url}/back/x") as running:
            hold.begun()
            proxy.register("back", backends[0].url)
            assert proxy.drain("back")["in_flight"] == 1
            proxy.register("back", old.url)
            state = proxy.drain("back")
            assert (state["in_flight"], state["current_in_flight"]) == (0, 1)
            hold.finish.set()
            assert running.result(PATIENCE).status_code == 200
            proxy.register("back", backends[0].url)
            assert proxy.drain("back", wait=PATIENCE)["in_flight"] == 0


def test_registering_the_current_address_again_is_no_switch(proxy: Proxy) -> None:
    hold = Hold()
    with scripted(hold) as server:
        proxy.register("same", server.url)
        with in_background("GET", f"{proxy.url}/same/x") as running:
            hold.begun()
            proxy.register("same", server.url)
            state = proxy.drain("same")
            assert (state["in_flight"], state["current_in_flight"]) == (0, 1)
            hold.finish.set()
            assert running.result(PATIENCE).status_code == 200


def test_a_client_that_hangs_up_is_counted_off_once(
    proxy: Proxy, backends: list[AppProcess]
) -> None:
    hold = Hold()
    with scripted(hold) as old:
        proxy.register("left", old.url)
        with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client:
            client.sendall(b"POST /left/x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
            hold.begun()
            proxy.register("left", backends[0].url)
            assert proxy.drain("left")["in_flight"] == 1
        assert proxy.drain("left", wait=PATIENCE)["in_flight"] == 0
        hold.finish.set()


# What is tried a second time, and what never is.


def closes_on_second(server: Scripted, connection: socket.socket, _number: int) -> None:
    """Keeps a connection, and closes it when a second request has come on it."""
    if server.read_request(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        server.read_request(connection)


def methods(server: Scripted) -> list[bytes]:
    return [request.split(b" ")[0] for request in server.requests]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_a_stale_connection_is_not_the_clients_trouble(proxy: Proxy, method: str) -> None:
    with scripted(closes_on_second) as server:
        proxy.register("stale", server.url)
        for _time in range(2):
            answer = requests.request(method, f"{proxy.url}/stale/", data=b"x", timeout=PATIENCE)
            assert answer.status_code == 200
        # Three: the second was sent once more, on a new connection.
        assert methods(server) == [method.encode()] * 3
        assert server.connections == 2
    assert proxy.drain("stale")["current_in_flight"] == 0


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_post_that_may_have_been_sent_is_never_repeated(proxy: Proxy, method: str) -> None:
    with scripted(closes_on_second) as server:
        proxy.register("stale", server.url)
        url = f"{proxy.url}/stale/"
        codes = [requests.request(method, url, timeout=PATIENCE).status_code for _time in range(2)]
        assert codes == [200, 502]
        assert methods(server) == [method.encode()] * 2
    assert proxy.drain("stale")["current_in_flight"] == 0


def test_a_post_avoids_a_connection_that_the_service_has_closed(proxy: Proxy) -> None:
    closed = threading.Semaphore(0)

    def closes_after(server: Scripted, connection: socket.socket, _number: int) -> None:
        server.read_request(connection)
        connection.sendall(OK)
        connection.shutdown(socket.SHUT_RDWR)
        closed.release()

    with scripted(closes_after) as server:
        proxy.register("stale", server.url)
        for _time in range(50):
            assert requests.post(f"{proxy.url}/stale/", data=b"x", timeout=PATIENCE).ok
            assert closed.acquire(timeout=PATIENCE)
        assert len(server.requests) == 50


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_service_that_takes_a_new_connection_and_closes_it_is_asked_once(
    proxy: Proxy, method: str
) -> None:
    with scripted(lambda server, connection, number: None) as server:
        proxy.register("closing", server.url)
        answer = requests.request(method, f"{proxy.url}/closing/", data=b"x", timeout=PATIENCE)
        assert (answer.status_code, server.connections) == (502, 1)


@contextmanager
def unaccepting() -> Iterator[socket.socket]:
    """A listener whose queue is full, so that connecting to it neither succeeds nor fails."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _time in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_whose_connecting_a_switch_overtakes_reaches_the_new_version(
    proxy: Proxy, backends: list[AppProcess], method: str
) -> None:
    with unaccepting() as listener:
        port = listener.getsockname()[1]
        proxy.register("overtaken", f"http://127.0.0.1:{port}")
        with in_background(method, f"{proxy.url}/overtaken/x", b"x") as running:
            in_flight(proxy, "overtaken")
            proxy.register("overtaken", backends[1].url)
            answer = running.result(PATIENCE)
    assert (answer.status_code, answer.headers["X-Version"]) == (200, "v1")
    assert answer.json()["size"] == 1
    assert proxy.drain("overtaken", wait=PATIENCE)["in_flight"] == 0


def test_a_connection_that_comes_about_after_the_switch_carries_nothing(
    proxy: Proxy, backends: list[AppProcess]
) -> None:
    with unaccepting() as listener:
        port = listener.getsockname()[1]
        proxy.register("late", f"http://127.0.0.1:{port}")
        with in_background("POST", f"{proxy.url}/late/x", b"x") as running:
            in_flight(proxy, "late")
            proxy.register("late", backends[1].url)
            # Making room lets the pending connection succeed, now that it is not wanted.
            listener.settimeout(PATIENCE)
            received = b""
            while not running.done():
                with suppress(TimeoutError), listener.accept()[0] as connection:
                    listener.settimeout(0.1)
                    connection.settimeout(0.1)
                    received += connection.recv(100)
            assert running.result(PATIENCE).headers["X-Version"] == "v1"
    assert received == b""


def test_a_service_that_cannot_be_reached_in_time_is_a_504(proxy: Proxy) -> None:
    with unaccepting() as listener:
        proxy.register("mute", f"http://127.0.0.1:{listener.getsockname()[1]}")
        answer = requests.get(f"{proxy.url}/mute/", timeout=PATIENCE)
        assert answer.status_code == 504
        assert answer.json()["error"].endswith("no connection within 2 s.")


# The proxy's own end.


def test_a_request_in_flight_is_finished_before_the_proxy_ends(tmp_path: Path) -> None:
    hold = Hold()
    with start_proxy(tmp_path) as proxy, scripted(hold) as server:
        proxy.register("demo", server.url)
        with in_background("POST", f"{proxy.url}/demo/x", b"x") as running:
            hold.begun()
            proxy.app.process.terminate()
            eventually(lambda: refuses_connections(proxy.port), "the proxy listens no more")
            assert proxy.app.process.poll() is None
            hold.finish.set()
            answer = running.result(PATIENCE)
            assert (answer.status_code, answer.headers["Connection"]) == (200, "close")
        assert proxy.stop() == 0


# Below and above what the proxy reads before it asks a service.
@pytest.mark.parametrize("size", [1000, 1_000_000])
def test_an_upload_under_way_is_finished_before_the_proxy_ends(
    tmp_path: Path, backends: list[AppProcess], size: int
) -> None:
    with start_proxy(tmp_path) as proxy:
        proxy.register("demo", backends[0].url)
        with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client:
            client.sendall(
                b"POST /demo/upload HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
                b"Content-Length: %d\r\n\r\n" % size
            )
            answer = client.makefile("rb")
            # That the proxy wants the body says that the request is in flight.
            assert answer.readline() == b"HTTP/1.1 100 Continue\r\n"
            client.sendall(b"x" * (size // 2))
            proxy.app.process.terminate()
            eventually(lambda: refuses_connections(proxy.port), "the proxy listens no more")
            client.sendall(b"x" * (size - size // 2))
            told = answer.read()
        assert b"HTTP/1.1 200 OK\r\n" in told
        assert hashlib.sha256(b"x" * size).hexdigest().encode() in told
        assert proxy.stop() == 0


def test_a_request_that_does_not_end_does_not_keep_the_proxy(tmp_path: Path) -> None:
    hold = Hold()
    with start_proxy(tmp_path, shutdown_timeout=0.2) as proxy, scripted(hold) as server:
        proxy.register("demo", server.url)
        with in_background("GET", f"{proxy.url}/demo/x") as running:
            hold.begun()
            assert proxy.stop() == 0
            with pytest.raises(requests.ConnectionError):
                running.result(PATIENCE)
        hold.finish.set()
        assert "cut off" in proxy.app.log()
