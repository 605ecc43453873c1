# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bodies of any size in constant memory, events without delay, and WebSockets."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import requests

from tests.support.apps import AppProcess
from tests.support.proxy import PATIENCE, Proxy, resident, start_backend, start_proxy
from tests.support.proxy_backend import BLOCK

BLOCKS = 300 * 1024 * 1024 // len(BLOCK)
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[AppProcess]]:
    folder = tmp_path_factory.mktemp("backends")
    apps = [start_backend(folder, version) for version in ("v1", "v2")]
    yield apps
    for app in apps:
        app.kill()


@pytest.fixture
def proxy(backends: list[AppProcess], tmp_path: Path) -> Iterator[Proxy]:
    with start_proxy(tmp_path) as app:
        app.register("demo", backends[0].url)
        yield app


class Body:
    """An upload made while it is sent."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for _block in range(BLOCKS):
            self.digest.update(BLOCK)
            yield BLOCK


class SizedBody(Body):
    """The same with a length, which requests then announces."""

    def __len__(self) -> int:
        return BLOCKS * len(BLOCK)


@pytest.mark.parametrize(("body", "query"), [(Body(), ""), (SizedBody(), "&sized")])
def test_hundreds_of_megabytes_pass_in_constant_memory(
    proxy: Proxy, body: Body, query: str
) -> None:
    assert requests.get(f"{proxy.url}/demo/tiny", timeout=PATIENCE).ok
    before = resident(proxy.app.process.pid)
    # The download is not read until the upload is through: whatever the proxy does not hold back
    # at the service would pile up in its memory meanwhile.
    url = f"{proxy.url}/demo/download?blocks={BLOCKS}{query}"
    with requests.get(url, stream=True, timeout=PATIENCE) as download:
        told = requests.post(f"{proxy.url}/demo/upload", data=body, timeout=PATIENCE).json()
        assert (told["size"], told["sha256"]) == (BLOCKS * len(BLOCK), body.digest.hexdigest())
        assert ("Content-Length" in dict(told["headers"])) is bool(query)
        received = hashlib.sha256()
        for part in download.iter_content(MIB):
            received.update(part)
    assert received.digest() == body.digest.digest()
    assert ("Content-Length" in download.headers) is bool(query)
    assert resident(proxy.app.process.pid) - before < 64 * MIB
    assert proxy.drain("demo")["current_in_flight"] == 0


def test_an_upload_waits_for_a_service_that_does_not_read(proxy: Proxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy.register("deaf", f"http://127.0.0.1:{listener.getsockname()[1]}")
        before = resident(proxy.app.process.pid)
        with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client:
            client.sendall(b"POST /deaf/ HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999\r\n\r\n")
            client.settimeout(0.5)
            sent = 0
            with pytest.raises(TimeoutError):
                while sent < 900 * MIB:
                    sent += client.send(BLOCK)
    assert sent < 64 * MIB
    assert resident(proxy.app.process.pid) - before < 64 * MIB


def test_events_and_a_body_pass_each_other_without_delay(proxy: Proxy) -> None:
    head = b"POST /demo/events HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client:
        client.settimeout(PATIENCE)
        client.sendall(head)
        answer = client.makefile("rb")
        while answer.readline() != b"\r\n":
            pass
        for number in range(20):
            client.sendall(b"2\r\n%c\n\r\n" % (65 + number))
            # Only when this event is here is the next one asked for.
            assert [answer.readline() for _line in range(4)] == [
                b"9\r\n",
                b"data: %c\n" % (65 + number),
                b"\n",
                b"\r\n",
            ]
        client.sendall(b"0\r\n\r\n")
        assert answer.readline() == b"0\r\n"


async def connect(session: aiohttp.ClientSession, proxy: Proxy) -> aiohttp.ClientWebSocketResponse:
    return await session.ws_connect(
        f"{proxy.url}/demo/ws", protocols=("chat.v1", "chat.v3"), autoping=False, max_msg_size=0
    )


def test_a_websocket_passes_both_ways_with_all_that_belongs_to_it(proxy: Proxy) -> None:
    async def talk() -> None:
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            ws = await connect(session, proxy)
            assert ws.protocol == "chat.v1"
            await ws.send_str("gr\u00fc\u00df dich")
            assert await ws.receive_str() == "gr\u00fc\u00df dich"
            large = BLOCK * 256
            await ws.send_bytes(large)
            assert await ws.receive_bytes() == large
            await ws.ping(b"from the client")
            pong = await ws.receive()
            assert (pong.type, pong.data) == (aiohttp.WSMsgType.PONG, b"from the client")
            await ws.send_str("ping")
            ping = await ws.receive()
            assert (ping.type, ping.data) == (aiohttp.WSMsgType.PING, b"from the service")
            await ws.pong(ping.data)
            await ws.send_str("close")
            end = await ws.receive()
            assert (end.type, end.data, end.extra) == (aiohttp.WSMsgType.CLOSE, 4321, "as asked")

    asyncio.run(talk())
    assert proxy.drain("demo")["current_in_flight"] == 0


def test_a_websocket_stays_with_its_version_and_is_counted(
    proxy: Proxy, backends: list[AppProcess]
) -> None:
    async def talk() -> None:
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            ws = await connect(session, proxy)
            await asyncio.to_thread(proxy.register, "demo", backends[1].url)
            assert (await asyncio.to_thread(proxy.drain, "demo"))["in_flight"] == 1
            await ws.send_str("still here")
            assert await ws.receive_str() == "still here"
            assert await ws.close(code=1000)
            drained = await asyncio.to_thread(proxy.drain, "demo", PATIENCE)
            assert drained["in_flight"] == 0

    asyncio.run(talk())


def test_a_websocket_cut_by_its_service_is_cut_for_its_client(proxy: Proxy, tmp_path: Path) -> None:
    doomed = start_backend(tmp_path, "doomed")
    proxy.register("demo", doomed.url)

    async def talk() -> None:
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            ws = await connect(session, proxy)
            doomed.kill()
            # 1006 says: the connection ended without a closing handshake.
            assert (await ws.receive()).type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
            assert ws.close_code == 1006

    asyncio.run(talk())
    proxy.register("demo", "http://127.0.0.1:1")
    assert proxy.drain("demo", wait=PATIENCE)["in_flight"] == 0


def test_a_websocket_survives_idle_times_and_slow_readers(
    backends: list[AppProcess], tmp_path: Path
) -> None:
    async def talk() -> None:
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            ws = await connect(session, proxy)
            sending = asyncio.create_task(send_all(ws))
            await asyncio.sleep(1)  # longer than the proxy's idle time-out, with nothing read
            for number in range(200):
                assert await ws.receive_bytes() == b"%d " % number + BLOCK
            await sending

    async def send_all(ws: aiohttp.ClientWebSocketResponse) -> None:
        for number in range(200):
            await ws.send_bytes(b"%d " % number + BLOCK)

    with start_proxy(tmp_path, idle_timeout=0.5) as proxy:
        proxy.register("demo", backends[0].url)
        asyncio.run(talk())


@pytest.mark.parametrize(("path", "status"), [("/demo/tiny", 200), ("/nobody/ws", 404)])
def test_a_refused_websocket_leaves_a_connection_that_works(
    proxy: Proxy, path: str, status: int
) -> None:
    upgrade = (
        b"GET " + path.encode() + b" HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    last = b"GET /demo/tiny HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client:
        client.settimeout(PATIENCE)
        client.sendall(upgrade)
        first = client.recv(65536)
        assert first.startswith(b"HTTP/1.1 %d " % status)
        client.sendall(last)
        assert client.makefile("rb").read().endswith(b"\r\n\r\nok")
