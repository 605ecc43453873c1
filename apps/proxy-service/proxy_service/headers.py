# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads of requests and answers, as bytes: what the other side wrote is passed on as it was.

Working on aiohttp's raw headers keeps their spelling, their order and bytes that are not UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from aiohttp.http import RawResponseMessage
from aiohttp.web import BaseRequest

from .target import Target

RawHeaders = Iterable[tuple[bytes, bytes]]

# RFC 9110, 7.6.1, and the framing, which each side of the proxy settles for itself.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_FORWARDED = frozenset(
    {b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-prefix", b"x-forwarded-proto"}
)
# A service registered under the proxy's own address would otherwise use up every connection.
_MAX_HOPS = 32
# A sender that names these in Connection would take them from the service.
_NEVER_HOP_BY_HOP = frozenset({b"host", b"authorization", b"cookie", b"content-type"})
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_LINE = re.compile(rb"[^\r\n]*")
_NOT_ASCII = re.compile(rb"[^\x21-\x7e]")


class BrokenHead(ValueError):
    """A head that must not be passed on: a line break inside a value would forge further lines."""


def split_target(raw_path: str) -> tuple[str, str]:
    """`/NAME/rest?query` -> (NAME, `/rest?query`); the name is empty where there is none."""
    if not raw_path.startswith("/"):
        absolute = _ABSOLUTE.match(raw_path)
        if absolute is None:
            return "", raw_path
        raw_path = raw_path[absolute.end() :] or "/"
    end = len(raw_path)
    for mark in "/?#":
        at = raw_path.find(mark, 1)
        if at != -1:
            end = min(end, at)
    return raw_path[1:end], raw_path[end:]


def _named_in_connection(raw: RawHeaders) -> frozenset[bytes]:
    names: set[bytes] = set()
    for name, value in raw:
        if name.lower() == b"connection":
            names.update(token.strip() for token in value.lower().split(b","))
    return frozenset(names - _NEVER_HOP_BY_HOP)


class Loop(ValueError):
    """The request has passed so many proxies that it must be going in circles."""


class RequestHead:
    """The head of a client's request, ready to be sent to whichever target it will be."""

    __slots__ = ("_has_host", "_lines", "_method", "_rest", "upgrade")

    def __init__(self, request: BaseRequest, name: str, rest: str) -> None:
        """`rest` is what follows the service's `name` in the request's path. Raises Loop."""
        raw = request.raw_headers
        named = _named_in_connection(raw)
        self._method = request.method.encode("ascii")
        path = rest.encode("utf-8", "surrogateescape")
        if not path.isascii():
            path = _NOT_ASCII.sub(lambda m: b"%%%02X" % m.group()[0], path)
        self._rest = path if path.startswith(b"/") else b"/" + path
        self.upgrade = b""
        lines: list[bytes] = []
        given: dict[bytes, bytes] = {}
        host = b""
        for key, value in raw:
            lower = key.lower()
            if lower in _HOP_BY_HOP or lower in named:
                if lower == b"upgrade" and b"upgrade" in named and value.lower() == b"websocket":
                    self.upgrade = value
            elif lower in _FORWARDED:
                # A list spread over several lines is one list.
                given[lower] = given[lower] + b", " + value if lower in given else value
            else:
                if lower == b"host":
                    host = value
                lines += (key, b": ", value, b"\r\n")
        self._has_host = bool(host)
        client = (request.remote or "unknown").encode("ascii", "replace")
        forwarded_for = given.get(b"x-forwarded-for")
        if forwarded_for and forwarded_for.count(b",") >= _MAX_HOPS:
            raise Loop
        prefix = given.get(b"x-forwarded-prefix", b"") + b"/" + name.encode("ascii")
        scheme = given.get(b"x-forwarded-proto") or request.scheme.encode("ascii")
        host = given.get(b"x-forwarded-host") or host
        lines += (
            b"X-Forwarded-For: ",
            forwarded_for + b", " + client if forwarded_for else client,
            b"\r\nX-Forwarded-Proto: ",
            scheme,
            b"\r\nX-Forwarded-Prefix: ",
            prefix,
            b"\r\n",
        )
        if host:
            lines += (b"X-Forwarded-Host: ", host, b"\r\n")
        if self.upgrade:
            lines += (b"Connection: Upgrade\r\nUpgrade: ", self.upgrade, b"\r\n")
        self._lines = b"".join(lines)

    def for_target(self, target: Target, *, length: int | None, chunked: bool) -> bytes:
        """The bytes to send; `length` of the body where it is known and was announced."""
        parts = [self._method, b" ", target.base_path, self._rest, b" HTTP/1.1\r\n"]
        if not self._has_host:
            parts += (b"Host: ", target.authority, b"\r\n")
        parts.append(self._lines)
        if chunked:
            parts.append(b"Transfer-Encoding: chunked\r\n")
        elif length is not None:
            parts.append(b"Content-Length: %d\r\n" % length)
        parts.append(b"\r\n")
        return b"".join(parts)


def response_head(
    message: RawResponseMessage, *, connection: bytes, length: bytes | None, chunked: bool
) -> bytes:
    """The head of a service's answer for the client; raises BrokenHead.

    `connection` is the value of that header, or empty; `length` of Content-Length, or None.
    """
    raw = message.raw_headers
    named = _named_in_connection(raw)
    reason = message.reason.encode("utf-8", "surrogateescape")
    parts = [b"HTTP/1.1 %d " % message.code, reason, b"\r\n"]
    for key, value in raw:
        lower = key.lower()
        if lower not in _HOP_BY_HOP and lower not in named:
            parts += (key, b": ", value, b"\r\n")
    if message.code == 101:
        upgrade = message.headers.get("Upgrade", "").encode("utf-8", "surrogateescape")
        parts += (b"Upgrade: ", upgrade, b"\r\n")
    if chunked:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    elif length is not None:
        parts += (b"Content-Length: ", length, b"\r\n")
    if connection:
        parts += (b"Connection: ", connection, b"\r\n")
    parts.append(b"\r\n")
    # The parser is lenient with services; a stray line break is the one thing not to repeat.
    if any(b"\n" in value or b"\r" in value for _name, value in raw) or not _LINE.fullmatch(reason):
        raise BrokenHead("the service's answer has a line break inside a header")
    return b"".join(parts)
