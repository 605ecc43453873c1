# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the part of an AWS load balancer that moto leaves out: it forwards requests.

Each request is routed anew by the rules that moto's server holds at that moment, to a target that
is registered there. It is no load balancer: one connection a request, bodies are read as a whole.
"""

from __future__ import annotations

import http.client
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from moto.backends import get_backend

from ansible_collections.immutable.delivery.plugins.module_utils.alb.rules import Request, route
from tests.support.moto_server import ACCOUNT, REGION, Moto

PATIENCE = 60.0
HOP = ("connection", "keep-alive", "transfer-encoding", "content-length")


class AlbFront:
    """The front of one listener. ``answered`` counts the answers of each target group, by ARN."""

    def __init__(self, moto: Moto, listener: str) -> None:
        self.moto = moto
        self.listener = listener
        self.url = ""
        self.answered: Counter[str] = Counter()

    def target_of(self, request: Request) -> tuple[str, str, int] | int:
        """Return group, host and port for *request*, or the status that the listener answers."""
        answer = route(self.moto.rules(self.listener), request)
        if answer.status is not None:
            return answer.status
        group = answer.group(random.random())
        targets = targets_of(group)
        return (group, *random.choice(targets)) if targets else 503


def targets_of(group: str) -> list[tuple[str, int]]:
    """Return host and port of each target that moto has of a group."""
    held = get_backend("elbv2")[ACCOUNT][REGION].target_groups[group].targets
    return [(item["Id"], int(item["Port"])) for item in held.values()]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    front: AlbFront

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        host = self.headers.get("Host", "")
        request = Request(
            parts.path,
            host,
            self.command,
            tuple(self.headers.items()),
            tuple(parse_qsl(parts.query, keep_blank_values=True)),
            self.client_address[0],
        )
        target = self.front.target_of(request)
        if isinstance(target, int):
            self._answer(target, [], b"")
            return
        group, address, port = target
        connection = http.client.HTTPConnection(address, port, timeout=PATIENCE)
        try:
            headers = {name: text for name, text in self.headers.items() if name.lower() not in HOP}
            headers["X-Forwarded-For"] = self.client_address[0]
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
        except OSError:
            self._answer(502, [], b"")
            return
        finally:
            connection.close()
        self.front.answered[group] += 1
        self._answer(answer.status, answer.getheaders(), content)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, text in headers:
            if name.lower() not in HOP:
                self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = _handle


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A load that comes all at once waits in the queue, and is not refused.
    request_queue_size = 128


@contextmanager
def alb_front(moto: Moto, listener: str) -> Iterator[AlbFront]:
    """Run the front of *listener* on a port of 127.0.0.1 that was free."""
    front = AlbFront(moto, listener)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"front": front}))
    front.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield front
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
