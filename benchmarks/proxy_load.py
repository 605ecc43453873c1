# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The other sides of the proxy's benchmark, each a process: a service, clients, a textbook proxy.

Service and clients do as little as HTTP allows, so that what is measured is the proxy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from typing import cast
from urllib.parse import urlsplit

SMALL_ANSWER = (
    b"HTTP/1.1 200 OK\r\nX-Version: %s\r\nContent-Type: application/json\r\n"
    b"Content-Length: 14\r\n\r\n"
)
BLOCK = bytes(64 * 1024)


class Service(asyncio.Protocol):
    """Answers each request with 14 bytes; `/big/N` with N blocks of 64 KiB."""

    def __init__(self, version: str) -> None:
        self._answer = SMALL_ANSWER % version.encode() + b'{"rec": 12345}'
        self._data = b""
        self._transport: asyncio.Transport | None = None
        self._blocks = 0
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        assert self._transport is not None
        while (end := self._data.find(b"\r\n\r\n")) != -1:
            head = self._data[:end].lower()
            at = head.find(b"\r\ncontent-length:")
            size = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at != -1 else 0
            if len(self._data) < end + 4 + size:
                return
            self._data = self._data[end + 4 + size :]
            path = head.split(b" ", 2)[1]
            if path.startswith(b"/big/"):
                self._blocks = int(path[5:])
                length = self._blocks * len(BLOCK)
                self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
                self._send_blocks()
            else:
                self._transport.write(self._answer)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._send_blocks()

    def _send_blocks(self) -> None:
        assert self._transport is not None
        while self._blocks and not self._paused:
            self._blocks -= 1
            self._transport.write(BLOCK)


class Client(asyncio.Protocol):
    """One kept-alive connection; answers need a Content-Length."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._done: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end == -1 or self._done is None:
            return
        head = self._data[:end]
        at = head.find(b"Content-Length:")
        size = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._data) >= end + 4 + size:
            self._data = b""
            self._done.set_result(head)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionResetError("the connection was closed"))

    def send(self, request: bytes) -> asyncio.Future[bytes]:
        """Send one request; the future gives the head of its answer."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._done


def _requests(prefix: str) -> list[bytes]:
    head = (
        "HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench\r\nAccept: */*\r\n"
        "Cookie: session=0123456789abcdef\r\n"
    )
    get = f"GET {prefix}/123?page=2 {head}\r\n".encode()
    body = b'{"firstName": "A", "lastName": "B", "email": "a@b.example"}'
    post = f"POST {prefix}/users {head}Content-Type: application/json\r\n".encode()
    return [get, post + b"Content-Length: %d\r\n\r\n" % len(body) + body]


async def load(url: str, connections: int, seconds: float, rate: float) -> dict[str, object]:
    """Half GET, half POST. `rate` 0: each connection sends once it was answered (closed loop).

    Otherwise `rate` requests a second are due at fixed times whatever the answers do, and a
    latency counts from when its request was due (open loop).
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    loop = asyncio.get_running_loop()
    payloads = _requests(parts.path.rstrip("/"))
    latencies: list[float] = []
    failed = 0
    # Connections are open and all code has run once before anything counts.
    start = time.perf_counter() + 0.2
    end = start + seconds

    async def worker(number: int) -> None:
        nonlocal failed
        _transport, client = await loop.create_connection(Client, host, port)
        while not rate and time.perf_counter() < start:
            await client.send(payloads[0])
        # Spread over the interval, or all connections would send in the same instant.
        due = start + (number / rate if rate else 0)
        while (now := time.perf_counter()) < end and due < end:
            if rate and due > now:
                await asyncio.sleep(due - now)
            began = due if rate else now
            try:
                head = await client.send(payloads[random.random() < 0.5])
                if not head.startswith(b"HTTP/1.1 200"):
                    failed += 1
            except ConnectionError:
                failed += 1
                _transport, client = await loop.create_connection(Client, host, port)
            latencies.append(time.perf_counter() - began)
            due += connections / rate if rate else 0

    await asyncio.gather(*(worker(number) for number in range(connections)))
    return {
        "requests": len(latencies),
        "failed": failed,
        "seconds": time.perf_counter() - start,
        "latencies": latencies,
    }


async def serve(version: str) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Service(version), "127.0.0.1", 0
    )
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


async def textbook(target: str) -> None:
    """The proxy that a tutorial would have: a session, a handler, a copy of the headers."""
    # Not at the top: service and clients start faster without it.
    from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

    hop = {"connection", "keep-alive", "transfer-encoding", "upgrade", "content-length"}

    async def handle(request: web.Request) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in hop}
        path = request.path_qs.removeprefix("/demo")
        body = await request.read() if request.can_read_body else None
        async with session.request(
            request.method, target + path, headers=headers, data=body, allow_redirects=False
        ) as upstream:
            kept = {k: v for k, v in upstream.headers.items() if k.lower() not in hop}
            return web.Response(status=upstream.status, headers=kept, body=await upstream.read())

    connector = TCPConnector(limit=0)
    async with ClientSession(
        connector=connector, auto_decompress=False, timeout=ClientTimeout(total=None)
    ) as session:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        print(f"http://{host}:{port}", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["serve", "load", "textbook"])
    parser.add_argument("argument", help="serve: version; load and textbook: URL")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rate", type=float, default=0)
    given = parser.parse_args()
    if given.part == "serve":
        asyncio.run(serve(given.argument))
    elif given.part == "textbook":
        asyncio.run(textbook(given.argument))
    else:
        seen = asyncio.run(load(given.argument, given.connections, given.seconds, given.rate))
        print(json.dumps(seen))


if __name__ == "__main__":
    main()
