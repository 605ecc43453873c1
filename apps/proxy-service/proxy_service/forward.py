# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries a request to the service that its name stands for, and the answer back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass

from aiohttp import (
    ClientError,
    ClientOSError,
    ServerDisconnectedError,
    ServerTimeoutError,
    hdrs,
    web,
)
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawResponseMessage, StreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from .compat import refuse_upgrade
from .headers import BrokenHead, Loop, RequestHead, response_head
from .registry import Registry, Service
from .target import Target
from .upstream import Pool, Unreachable, Upstream
from .websocket import tunnel

LOG = logging.getLogger("proxy")

# RFC 9110, 9.2.2.
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
# A body up to this size is read before the target is claimed: one write sends all of it, it can be
# sent again, and a client that dribbles holds no target.
_SMALL = 64 * 1024
# How often a request moves on to the newest target when switches overtake its connecting.
_MOVES = 10
# How many targets may keep a request waiting for a connection until the time is up.
_TIME_OUTS = 2


class Refused(Exception):
    """The request is answered by the proxy itself."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class CutShort(Exception):
    """The answer could not be passed on to its end, and its client has been told by a cut."""


class Relayed(web.StreamResponse):
    """Tells aiohttp that the answer has been written already, and what becomes of the connection.

    Has no state of its own, so two of them serve all requests.
    """

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


_KEEP = Relayed(keep_alive=True)
_CLOSE = Relayed(keep_alive=False)


def refusal(request: web.BaseRequest, status: int, message: str) -> web.Response:
    """An answer of the proxy's own: one sentence in JSON."""
    response = web.json_response({"error": message}, status=status)
    if not request.content.is_eof():
        # The rest of the body must not be taken for the next request.
        response.force_close()
    return response


@dataclass(slots=True)
class Call:
    """A request on its way: what is to be sent, and what has become of it."""

    request: web.BaseRequest
    head: RequestHead
    body: bytes | None  # None: streamed from the client
    length: int | None
    repeatable: bool  # it does no harm to send it twice

    def first_bytes(self, target: Target) -> bytes:
        if self.body is None:
            return self.head.for_target(target, length=self.length, chunked=self.length is None)
        return self.head.for_target(target, length=self.length, chunked=False) + self.body


