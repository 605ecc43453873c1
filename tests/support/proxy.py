# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo proxy and services behind it, as real processes, for tests and benchmarks."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from tests.support.apps import AppProcess, start_app

ROOT = Path(__file__).resolve().parents[2]
PROXY = ROOT / "apps" / "proxy-service" / "main.py"
BACKEND = Path(__file__).with_name("proxy_backend.py")
# For one answer on a slow machine that has other things to do, in seconds.
PATIENCE = 30.0


class Proxy:
    """A running proxy and its API."""

    def __init__(self, folder: Path, env: Mapping[str, str], options: dict[str, Any]) -> None:
        self.registry = folder / "services.json"
        self._ready = folder / "proxy-ready.json"
        self._env = env
        self._options = {"registry": self.registry, **options}
        self.app = self._start("127.0.0.1:0")

    def _start(self, listen: str) -> AppProcess:
        argv = [sys.executable, str(PROXY), "--listen", listen, "--ready-file", str(self._ready)]
        for name, value in self._options.items():
            argv += ["--" + name.replace("_", "-"), str(value)]
        return start_app(argv, self._env, self._ready)

    @property
    def url(self) -> str:
        return self.app.url

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def api(self, method: str, path: str) -> requests.Response:
        """One call of the API; `path` is what follows /services, sent as it is."""
        return requests.request(method, f"{self.url}/services{path}", timeout=PATIENCE)

    def register(self, name: str, url: str) -> None:
        answer = self.api("POST", f"/{name}/{quote(url, safe='')}")
        assert (answer.status_code, answer.json()) == (200, {"success": True}), answer.text

    def current(self, name: str) -> str | None:
        answer: dict[str, Any] = self.api("GET", f"/{name}").json()
        return answer["url"]["url"] if answer else None

    def drain(self, name: str, wait: float = 0) -> dict[str, Any]:
        """The state of the drain, after at most `wait` seconds of waiting for its end."""
        answer: dict[str, Any] = self.api("GET", f"/{name}/drain?wait={wait}").json()
        return answer

    def stop(self) -> int:
        return self.app.stop(timeout=60)

    def restart(self) -> None:
        """End it and start it again on the same port."""
        port = self.port
        assert self.stop() == 0
        self.app = self._start(f"127.0.0.1:{port}")


@contextmanager
def start_proxy(
    tmp_path: Path, *, env: Mapping[str, str] | None = None, **options: Any
) -> Iterator[Proxy]:
    """A proxy with its registry in tmp_path; options are its own (`idle_timeout=1`)."""
    proxy = Proxy(tmp_path, env or {}, options)
    try:
        yield proxy
    finally:
        proxy.app.kill()


def start_backend(tmp_path: Path, version: str) -> AppProcess:
    """A service that says on every answer which version it is; see proxy_backend.py."""
    ready = tmp_path / f"backend-{version}.json"
    argv = [sys.executable, str(BACKEND), "--version", version, "--ready-file", str(ready)]
    return start_app(argv, None, ready)


class Scripted:
    """A server that does to each connection what `script` says, to misbehave on purpose."""

    def __init__(self, script: Callable[[socket.socket, int], None]) -> None:
        """`script` gets each connection and its number from 1, in a thread of its own."""
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.connections = 0
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(
                target=self._one, args=(connection, self.connections), daemon=True
            ).start()

    def _one(self, connection: socket.socket, number: int) -> None:
        connection.settimeout(PATIENCE)
        with connection:
            try:
                self._script(connection, number)
            except OSError:
                return

    def read_request(self, connection: socket.socket) -> bytes:
        """Read and remember one request with a Content-Length or none; b"" at the end."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return b""
            data += more
        head, _blank, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _colon, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        while len(body) < length:
            body += connection.recv(65536)
        self.requests.append(head + b"\r\n\r\n" + body)
        return self.requests[-1]

    def close(self) -> None:
        # Closing alone would leave the port open while a thread sits in accept.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)


@contextmanager
def scripted(script: Callable[[Scripted, socket.socket, int], None]) -> Iterator[Scripted]:
    """A Scripted server whose script also gets the server itself."""
    box: list[Scripted] = []
    server = Scripted(lambda connection, number: script(box[0], connection, number))
    box.append(server)
    try:
        yield server
    finally:
        server.close()


def always(answer: bytes, *, close: bool = False) -> Callable[[Scripted, socket.socket, int], None]:
    """A script: the same bytes for every request."""

    def script(server: Scripted, connection: socket.socket, _number: int) -> None:
        while server.read_request(connection):
            connection.sendall(answer)
            if close:
                return

    return script


def talk(port: int, data: bytes, *, until: bytes | None = None) -> bytes:
    """Send bytes and return what comes until the connection ends, or `until` has been seen."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(data)
        seen = b""
        while until is None or until not in seen:
            try:
                more = connection.recv(65536)
            except ConnectionResetError:
                return seen + b"<reset>"
            if not more:
                break
            seen += more
        return seen


def resident(pid: int, field: str = "VmHWM") -> int:
    """Memory of a process in bytes: its highest so far, or VmRSS for what it is now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {field} for process {pid}")
