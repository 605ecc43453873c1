# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The listening side: one server, the API under /services, everything else forwarded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from .api import Api
from .compat import cancelling_server
from .forward import Forwarder
from .headers import split_target
from .registry import Registry
from .target import RESERVED
from .upstream import MAX_LINE, Pool


@dataclass(frozen=True)
class Settings:
    """Times in seconds."""

    host: str
    port: int
    registry: Path
    connect_timeout: float
    idle_timeout: float
    upstream_keepalive: float
    shutdown_timeout: float


class ProxyServer:
    """The proxy from its registry to its listening socket."""

    def __init__(self, settings: Settings) -> None:
        """Raises RegistryError. To be called inside the event loop."""
        self._settings = settings
        self._pool = Pool(
            connect_timeout=settings.connect_timeout, keepalive=settings.upstream_keepalive
        )
        registry = Registry(settings.registry, on_retire=self._pool.retire)
        self._api = Api(registry)
        self._forwarder = Forwarder(registry, self._pool, idle_timeout=settings.idle_timeout)
        self._active = 0
        self._all_done = asyncio.Event()
        self._server = cancelling_server(
            self._handle,
            access_log=None,
            auto_decompress=False,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            lingering_time=5.0,
        )
        self._listener: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen; returns the proxy's URL. Raises OSError."""
        # Not aiohttp's site: ending one would, in its older versions, cut off what is in flight.
        self._listener = await asyncio.get_running_loop().create_server(
            self._server, self._settings.host, self._settings.port, backlog=1024
        )
        host, port = self._listener.sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def stop(self) -> bool:
        """Accept nothing new and finish what is in flight; False when that took too long."""
        if self._listener is not None:
            self._listener.close()
        # Requests on kept-alive connections are still answered, each as its connection's last:
        # aiohttp's own shutdown would stop reading uploads that are under way.
        self._forwarder.closing = True
        finished = True
        try:
            async with asyncio.timeout(self._settings.shutdown_timeout):
                while self._active:
                    self._all_done.clear()
                    await self._all_done.wait()
        except TimeoutError:
            finished = False
        for connection in self._server.connections:
            connection.close()
        await self._server.shutdown(1.0)
        self._pool.close()
        return finished

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        name, rest = split_target(request.raw_path)
        self._active += 1
        try:
            if name == RESERVED:
                return await self._api.handle(request, rest)
            return await self._forwarder.forward(request, name, rest)
        finally:
            self._active -= 1
            if not self._active:
                self._all_done.set()