class Forwarder:
    """Forwards requests; `closing` makes every answer the last one on its connection."""

    def __init__(self, registry: Registry, pool: Pool, *, idle_timeout: float) -> None:
        """`idle_timeout`, in seconds: the longest silence of either side before it is cut off."""
        self._registry = registry
        self._pool = pool
        self._idle_timeout = idle_timeout
        self.closing = False

    async def forward(self, request: web.BaseRequest, name: str, rest: str) -> web.StreamResponse:
        """Answer `request`, which is for `rest` (path and query, raw) of the service `name`."""
        service = self._registry.get(name)
        if service is None or not service.targets:
            return refusal(request, 404, f"No service is registered under the name {name[:128]!r}.")
        try:
            call = await self._read(request, name, rest)
            # Looked up again: reading a body takes time, in which a name can go and come back.
            return await self._carry(call, self._registry.get(name) or service)
        except Refused as exc:
            if exc.status >= 500:
                LOG.warning("%s for %s %s: %s", exc.status, name, request.method, exc)
            return refusal(request, exc.status, str(exc))

    async def _read(self, request: web.BaseRequest, name: str, rest: str) -> Call:
        headers = request.headers
        content = request.content
        coding = headers.get(hdrs.TRANSFER_ENCODING)
        if coding is not None and coding.strip().lower() != "chunked":
            raise Refused(501, "The proxy passes on no transfer coding but chunked.")
        expect = headers.get(hdrs.EXPECT)
        if expect is not None and expect.lower() != "100-continue":
            raise Refused(417, "The proxy knows no expectation but 100-continue.")
        if request.method == hdrs.METH_CONNECT:
            raise Refused(405, "The proxy opens no tunnels to other hosts.")
        try:
            head = RequestHead(request, name, rest)
        except Loop:
            raise Refused(508, f"The service {name!r} leads back to the proxy.") from None
        if hdrs.HOST not in headers and request.version >= (1, 1):
            # RFC 9112, 3.2; older versions of aiohttp leave this to their users.
            raise Refused(400, "The request has no Host header.")
        length = int(headers[hdrs.CONTENT_LENGTH]) if hdrs.CONTENT_LENGTH in headers else None
        body: bytes | None = None
        if content is EMPTY_PAYLOAD or length == 0:
            body = b""
        elif length is not None and length <= _SMALL:
            body = await self._small_body(request)
        repeatable = body is not None and request.method in _IDEMPOTENT
        return Call(request, head, body, length, repeatable)

    async def _small_body(self, request: web.BaseRequest) -> bytes:
        content = request.content
        try:
            if not content.is_eof() and content.exception() is None:
                _invite(request)
                async with asyncio.timeout(self._idle_timeout):
                    await content.wait_eof()
            return content.read_nowait()
        except TimeoutError:
            raise Refused(408, "The request's body did not arrive in time.") from None
        except web.RequestPayloadError:
            raise Refused(400, "The request's body is not well formed.") from None

    async def _carry(self, call: Call, service: Service) -> web.StreamResponse:
        target = _claim(service)
        again = False
        misses = _Misses()
        try:
            for move in range(1, _MOVES + 1):
                try:
                    upstream, pooled = await self._connected(call, target, fresh=again)
                except Unreachable as exc:
                    misses.add(target, exc)
                    if move == _MOVES or not misses.bearable(service):
                        status = 504 if exc.timed_out else 502
                        text = f"The service {service.name!r} does not answer: {exc}."
                        raise Refused(status, text) from None
                    again = True
                else:
                    if target.retired and service.targets and move < _MOVES:
                        # Switched meanwhile, and nothing has been sent: the new one gets it. One
                        # that is overtaken again and again stays where it was claimed, and counts
                        # there as in flight.
                        self._pool.give_back(target, upstream)
                    else:
                        stale = pooled and call.repeatable and not again
                        answer = await self._exchange(call, target, upstream, stale_is_none=stale)
                        if answer is not None:
                            return answer
                        again = True
                newest = _claim(service, avoid=misses.targets, otherwise=target)
                service.release(target)
                target = newest
            raise Refused(503, f"The service {service.name!r} is switched too fast to follow.")
        finally:
            service.release(target)

    async def _connected(self, call: Call, target: Target, *, fresh: bool) -> tuple[Upstream, bool]:
        if not fresh:
            upstream = self._pool.take(target, careful=not call.repeatable)
            if upstream is not None:
                return upstream, True
        return await self._pool.connect(target), False

    async def _exchange(
        self, call: Call, target: Target, upstream: Upstream, *, stale_is_none: bool
    ) -> web.StreamResponse | None:
        """Send the request and pass the answer on.

        Returns None, with nothing passed on, where the connection ended without an answer and
        `stale_is_none`.
        """
        pump: asyncio.Task[bool] | None = None
        done = False
        try:
            try:
                pump = self._send(call, target, upstream)
                message, payload = await upstream.answer()
            except (ClientError, HttpProcessingError, OSError) as exc:
                if stale_is_none and isinstance(exc, (ServerDisconnectedError, ClientOSError)):
                    return None
                raise _no_answer(exc) from None
            if message.code == 101:
                return await self._upgrade(call, upstream, message)
            keep = await self._relay(call, message, payload)
            done = pump is None or await _finished(call, pump)
            return _KEEP if keep and done else _CLOSE
        except BrokenHead as exc:
            raise Refused(502, f"The service's answer is not valid HTTP: {exc}.") from None
        except CutShort:
            return _CLOSE
        finally:
            if pump is not None and not pump.done():
                pump.cancel()
            if done:
                self._pool.give_back(target, upstream)
            elif pump is None:
                upstream.close()
            else:
                # What is left of a body would wait for a service that may never take it.
                upstream.abort()

    def _send(self, call: Call, target: Target, upstream: Upstream) -> asyncio.Task[bool] | None:
        """Write the request, or its head and start what writes the rest."""
        upstream.begin(
            head_only=call.request.method == hdrs.METH_HEAD, idle_timeout=self._idle_timeout
        )
        transport = upstream.transport
        if transport is None:
            raise ServerDisconnectedError
        transport.write(call.first_bytes(target))
        if call.body is not None:
            upstream.start_timeout()
            return None
        _invite(call.request)
        return asyncio.ensure_future(self._upload(call, upstream))

    async def _upload(self, call: Call, upstream: Upstream) -> bool:
        """Send the body as it comes; True when all of it was sent."""
        writer = StreamWriter(upstream, asyncio.get_running_loop())
        if call.length is None:
            writer.enable_chunking()
        content = call.request.content
        data = b""
        try:
            while True:
                async with asyncio.timeout(self._idle_timeout):
                    data = await content.readany()
                if not data:
                    break
                async with asyncio.timeout(self._idle_timeout):
                    await writer.write(data)
                data = b""
            await writer.write_eof()
        except TimeoutError:
            if data:
                upstream.fail(Refused(504, "The service stopped taking the request's body."))
            else:
                upstream.fail(Refused(408, "The request's body stopped arriving."))
            return False
        except web.RequestPayloadError:
            upstream.fail(Refused(400, "The request's body is not well formed."))
            return False
        except ConnectionError:
            # The service has hung up; what it said before that is being read elsewhere.
            return False
        upstream.start_timeout()
        return True

    async def _upgrade(
        self, call: Call, upstream: Upstream, message: RawResponseMessage
    ) -> web.StreamResponse:
        request = call.request
        if not call.head.upgrade or not upstream.upgraded or request.transport is None:
            raise Refused(502, "The service changed the protocol without having been asked to.")
        head = response_head(message, connection=b"Upgrade", length=None, chunked=False)
        request.transport.write(head)
        upstream.no_timeout()
        await tunnel(request, upstream)
        return _CLOSE

    async def _relay(self, call: Call, message: RawResponseMessage, payload: StreamReader) -> bool:
        """Pass an answer on; True when the client's connection can carry another request."""
        request = call.request
        refuse_upgrade(request)
        old_client = request.version < (1, 1)
        bodiless = request.method == hdrs.METH_HEAD or message.code in {204, 304}
        length: bytes | None = None
        if not message.chunked and message.code != 204:
            announced = message.headers.get(hdrs.CONTENT_LENGTH)
            length = announced.encode("ascii", "replace") if announced is not None else None
        endless = length is None and not bodiless
        keep = request.keep_alive and not self.closing and not (endless and old_client)
        connection = b"" if keep else b"close"
        if keep and old_client:
            connection = b"keep-alive"
        chunked = endless and not old_client
        head = response_head(message, connection=connection, length=length, chunked=chunked)
        writer = request.writer
        try:
            if payload.is_eof() and payload.exception() is None:
                data = b"" if bodiless else payload.read_nowait()
                if chunked:
                    data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
                await writer.write(head + data)
                return keep
            await writer.write(head)
            if chunked:
                writer.enable_chunking()
            while data := await payload.readany():
                async with asyncio.timeout(self._idle_timeout):
                    await writer.write(data)
            await writer.write_eof()
        except (ClientError, HttpProcessingError, OSError, Refused) as exc:
            if request.transport is not None:
                LOG.warning("answer cut short: %s: %s", type(exc).__name__, exc)
                # A client that takes nothing would not take an orderly end either.
                stuck = isinstance(exc, TimeoutError) and not isinstance(exc, ClientError)
                _cut(request.transport, unframed=endless and old_client, at_once=stuck)
            raise CutShort from None
        return keep


