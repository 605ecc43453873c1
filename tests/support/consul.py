# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for an agent of Consul: what of its HTTP API a registry needs, as it is documented.

It is not Consul. What it does was written from the documentation, so that tests with it show that
our side keeps to that, and not that Consul does.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Answer = tuple[int, Any]
GONE: Answer = (404, None)


class ConsulStandIn:
    """Keys, sessions and the agent's services."""

    def __init__(self) -> None:
        self.index = 1
        self.keys: dict[str, dict[str, Any]] = {}
        self.sessions: dict[str, tuple[float, float]] = {}
        self.services: dict[str, dict[str, Any]] = {}
        self.leader = True
        self.token = ""
        self._news = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, document = outer.handle(
                    self.command, self.path, body, self.headers.get("X-Consul-Token", "")
                )
                data = document if isinstance(document, bytes) else b""
                if not isinstance(document, bytes) and document is not None:
                    data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("X-Consul-Index", str(outer.index))
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_DELETE = answer

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that left is no matter."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def end_sessions(self) -> None:
        """As where the servers lost them."""
        with self._news:
            for session in list(self.sessions):
                self._end(session)

    def handle(self, method: str, target: str, body: bytes, token: str) -> Answer:
        parts = urlsplit(target)
        path = unquote(parts.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        if token != self.token:
            return 403, b"Permission denied"
        with self._news:
            self._lapse()
            if path.startswith("/v1/agent/service/"):
                return self._agent(path.removeprefix("/v1/agent/service/"), body)
            if not self.leader:
                return 500, b"No cluster leader"
            if path.startswith("/v1/kv/"):
                return self._key(method, path.removeprefix("/v1/kv/"), query)
            if path == "/v1/txn":
                return self._transaction(json.loads(body))
            if path == "/v1/session/create":
                return self._session(json.loads(body))
            if path.startswith("/v1/session/renew/"):
                return self._renew(path.rpartition("/")[2])
        return GONE

    def _key(self, method: str, name: str, query: dict[str, list[str]]) -> Answer:
        assert not name.startswith("/"), "Consul's keys do not begin with a slash"
        if method == "DELETE":
            self._change(name, None)
            return 200, True
        if "index" in query and int(query["index"][0]) == self.index:
            # One second is as good as thirty, for who asks again.
            self._news.wait_for(lambda: int(query["index"][0]) != self.index, timeout=1)
        found = [one for key, one in sorted(self.keys.items()) if key.startswith(name)]
        return (200, found) if found else GONE

    def _transaction(self, verbs: list[dict[str, Any]]) -> Answer:
        for verb in (operation["KV"] for operation in verbs):
            now = self.keys.get(verb["Key"], {}).get("ModifyIndex", 0)
            wrong = verb["Verb"] == "cas" and now != verb["Index"]
            # What is not there is as good as deleted.
            wrong |= verb["Verb"] == "delete-cas" and now not in (0, verb["Index"])
            wrong |= verb["Verb"] == "lock" and verb["Session"] not in self.sessions
            if wrong:
                said = "index is stale" if verb["Verb"].endswith("cas") else "invalid session"
                return 409, {"Results": None, "Errors": [{"OpIndex": 0, "What": said}]}
        results = []
        for verb in (operation["KV"] for operation in verbs):
            if verb["Verb"] in ("delete", "delete-cas"):
                self._change(verb["Key"], None)
            else:
                self._change(verb["Key"], verb)
                results.append({"KV": {**self.keys[verb["Key"]], "Value": None}})
        return 200, {"Results": results, "Errors": None}

    def _change(self, name: str, verb: dict[str, Any] | None) -> None:
        self.index += 1
        if verb is None:
            self.keys.pop(name, None)
        else:
            self.keys[name] = {
                "Key": name,
                "Value": verb["Value"],
                "ModifyIndex": self.index,
                "Session": verb.get("Session"),
            }
        self._news.notify_all()

    def _session(self, wanted: dict[str, Any]) -> Answer:
        seconds = float(wanted["TTL"].removesuffix("s"))
        assert 10 <= seconds <= 86400, "what Consul takes"
        assert (wanted["Behavior"], wanted["LockDelay"]) == ("delete", "0s")
        name = secrets.token_hex(8)
        self.sessions[name] = (seconds, time.monotonic() + seconds)
        return 200, {"ID": name}

    def _renew(self, name: str) -> Answer:
        if name not in self.sessions:
            return GONE
        seconds = self.sessions[name][0]
        self.sessions[name] = (seconds, time.monotonic() + seconds)
        return 200, [{"ID": name}]

    def _lapse(self) -> None:
        for name, (_seconds, end) in list(self.sessions.items()):
            if end < time.monotonic():
                self._end(name)

    def _end(self, session: str) -> None:
        del self.sessions[session]
        for key, one in list(self.keys.items()):
            if one["Session"] == session:
                self._change(key, None)

    def _agent(self, what: str, body: bytes) -> Answer:
        if what == "register":
            service = json.loads(body)
            self.services[service["ID"]] = service
            return 200, None
        name = what.removeprefix("deregister/")
        return (200, None) if self.services.pop(name, None) else GONE


@contextmanager
def consul_stand_in() -> Iterator[ConsulStandIn]:
    """A stand-in that answers."""
    server = ConsulStandIn()
    try:
        yield server
    finally:
        server.close()
