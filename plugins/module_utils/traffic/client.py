# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small HTTP/1.1 client for the probe: pooled, kept-alive connections, and no repeats.

A request goes out once. What became of it is an :class:`~.wire.Answer` or a :class:`NoAnswer`, and
the latter says whether the server may have seen the request.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import DeliveryError
from .wire import Answer, AnswerParser, Malformed

# Many servers close a connection after five idle seconds. Giving it up before them keeps the
# probe's own timing out of the failures it counts.
IDLE_SECONDS = 4.0


class NoAnswer(Exception):
    """A request that got no answer.

    :param kind: ``connect``, ``tls``, ``reset``, ``timeout`` or ``malformed``.
    :param sent: whether the server may have seen the request.
    """

    def __init__(self, kind: str, sent: bool, reason: str = "") -> None:
        super().__init__(reason or kind)
        self.kind = kind
        self.sent = sent


@dataclass(frozen=True)
class Address:
    """Where to connect to, and under which name.

    :param host: value of the Host header.
    :param prefix: path that precedes every request's path.
    """

    name: str
    port: int
    host: str
    prefix: str
    tls: ssl.SSLContext | None
    tls_name: str | None


def address(
    url: str, host_header: str | None, validate_certs: bool, ca_path: str | None
) -> Address:
    """Return the address behind *url*, which must have been checked.

    :raises DeliveryError: *ca_path* cannot be used.
    """
    parts = urlsplit(url)
    name = parts.hostname or ""
    host = host_header or parts.netloc
    if parts.scheme != "https":
        return Address(name, parts.port or 80, host, parts.path, None, None)
    try:
        context = ssl.create_default_context()
        if ca_path and validate_certs:
            folder = Path(ca_path).is_dir()
            context = ssl.create_default_context(
                cafile=None if folder else ca_path, capath=ca_path if folder else None
            )
    except (OSError, ssl.SSLError) as error:
        raise DeliveryError(
            f"ca_path {ca_path} cannot be used: {error}",
            next_step="Give a PEM file of CA certificates, or a folder of them.",
        ) from error
    if not validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    tls_name = urlsplit(f"//{host}").hostname or name
    return Address(name, parts.port or 443, host, parts.path, context, tls_name)


class _Connection(asyncio.Protocol):
    """One connection, with at most one request under way."""

    def __init__(self, on_lost: Callable[[_Connection], None]) -> None:
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._parser: AnswerParser | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self.idle_since = 0.0
        self.open = False

    @property
    def busy(self) -> bool:
        """Whether a request is under way."""
        return self._waiting is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            self.open = True

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            # Nobody asked: a 408 before the server closes, say.
            self.close()
            return
        try:
            answer = self._parser.feed(data)
        except Malformed as error:
            self._fail(NoAnswer("malformed", True, str(error)))
            self.close()
            return
        if answer is not None:
            self._settle(answer)

    def eof_received(self) -> None:
        if self._parser is not None:
            answer = self._parser.eof()
            if answer is not None:
                self._settle(answer)
        self.open = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._fail(NoAnswer("reset", True, str(exc or "the server closed the connection")))
        self._on_lost(self)

    def _settle(self, answer: Answer) -> None:
        waiting, self._waiting, self._parser = self._waiting, None, None
        if not answer.keep:
            self.open = False
            if self._transport is not None:
                self._transport.close()
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _fail(self, error: NoAnswer) -> None:
        waiting, self._waiting, self._parser = self._waiting, None, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)

    def close(self) -> None:
        """Give the connection up; harmless where it has ended."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    async def exchange(self, request: bytes) -> Answer:
        """Send *request* and return its answer. :raises NoAnswer: there was none."""
        if self._transport is None:
            raise NoAnswer("connect", False)
        self._parser = AnswerParser()
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting


class Client:
    """Connections to one address.

    :param connections: so many are kept alive and used in turn, so that each switch meets several
        that stood before it. More are opened when all are busy: a request never waits for one.
    """

    def __init__(self, where: Address, connections: int = 8) -> None:
        self.where = where
        self._wanted = connections
        self._idle: deque[_Connection] = deque()
        self._all: set[_Connection] = set()

    async def send(self, request: bytes, deadline: float) -> Answer:
        """Send *request* once; *deadline* is on the event loop's clock.

        :raises NoAnswer: there was no answer, or none in time.
        """
        sent = False
        connection: _Connection | None = None
        try:
            async with asyncio.timeout_at(deadline):
                connection = self._reusable() or await self._open()
                sent = True
                answer = await connection.exchange(request)
        except TimeoutError:
            raise NoAnswer("timeout", sent) from None
        finally:
            if connection is not None:
                self._give_back(connection)
        return answer

    def close(self) -> None:
        """Close every connection."""
        for connection in list(self._all):
            connection.close()
        self._idle.clear()

    def _reusable(self) -> _Connection | None:
        if len(self._all) < self._wanted:
            return None
        oldest = asyncio.get_running_loop().time() - IDLE_SECONDS
        while self._idle:
            connection = self._idle.popleft()
            if connection.open and connection.idle_since >= oldest:
                return connection
            connection.close()
        return None

    def _give_back(self, connection: _Connection) -> None:
        # A request still under way here was given up (timeout): its answer would be the next one's.
        if connection.busy:
            connection.close()
        if connection.open:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)

    async def _open(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            _transport, connection = await loop.create_connection(
                lambda: _Connection(self._all.discard),
                self.where.name,
                self.where.port,
                ssl=self.where.tls,
                server_hostname=self.where.tls_name,
            )
        except ssl.SSLError as error:
            raise NoAnswer("tls", False, error.reason or str(error)) from error
        except OSError as error:
            raise NoAnswer("connect", False, str(error)) from error
        if connection.open:
            self._all.add(connection)
        return connection
