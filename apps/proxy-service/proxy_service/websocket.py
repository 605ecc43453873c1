# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both directions of an upgraded connection, byte for byte.

A WebSocket is passed through below its own protocol: sub-protocols, extensions, pings, close codes
and messages of any size are then a matter between the client and the service only.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import StreamWriter
from aiohttp.web import BaseRequest

from .compat import writing_paused
from .upstream import Upstream


class _Pipe:
    """One direction; takes the place of the parser that aiohttp feeds with a connection's bytes."""

    def __init__(self, source: BaseProtocol, sink: BaseProtocol, ended: asyncio.Event) -> None:
        self._source = source
        self._sink = sink
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Task[None] | None = None

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        transport = self._sink.transport
        if transport is None or transport.is_closing():
            self._ended.set()
            return False, b""
        transport.write(data)
        if writing_paused(self._sink) and self._waiting is None:
            self._source.pause_reading()
            self._waiting = self._loop.create_task(self._resume())
        return False, b""

    def feed_eof(self) -> None:
        self._ended.set()

    def stop(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    async def _resume(self) -> None:
        try:
            await StreamWriter(self._sink, self._loop).drain()
        except ConnectionError:
            self._ended.set()
        self._waiting = None
        self._source.resume_reading()


async def tunnel(request: BaseRequest, upstream: Upstream) -> None:
    """Pass bytes both ways until either side closes; the caller closes the other one."""
    client = cast(BaseProtocol, request.protocol)
    ended = asyncio.Event()
    to_service = _Pipe(client, upstream, ended)
    to_client = _Pipe(upstream, client, ended)
    # The annotations name WebSocketReader; what is called are these two methods.
    upstream.set_parser(cast(Any, to_client), None)
    request.protocol.set_parser(cast(Any, to_service))
    if client.transport is None or upstream.transport is None:
        return
    try:
        await ended.wait()
    finally:
        to_service.stop()
        to_client.stop()
