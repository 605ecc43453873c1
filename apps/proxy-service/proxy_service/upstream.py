# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to the services, pooled for each target.

aiohttp's own session is not used for sending: it repeats a request silently on the address it was
given first, which after a switch is the wrong one, and it cannot say whether a byte had been sent.
Its protocol class, which does the parsing and the flow control, is.
"""

from __future__ import annotations

import asyncio
import select
import ssl

from aiohttp import ClientError, ClientPayloadError
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

from .compat import ClientProtocol
from .target import Target

# Cookies and tokens make long lines; 8 KiB, aiohttp's default, has been seen to be too little.
MAX_LINE = 64 * 1024
_READ_BUFFER = 128 * 1024


class Unreachable(Exception):
    """No connection came about, so nothing of the request was sent."""

    def __init__(self, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out


class Upstream(ClientProtocol):
    """One connection to a service."""

    idle_since = 0.0

    def connection_lost(self, exc: BaseException | None) -> None:
        """Keep a body that ends with the connection from passing for complete after a reset."""
        payload = self._payload
        if exc is not None and payload is not None and not payload.is_eof():
            payload.set_exception(ClientPayloadError(f"Connection lost: {exc}"))
        super().connection_lost(exc)

    def fail(self, exc: BaseException) -> None:
        """Break off: whoever reads from here gets `exc`, the service sees a cut connection."""
        if self._payload is not None:
            self._payload.set_exception(exc)
        self.set_exception(exc)
        if self.transport is not None:
            self.transport.abort()

    def begin(self, *, head_only: bool, idle_timeout: float) -> None:
        """Get ready for the answer to one request (`idle_timeout` in seconds between bytes)."""
        self.prepare(
            head_only=head_only,
            idle_timeout=idle_timeout,
            bufsize=_READ_BUFFER,
            max_line=MAX_LINE,
        )

    async def answer(self) -> tuple[RawResponseMessage, StreamReader]:
        """The head and the body of the final answer; interim answers (1xx) are passed over."""
        while True:
            message, payload = await self.read()
            if message.code >= 200 or message.code == 101:
                return message, payload

    def went_silent(self) -> bool:
        """Whether the service has closed this idle connection and the loop has yet to notice."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return True
        descriptor = transport.get_extra_info("socket").fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))


class Pool:
    """Idle connections for each target, and new ones; never more waiting than connecting."""

    def __init__(self, *, connect_timeout: float, keepalive: float) -> None:
        """Both in seconds; `keepalive` must be below what the services grant."""
        self._connect_timeout = connect_timeout
        self._keepalive = keepalive
        self._idle: dict[Target, list[Upstream]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._tls: ssl.SSLContext | None = None

    def take(self, target: Target, *, careful: bool) -> Upstream | None:
        """An idle connection, if there is one; `careful` asks the kernel whether it still stands.

        The question costs a system call and matters for requests that cannot be repeated.
        """
        idle = self._idle.get(target)
        while idle:
            connection = idle.pop()
            if (
                connection.is_connected()
                and self._loop.time() - connection.idle_since < self._keepalive
                and not connection.should_close
                and not (careful and connection.went_silent())
            ):
                return connection
            connection.close()
        return None

    async def connect(self, target: Target) -> Upstream:
        """A new connection; raises Unreachable."""
        context = self._tls_context() if target.tls else None
        try:
            async with asyncio.timeout(self._connect_timeout):
                _transport, connection = await self._loop.create_connection(
                    lambda: Upstream(self._loop),
                    target.host,
                    target.port,
                    ssl=context,
                    server_hostname=target.host if context else None,
                    happy_eyeballs_delay=0.25,
                )
        except TimeoutError:
            raise Unreachable(
                f"no connection within {self._connect_timeout:g} s", timed_out=True
            ) from None
        except (OSError, ClientError, UnicodeError) as exc:
            raise Unreachable(getattr(exc, "strerror", None) or str(exc)) from None
        return connection

    def give_back(self, target: Target, connection: Upstream) -> None:
        """Keep the connection for the next request, unless it or its target is done for."""
        if connection.should_close or not connection.is_connected() or target.retired:
            connection.close()
            return
        connection.idle_since = self._loop.time()
        self._idle.setdefault(target, []).append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._keepalive, self._sweep)

    def retire(self, target: Target) -> None:
        """Close the target's idle connections, so that it can end as soon as it has drained."""
        for connection in self._idle.pop(target, []):
            connection.close()

    def close(self) -> None:
        """Close every idle connection."""
        for target in list(self._idle):
            self.retire(target)
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _sweep(self) -> None:
        oldest = self._loop.time() - self._keepalive
        for target, idle in list(self._idle.items()):
            kept = [c for c in idle if c.idle_since > oldest and c.is_connected()]
            for connection in idle:
                if connection not in kept:
                    connection.close()
            if kept:
                self._idle[target] = kept
            else:
                del self._idle[target]
        self._sweeper = self._loop.call_later(self._keepalive, self._sweep) if self._idle else None

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls
