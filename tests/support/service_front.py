# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A way to the engine over TCP that can be cut, held up, or made to lie at a given request."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

ENGINE = "/var/run/docker.sock"
PATIENCE = 120.0


@dataclass
class EngineFront:
    """Passes requests on to the engine; *moment* is a pattern for what follows ``METHOD /vN``.

    ``hold`` stops at the first request that matches until :attr:`opened`; ``cut`` ends everything
    there; ``answer`` gives that status and JSON instead; ``tell`` calls :attr:`told` once the
    engine has the request, while it works on it.
    """

    moment: str = "$^"
    then: str = "hold"
    status: int = 500
    document: dict[str, object] = field(default_factory=dict)
    # Speaks TLS where it is given.
    tls: ssl.SSLContext | None = None
    # Whether the engine gets the request before that.
    forwarded: bool = False
    # Which of the requests that match.
    number: int = 1
    told: Callable[[], object] = lambda: None
    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    requests: list[str] = field(default_factory=list)
    refused: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._left = self.number
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        if self.tls is not None:
            try:
                connection = self.tls.wrap_socket(connection, server_side=True)
            except OSError:
                self.refused += 1
                return
        with connection, suppress(OSError):
            head, body = _request(connection)
            if not head:
                return
            line = head.split(b"\r\n", 1)[0].decode()
            method, _space, path = line.rpartition(" ")[0].partition(" ")
            request = f"{method} {re.sub(r'^/v[0-9.]+', '', path)}"
            self.requests.append(request)
            matches = self._matches(request)
            if matches and self.then == "tell":
                self.reached.set()
                _engine(head, body, connection.sendall, self.told)
                return
            if matches and not self.forwarded and not self._interfere(connection):
                return
            answer = _engine(head, body, None if matches else connection.sendall)
            if matches and self.forwarded and not self._interfere(connection):
                return
            if answer:
                connection.sendall(answer)
        self._open.discard(connection)

    def _matches(self, request: str) -> bool:
        """Tell whether this is the request to interfere with."""
        with self._lock:
            if re.search(self.moment, request) is None:
                return False
            self._left -= 1
            return self._left == 0

    def _interfere(self, connection: socket.socket) -> bool:
        """Do what is to be done; return whether the request takes its course then."""
        self.reached.set()
        if self.then == "hold":
            self.opened.wait(PATIENCE)
            return True
        if self.then == "cut":
            self.close()
            return False
        body = json.dumps(self.document).encode()
        connection.sendall(
            f"HTTP/1.1 {self.status} X\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        return False

    def close(self) -> None:
        """Be away from now on."""
        self.opened.set()
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def _request(connection: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return b"", b""
        data += more
    head, _blank, body = data.partition(b"\r\n\r\n")
    found = re.search(rb"(?i)content-length: *(\d+)", head)
    while len(body) < (int(found[1]) if found else 0):
        body += connection.recv(65536)
    return head, body


def _engine(
    head: bytes,
    body: bytes,
    pass_on: Callable[[bytes], None] | None,
    told: Callable[[], object] = lambda: None,
) -> bytes:
    """Ask the engine; its answer is passed on as it comes, or returned."""
    kept = b""
    with socket.socket(socket.AF_UNIX) as engine:
        engine.settimeout(PATIENCE)
        engine.connect(ENGINE)
        head = re.sub(rb"(?i)\r\nconnection: [^\r]*", b"", head)
        engine.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
        told()
        while more := engine.recv(65536):
            if pass_on is None:
                kept += more
            else:
                pass_on(more)
    return kept


@contextmanager
def engine_front(moment: str = "$^", then: str = "hold", **more: object) -> Iterator[EngineFront]:
    """A front, which ends with the block."""
    front = EngineFront(moment, then, **more)  # type: ignore[arg-type]
    try:
        yield front
    finally:
        front.close()
