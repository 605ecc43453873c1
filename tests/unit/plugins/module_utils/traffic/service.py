# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small service with users on loopback, in a thread, that can stall, lock, break and forget."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

REASONS = {200: "OK", 201: "Created", 204: "No Content", 404: "Not Found", 423: "Locked"}


@dataclass
class Request:
    """What a client sent, and the number of the connection that it came over."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class Service:
    """The service; set its attributes to change how it behaves from the next request on.

    ``breaking``: how many POSTs are taken in and then answered by closing the connection.
    ``raw``: bytes to answer with instead, after which the connection is closed.
    """

    port: int = 0
    scheme: str = "http"
    version: str = "v1"
    locked: bool = False
    breaking: int = 0
    status: int | None = None
    raw: bytes | None = None
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    on_request: Callable[[Request], None] | None = None
    flowing: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def counts(self) -> Counter[str]:
        return Counter(f"{request.method} {request.path}" for request in list(self.requests))

    def wait_for_requests(self, count: int, seconds: float = 30) -> None:
        """Wait until *count* requests have come in altogether."""
        with self.arrived:
            came = self.arrived.wait_for(lambda: len(self.requests) >= count, seconds)
        assert came, f"only {len(self.requests)} of {count} requests came in {seconds} s"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while (request := await read_request(reader, number)) is not None:
                with self.arrived:
                    self.requests.append(request)
                    self.arrived.notify_all()
                if self.on_request is not None:
                    self.on_request(request)
                while not self.flowing.is_set():
                    await asyncio.sleep(0.01)
                if self.raw is not None:
                    writer.write(self.raw)
                    await writer.drain()
                    return
                if request.method == "POST" and self.breaking:
                    self.breaking -= 1
                    return
                writer.write(self.answer(request))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    def answer(self, request: Request) -> bytes:
        status, document = self.respond(request)
        body = json.dumps(document).encode()
        head = f"HTTP/1.1 {status} {REASONS.get(status, 'Other')}\r\n"
        head += f"X-Portal-Version: {self.version}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def respond(self, request: Request) -> tuple[int, dict[str, Any]]:
        if self.status is not None:
            return self.status, {}
        if request.method == "POST" and request.path == "/users":
            if self.locked:
                return 423, {"message": "locked"}
            identity = f"u{len(self.users) + 1}"
            self.users[identity] = {"id": identity, **json.loads(request.body)}
            return 201, self.users[identity]
        if request.path.startswith("/users/"):
            found = self.users.get(request.path.removeprefix("/users/"))
            return (404, {"message": "unknown"}) if found is None else (200, found)
        if request.path in ("/health", "/sink"):
            return 200, {"status": "ok"}
        return 404, {"message": "no such path"}


async def read_request(reader: asyncio.StreamReader, connection: int) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, path, _protocol = head[0].split(" ")
    pairs = (line.split(":", 1) for line in head[1:] if line)
    headers = {name.lower(): value.strip() for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body, connection)


@contextmanager
def running_service(tls: ssl.SSLContext | None = None) -> Iterator[Service]:
    """Run the service in a thread until the block is left."""
    service = Service(scheme="https" if tls else "http")
    service.flowing.set()
    loop = asyncio.new_event_loop()
    started = threading.Event()

    async def serve_all() -> None:
        handlers: set[asyncio.Task[None]] = set()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            handlers.add(task)
            await service.serve(reader, writer)
            handlers.discard(task)

        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
        service.port = server.sockets[0].getsockname()[1]
        started.set()
        await over.wait()
        server.close()
        for task in list(handlers):
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    over = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve_all(),))
    thread.start()
    try:
        assert started.wait(30)
        yield service
    finally:
        service.flowing.set()
        loop.call_soon_threadsafe(over.set)
        thread.join(30)
        loop.close()
