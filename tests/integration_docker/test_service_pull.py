# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry that accepts and then says nothing: the pull ends by its deadline, and at a signal."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from docker import DockerClient

from tests.support.modules import run_module, start_module
from tests.support.waiting import eventually

NEVER = 300.0
DIGEST = "sha256:" + "1" * 64
TLS = b"\x16"
IS_A_REGISTRY = (
    b"HTTP/1.1 200 OK\r\nDocker-Distribution-API-Version: registry/2.0\r\n"
    b"Content-Length: 2\r\n\r\n{}"
)


class Silent:
    """A registry that says that it is one, and then nothing."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.silent: list[socket.socket] = []
        Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection = self.socket.accept()[0]
                Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError):
            asked = connection.recv(65536)
            if asked.startswith(b"GET /v2/ "):
                connection.sendall(IS_A_REGISTRY)
                asked = connection.recv(65536)
            if not asked.startswith(TLS):
                self.silent.append(connection)
                return
        connection.close()

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for connection in self.silent:
            connection.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    server = Silent()
    yield server
    server.close()


def options(prefix: str, silent: Silent, **more: Any) -> dict[str, Any]:
    return {
        "name": f"{prefix}-pull",
        "image": f"127.0.0.1:{silent.port}/demo@{DIGEST}",
        "container_port": 8080,
        **more,
    }


def test_it_ends_by_its_deadline(
    engine: DockerClient, prefix: str, silent: Silent, tmp_path: Path
) -> None:
    began = time.monotonic()
    ended = run_module(tmp_path, "service_deploy", options(prefix, silent, pull_timeout=2))
    assert ended.result["kind"] == "timeout", ended.output
    assert "took longer than 2 s" in ended.result["msg"]
    assert silent.silent
    # Nothing was pulled, so nothing was removed.
    assert "was removed" not in ended.result["msg"]
    assert time.monotonic() - began < NEVER / 3


def test_it_ends_at_a_signal(
    engine: DockerClient, prefix: str, silent: Silent, tmp_path: Path
) -> None:
    given = options(prefix, silent, pull_timeout=NEVER)
    with start_module(tmp_path, "service_deploy", given) as running:
        eventually(lambda: silent.silent, "the engine to ask the registry")
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        ended = running.end()
    assert ended.result["kind"] == "interrupted", ended.output
    assert "was removed" not in ended.result["msg"]
    assert time.monotonic() - began < NEVER / 3
