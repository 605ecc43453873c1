# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients do to a service while it is switched: open-loop load, uploads and WebSockets.

No request is repeated, so whatever a router loses is seen.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ansible_collections.immutable.delivery.plugins.module_utils.traffic.client import (
    Client,
    NoAnswer,
    address,
)
from ansible_collections.immutable.delivery.plugins.module_utils.traffic.wire import request_bytes

PATIENCE = 60.0
UPLOAD = os.urandom(256 * 1024)
SLOW_SHARE = 20  # every so many requests is a slow one: 5 %


@dataclass
class Seen:
    """What the clients saw, by kind."""

    answered: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    # When, by the monotonic clock, in the same order.
    failed_at: list[float] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        return self.answered.total() + len(self.failed)

    def lose(self, why: str) -> None:
        """Note a request that failed just now."""
        self.failed.append(why)
        self.failed_at.append(time.monotonic())


class RouterLoad:
    """Load on one service, in a thread of its own.

    :param rate: requests a second, half of them POST, every twentieth of *slow* seconds.
    :param uploads: how many bodies of 256 KiB are under way at any time.
    :param sockets: how many WebSockets are open at any time, each for *lives* seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        host: str | None = None,
        rate: float = 100.0,
        slow: float = 1.0,
        uploads: int = 1,
        sockets: int = 2,
        lives: float = 1.0,
        connections: int = 32,
    ) -> None:
        self.seen = Seen()
        self._url = url
        self._where = address(url, host, True, None)
        self._rate = rate
        self._slow = slow
        self._uploads = uploads
        self._sockets = sockets
        self._lives = lives
        self._client = Client(self._where, connections)
        self._stop = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> Seen:
        """End the load, wait for what is under way, and return what was seen."""
        self._stop.set()
        self._thread.join(PATIENCE * 2)
        if self._error is not None:
            raise self._error
        assert not self._thread.is_alive(), "the load did not end"
        return self.seen

    def _run(self) -> None:
        try:
            asyncio.run(self._offer())
        except BaseException as error:
            self._error = error

    async def _offer(self) -> None:
        loop = asyncio.get_running_loop()
        steady = [asyncio.create_task(self._upload()) for _number in range(self._uploads)]
        steady += [asyncio.create_task(self._socket()) for _number in range(self._sockets)]
        zero, number = loop.time(), 0
        while not self._stop.is_set():
            due = zero + number / self._rate
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            kind = "slow" if number % SLOW_SHARE == 0 else ("get", "post")[number % 2]
            path = f"/slow/{self._slow}" if kind == "slow" else f"/{number}"
            # A slow one is a POST as well, since only a POST tells what a client would not repeat.
            body = b'{"a": 1}' if kind != "get" else None
            task = asyncio.create_task(self._one(kind, path, body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            number += 1
        await asyncio.gather(*self._tasks, *steady)
        self._client.close()

    async def _one(self, kind: str, path: str, body: bytes | None) -> None:
        method = "POST" if body is not None else "GET"
        wire = request_bytes(method, self._where.prefix + path, self._where.host, body)
        try:
            deadline = asyncio.get_running_loop().time() + PATIENCE
            answer = await self._client.send(wire, deadline)
        except NoAnswer as error:
            self.seen.lose(f"{kind}: {error.kind} ({error})")
            return
        if answer.status != 200:
            self.seen.lose(f"{kind}: {answer.status}")
        elif body is not None and b'"size": %d}' % len(body) not in answer.body:
            self.seen.lose(f"{kind}: {answer.body!r}")
        else:
            self.seen.answered[kind] += 1
            self.seen.versions[answer.headers.get("x-version", "")] += 1

    async def _upload(self) -> None:
        while not self._stop.is_set():
            await self._one("upload", "/upload", UPLOAD)
            await asyncio.sleep(0.05)

    async def _socket(self) -> None:
        loop = asyncio.get_running_loop()
        parts = urlsplit(self._url)
        while not self._stop.is_set():
            try:
                async with asyncio.timeout(PATIENCE):
                    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
                    writer.write(
                        f"GET {self._where.prefix}/ws HTTP/1.1\r\nHost: {self._where.host}\r\n"
                        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
                    )
                    head = await reader.readuntil(b"\r\n\r\n")
                    assert head.startswith(b"HTTP/1.1 101"), head[:40]
                    end = loop.time() + self._lives
                    while loop.time() < end:
                        # One frame of text, masked, of eight bytes.
                        frame = b"\x81\x88" + os.urandom(12)
                        writer.write(frame)
                        assert await reader.readexactly(len(frame)) == frame, "not echoed"
                        await asyncio.sleep(0.1)
                    writer.close()
            except (OSError, AssertionError, asyncio.IncompleteReadError) as error:
                self.seen.lose(f"socket: {error!r}")
                await asyncio.sleep(0.05)
            else:
                self.seen.answered["socket"] += 1


@contextmanager
def router_load(load: RouterLoad) -> Iterator[RouterLoad]:
    """Run *load* while the block lasts."""
    load.start()
    try:
        yield load
    finally:
        load.stop()
