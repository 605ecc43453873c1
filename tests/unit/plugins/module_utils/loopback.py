# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small real servers on loopback that answer as a test tells them to, and remember what came."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """An answer; ``None`` instead of one breaks the connection off.

    :param body: sent piece by piece where it is an iterable; needs a Content-Length or ends with
        the connection.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] = b""


Handle = Callable[[Seen], "Answer | None"]


def _pieces(body: bytes | Iterable[bytes]) -> Iterable[bytes]:
    return (body,) if isinstance(body, bytes) else body


class Server:
    """A server's address, and what it has seen."""

    def __init__(self, handle: Handle, context: ssl.SSLContext | None) -> None:
        self.seen: list[Seen] = []
        self.asked_names: list[str | None] = []
        self.connections = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                seen = Seen(self.command, self.path, dict(self.headers), body)
                outer.seen.append(seen)
                answer = handle(seen)
                if answer is None:
                    self.close_connection = True
                    return
                self._send(answer)

            def _send(self, answer: Answer) -> None:
                self.send_response(answer.status)
                whole = answer.body if isinstance(answer.body, bytes) else None
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if whole is not None and "Content-Length" not in answer.headers:
                    self.send_header("Content-Length", str(len(whole)))
                if whole is None or "Content-Length" in answer.headers:
                    self.send_header("Connection", "close")
                    self.close_connection = True
                self.end_headers()
                with contextlib.suppress(OSError):
                    for piece in _pieces(answer.body):
                        self.wfile.write(piece)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _any

            def log_message(self, *args: object) -> None:
                """Stay silent."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            # A test that ends early must not wait for a handler that is still sending.
            block_on_close = False

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that goes away, or does not like a certificate, is part of a test."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if context is not None:
            self.scheme = "https"
            context.sni_callback = lambda sock, name, ctx: self.asked_names.append(name)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.02])
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def serving(
    *answers: Answer | Handle | None, context: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """Serve the answers in turn, the last one for ever; a function is called with the request."""
    left = list(answers)

    def handle(seen: Seen) -> Answer | None:
        answer = left.pop(0) if len(left) > 1 else left[0]
        return answer(seen) if callable(answer) else answer

    server = Server(handle, context)
    try:
        yield server
    finally:
        server.stop()


Talk = Callable[[socket.socket, threading.Event], None]


@contextlib.contextmanager
def talking(talk: Talk, *, receive_buffer: int = 0) -> Iterator[str]:
    """Yield the address of a server that has *talk* speak on each connection.

    *talk* gets the connection and what is set at the end; it may end in an OSError.
    """
    over = threading.Event()
    with socket.socket() as listening:
        if receive_buffer:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def each(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                talk(connection, over)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while not over.is_set():
                    connection, _address = listening.accept()
                    threading.Thread(target=each, args=[connection], daemon=True).start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            over.set()
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join()


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """Yield an address at which nothing listens, and nothing else can begin to meanwhile."""
    with socket.socket() as held:
        # Bound but not listening: the kernel refuses connections.
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
