# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parser of answers: every framing, in pieces of any size, and what is not HTTP."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.traffic.wire import (
    BODY_LIMIT,
    HEAD_LIMIT,
    Answer,
    AnswerParser,
    Malformed,
    request_bytes,
)

OK = b"HTTP/1.1 200 OK\r\n"


def whole(data: bytes, ended: bool = False) -> Answer | None:
    parser = AnswerParser()
    answer = parser.feed(data)
    return parser.eof() if answer is None and ended else answer


@pytest.mark.parametrize(
    ("data", "status", "body", "keep"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", 200, b"hello", True),
        (OK + b"content-length:0\r\n\r\n", 200, b"", True),
        (OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
        (OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nok", 200, b"ok", False),
        (OK + b"Content-Length: 2\r\nConnection: x, Close\r\n\r\nok", 200, b"ok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
        (
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
            200,
            b"ok",
            True,
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b"", True),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx", 200, b"x", True),
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
            204,
            b"",
            True,
        ),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200, b"hello", True),
        (
            OK
            + b"Transfer-Encoding: Chunked\r\n\r\nA;x\r\n0123456789\r\n1\r\n!\r\n0\r\nT: 1\r\n\r\n",
            200,
            b"0123456789!",
            True,
        ),
        (
            OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            200,
            b"x",
            False,
        ),
        (OK + b"Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n", 200, b"ok", False),
    ],
)
def test_answers(data: bytes, status: int, body: bytes, keep: bool) -> None:
    answer = whole(data)
    assert answer is not None
    assert (answer.status, answer.body, answer.keep) == (status, body, keep)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 20\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 600 No\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b": no name\r\n\r\n",
        OK + b"Name : space\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 1e3\r\n\r\n",
        OK + b"Content-Length: 0x10\r\n\r\n",
        OK + b"Content-Length:\r\n\r\n",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        OK + b"Content-Length: %d\r\n\r\n" % (BODY_LIMIT + 1),
        OK + b"Transfer-Encoding: gzip\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nz\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
        OK + b"X: " + b"x" * HEAD_LIMIT,
        OK + b"X: " + b"x" * HEAD_LIMIT + b"\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * (HEAD_LIMIT + 1),
        OK + b"\r\n" + b"x" * (BODY_LIMIT + 1),
    ],
)
def test_what_is_not_an_answer(data: bytes) -> None:
    with pytest.raises(Malformed):
        whole(data)


def test_a_body_that_only_the_end_of_the_connection_ends() -> None:
    parser = AnswerParser()
    assert parser.feed(OK + b"\r\nall") is None
    assert parser.feed(b" of it") is None
    answer = parser.eof()
    assert answer is not None
    assert (answer.body, answer.keep) == (b"all of it", False)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200",
        OK,
        OK + b"Content-Length: 5\r\n\r\nhell",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_half_an_answer_is_none(data: bytes) -> None:
    assert whole(data, ended=True) is None


@st.composite
def cut(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """An answer, chunked or not, in pieces, and its body."""
    body = draw(st.binary(max_size=60))
    if draw(st.booleans()):
        sizes = draw(st.lists(st.integers(1, 20), max_size=10))
        data, rest = OK + b"Transfer-Encoding: chunked\r\n\r\n", body
        for size in [*sizes, len(body)]:
            chunk, rest = rest[:size], rest[size:]
            data += b"%x\r\n%s\r\n" % (len(chunk), chunk) if chunk else b""
        data += b"0\r\n\r\n"
    else:
        data = OK + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    points = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[a:b] for a, b in zip([0, *points], [*points, len(data)], strict=True)], body


@given(cut())
def test_pieces_of_any_size_make_the_same_answer(given_pieces: tuple[list[bytes], bytes]) -> None:
    pieces, body = given_pieces
    parser = AnswerParser()
    answers = [answer for piece in pieces if (answer := parser.feed(piece)) is not None]
    assert answers[0].body == body
    assert answers[0].keep


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_in_another_way(data: bytes) -> None:
    for start in (b"", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n"):
        try:
            answer = whole(start + data, ended=True)
        except Malformed:
            continue
        assert answer is None or 200 <= answer.status <= 599


def test_requests() -> None:
    assert request_bytes("GET", "/a/b?c=d", "h:1").startswith(
        b"GET /a/b?c=d HTTP/1.1\r\nHost: h:1\r\n"
    )
    post = request_bytes("POST", "/a", "h", b"{}")
    assert b"\r\nContent-Length: 2\r\n" in post
    assert post.endswith(b"\r\n\r\n{}")
