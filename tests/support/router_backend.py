# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A version of a service behind a router: starts quickly, and ends gracefully on SIGTERM.

Every answer has `X-Version`. `/slow/SECONDS` takes its time, a body is counted, and after an
upgrade each byte is echoed. On SIGTERM it takes no new connection, closes idle ones at once, and
finishes what is under way, which is what a well-behaved service does and what a router that ends
it too early loses requests by.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import os
import signal
from contextlib import suppress
from pathlib import Path

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Service:
    def __init__(self, version: str) -> None:
        self.version = version
        self.healthy = True
        self.ending = False
        self.idle: set[asyncio.StreamWriter] = set()
        self.open: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while not self.ending and await self.one(reader, writer):
                    pass
        finally:
            self.idle.discard(writer)
            self.open.discard(task)
            writer.close()

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False where the connection is to be closed."""
        self.idle.add(writer)
        line = await reader.readline()
        self.idle.discard(writer)
        if not line:
            return False
        path = line.split(b" ")[1].decode()
        length, upgrade, key = 0, False, b""
        while (line := (await reader.readline()).strip()) != b"":
            header = line.lower()
            if header.startswith(b"content-length:"):
                length = int(header.split(b":")[1])
            elif header.startswith(b"sec-websocket-key:"):
                key = line.split(b":")[1].strip()
            upgrade = upgrade or header == b"upgrade: websocket"
        size = 0
        while size < length:
            data = await reader.read(min(65536, length - size))
            if not data:
                return False
            size += len(data)
        if upgrade:
            await self.echo(reader, writer, key)
            return False
        status = await self.status(path, writer)
        body = json.dumps({"version": self.version, "size": size}).encode()
        close = "Connection: close\r\n" if self.ending else ""
        writer.write(
            f"HTTP/1.1 {status}\r\nX-Version: {self.version}\r\n{close}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        await self.answered(path, writer)
        return not close

    async def status(self, path: str, writer: asyncio.StreamWriter) -> str:
        """Do what the path asks for, and return the status."""
        if path.startswith("/slow/"):
            await asyncio.sleep(float(path.removeprefix("/slow/")))
        elif path == "/sick":
            self.healthy = False
        elif path == "/health" and not self.healthy:
            return "503 Service Unavailable"
        return "200 OK"

    async def answered(self, path: str, writer: asyncio.StreamWriter) -> None:
        """Called after each answer."""

    async def echo(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes
    ) -> None:
        # HAProxy checks that the key is answered as RFC 6455, 4.2.2 demands.
        accept = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\nX-Version: %b\r\n\r\n" % (accept, self.version.encode())
        )
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def end(self) -> None:
        self.ending = True
        for writer in self.idle:
            writer.close()
        if self.open:
            await asyncio.wait(self.open, timeout=60)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", required=True)
    parser.add_argument("--ready-file", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    arguments = parser.parse_args()
    service = Service(arguments.version)
    server = await asyncio.start_server(service.serve, arguments.host, 0, backlog=512)
    port = server.sockets[0].getsockname()[1]
    part = arguments.ready_file.with_suffix(".part")
    part.write_text(json.dumps({"url": f"http://{arguments.host}:{port}", "pid": os.getpid()}))
    part.replace(arguments.ready_file)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()
    await service.end()


if __name__ == "__main__":
    asyncio.run(main())
