# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routers of hosts for tests and benchmarks: what starting HAProxy and nginx has in common."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from tests.support.apps import AppProcess, start_app
from tests.support.waiting import eventually

BACKEND = Path(__file__).with_name("router_backend.py")


def program(name: str) -> str:
    """Where a program is; Debian's system programs are not in every user's path."""
    found = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    assert found, f"{name} is not installed: apt-get install {name}"
    return found


def free_port() -> int:
    """A port that is free now; the program that gets it cannot choose one by itself."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port: int = server.getsockname()[1]
        return port


def start_version(folder: Path, version: str, host: str = "127.0.0.1") -> AppProcess:
    """A version of a service; see router_backend.py."""
    ready = folder / f"version-{version}.json"
    argv = [sys.executable, str(BACKEND), "--version", version, "--ready-file", str(ready)]
    argv += ["--host", host]
    return start_app(argv, None, ready)


class Daemon:
    """A program that runs until it is ended; its log is in a file."""

    def __init__(self, argv: list[str], log: Path, ready: Callable[[], bool]) -> None:
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.log = log
        try:
            eventually(lambda: self._is_ready(ready), f"{argv[0]} is ready")
        except BaseException:
            self.kill()
            raise

    def _is_ready(self, ready: Callable[[], bool]) -> bool:
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-2000:]
        return ready()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(60)


def accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
