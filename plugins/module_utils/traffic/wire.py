# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP/1.1 as bytes: requests to send, and a parser of the answers (RFC 9112). No I/O.

The probe has its own client because the well-known ones repeat an idempotent request by themselves
when a kept-alive connection breaks, which is the very thing the probe is there to count; and
because it then needs nothing but Python on the machine that it runs on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

HEAD_LIMIT = 64 * 1024
BODY_LIMIT = 8 * 1024 * 1024
NO_BODY = frozenset({204, 304})


class Malformed(Exception):
    """What came is not an HTTP/1.1 answer, or is larger than an answer may be."""


@dataclass(frozen=True)
class Answer:
    """A complete answer. ``headers`` has lower-case names; with ``keep`` its connection is fit to
    carry another request.
    """

    status: int
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    keep: bool


def request_bytes(
    method: str, target: str, host: str, body: bytes | None = None, media: str = "application/json"
) -> bytes:
    """Return a request as it goes over the wire; *target* and *host* must have been checked."""
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n"
    head += "User-Agent: immutable-delivery-probe\r\n"
    if body is None:
        return (head + "\r\n").encode("ascii")
    head += f"Content-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode("ascii") + body


def _number(text: str, base: int, what: str) -> int:
    digits = "0123456789abcdefABCDEF"[: 10 if base == 10 else None]
    if not text or len(text) > 16 or any(char not in digits for char in text):
        raise Malformed(f"{what} is not a number")
    return int(text, base)


def _parse_head(head: bytes) -> tuple[str, int, dict[str, str]]:
    lines = head.decode("latin-1").split("\r\n")
    protocol, _space, rest = lines[0].partition(" ")
    if protocol not in ("HTTP/1.1", "HTTP/1.0"):
        raise Malformed("the answer does not begin with HTTP/1.1")
    status = _number(rest[:3], 10, "the status")
    if not 100 <= status <= 599 or rest[3:4] not in ("", " "):
        raise Malformed("the status is not one")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Malformed("a header line has no name")
        name, value = name.lower(), value.strip(" \t")
        if name == "content-length" and headers.get(name, value) != value:
            raise Malformed("two Content-Length headers differ")
        if name in headers and name != "content-length":
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return protocol, status, headers


class AnswerParser:
    """Parse one answer, fed in pieces of any size.

    :meth:`feed` returns the answer once it is complete, else None. Interim answers (1xx) are
    skipped. Bytes that follow the answer make its connection unfit for reuse.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._body = bytearray()
        self._head: tuple[int, dict[str, str], bool] | None = None
        self._missing = 0
        # What the buffer's next bytes are: the head, a body of known length, one up to the end
        # of the connection, or a part of a chunked one.
        self._next = "head"

    def feed(self, data: bytes) -> Answer | None:
        """Take *data*. :raises Malformed: it is not an HTTP/1.1 answer."""
        self._buffer += data
        while True:
            before = self._next
            if before == "head":
                progress = self._feed_head()
            elif before == "length":
                progress = self._feed_body()
            elif before == "eof":
                progress = self._feed_rest()
            elif before == "done":
                return self._answer()
            else:
                progress = self._feed_chunked()
            if not progress:
                return None

    def eof(self) -> Answer | None:
        """The connection ended: return the answer where that completes it, else None."""
        return self._answer() if self._next == "eof" else None

    def _answer(self) -> Answer:
        if self._head is None:
            raise Malformed("an answer without a head")
        status, headers, keep = self._head
        return Answer(status, headers, bytes(self._body), keep and not self._buffer)

    def _feed_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_LIMIT or not b"HTTP/1.".startswith(self._buffer[:7]):
                raise Malformed("the answer has no usable head")
            return False
        if end > HEAD_LIMIT:
            raise Malformed("the head is too large")
        protocol, status, headers = _parse_head(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        if status == 101:
            raise Malformed("the server switched to another protocol")
        if status < 200:
            return True
        options = {option.strip().lower() for option in headers.get("connection", "").split(",")}
        keep = "close" not in options and (protocol == "HTTP/1.1" or "keep-alive" in options)
        coding = headers.get("transfer-encoding")
        if status in NO_BODY:
            self._next = "done"
        elif coding is not None:
            if coding.lower() != "chunked":
                raise Malformed("the transfer coding is not chunked")
            # Both lengths at once is how answers are smuggled: RFC 9112, 6.1 has us close.
            keep = keep and "content-length" not in headers
            self._next = "size"
        elif "content-length" in headers:
            self._missing = _number(headers["content-length"], 10, "Content-Length")
            if self._missing > BODY_LIMIT:
                raise Malformed("the body is too large")
            self._next = "length"
        else:
            keep = False
            self._next = "eof"
        self._head = (status, headers, keep)
        return True

    def _take(self, count: int) -> int:
        part = self._buffer[:count]
        self._body += part
        del self._buffer[: len(part)]
        if len(self._body) > BODY_LIMIT:
            raise Malformed("the body is too large")
        return len(part)

    def _feed_body(self) -> bool:
        self._missing -= self._take(self._missing)
        if self._missing:
            return False
        self._next = "done"
        return True

    def _feed_rest(self) -> bool:
        self._take(len(self._buffer))
        return False

    def _feed_chunked(self) -> bool:
        if self._next == "chunk":
            self._missing -= self._take(self._missing)
            if self._missing or len(self._buffer) < 2:
                return False
            if self._buffer[:2] != b"\r\n":
                raise Malformed("a chunk is longer than it says")
            del self._buffer[:2]
            self._next = "size"
            return True
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_LIMIT:
                raise Malformed("a chunk's head is too large")
            return False
        line = bytes(self._buffer[:end]).decode("latin-1")
        del self._buffer[: end + 2]
        if self._next == "size":
            self._missing = _number(line.partition(";")[0].strip(), 16, "a chunk's size")
            if self._missing > BODY_LIMIT:
                raise Malformed("the body is too large")
            self._next = "chunk" if self._missing else "trailer"
        elif not line:
            self._next = "done"
        return True
