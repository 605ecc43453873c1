# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP client that never repeats a request and opens a connection only when it is told to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit


@dataclass(slots=True)
class Answer:
    status: int
    version: str  # X-Version of the service behind the proxy, or empty
    body: bytes
    last: bool  # the other side wants to close the connection


class KeepAlive:
    """One kept-alive connection; any irregularity is an exception."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str) -> Self:
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Send one request and read its answer (with a Content-Length or chunked)."""
        head = f"{method} {path} HTTP/1.1\r\nHost: test\r\n"
        if body is not None:
            head += f"Content-Length: {len(body)}\r\n"
        self._writer.write(head.encode() + b"\r\n" + (body or b""))
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
        headers = {}
        for line in lines[1:-2]:
            name, _colon, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if "content-length" in headers:
            data = await self._reader.readexactly(int(headers["content-length"]))
        else:
            data = await self._chunks()
        return Answer(
            status=int(lines[0].split(" ", 2)[1]),
            version=headers.get("x-version", ""),
            body=data,
            last=headers.get("connection") == "close",
        )

    async def _chunks(self) -> bytes:
        parts = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            parts.append((await self._reader.readexactly(size + 2))[:-2])
        await self._reader.readexactly(2)
        return b"".join(parts)

    def close(self) -> None:
        self._writer.close()