def _no_answer(exc: Exception) -> Refused:
    if isinstance(exc, ServerTimeoutError):
        return Refused(504, "The service did not answer in time.")
    if isinstance(exc, HttpProcessingError):
        return Refused(502, "The service's answer is not valid HTTP.")
    if isinstance(exc, ServerDisconnectedError):
        return Refused(502, "The service closed the connection without an answer.")
    return Refused(502, "The connection to the service broke before it answered.")


class _Misses:
    """The targets that did not take a request's connection."""

    def __init__(self) -> None:
        self.targets: list[Target] = []
        self._time_outs = 0

    def add(self, target: Target, exc: Unreachable) -> None:
        target.rest()
        self.targets.append(target)
        self._time_outs += exc.timed_out

    def bearable(self, service: Service) -> bool:
        """Whether another try makes sense: on another target, or once more on the only one.

        A time-out uses up the caller's patience, so there are two at most, and none is waited for
        a second time.
        """
        if any(target not in self.targets for target in service.targets):
            return self._time_outs < _TIME_OUTS
        return not self._time_outs and len(self.targets) == 1


def _claim(
    service: Service, *, avoid: Collection[Target] = (), otherwise: Target | None = None
) -> Target:
    target = service.claim(avoid)
    if target is None:
        if otherwise is None:
            raise Refused(404, f"The service {service.name!r} has just been removed.")
        # Removed meanwhile, in which case the request, which came before that, keeps what it had;
        # or no other target is left to try.
        otherwise.in_flight += 1
        return otherwise
    return target


def _invite(request: web.BaseRequest) -> None:
    """Tell a client that waits for it to go on and send its body."""
    if hdrs.EXPECT in request.headers and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def _finished(call: Call, pump: asyncio.Task[bool]) -> bool:
    """Whether the request's body was sent in full, now that its answer has been passed on."""
    if not pump.done() and call.request.content.is_eof():
        await asyncio.wait([pump], timeout=1)
    return pump.done() and pump.result()


def _cut(transport: asyncio.Transport, *, unframed: bool, at_once: bool) -> None:
    """Close the client's connection in the middle of an answer, so that it sees it is not whole."""
    if unframed:
        # Without a length an orderly close would say that this was all; a reset does not.
        raw = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if unframed or at_once:
        transport.abort()
    else:
        transport.close()
