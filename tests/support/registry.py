# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry on loopback: the real one of Debian's docker-registry, as a process of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from tests.support.waiting import eventually

PROGRAM = "docker-registry"
START_SECONDS = 30


@dataclass
class Registry:
    """A registry that runs; engines take it without TLS, since it is on loopback."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """What the names of its images begin with."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, again at the same port where it was stopped."""
        config = self.folder / "registry.yml"
        config.write_text(
            "version: 0.1\n"
            "log: {level: warn}\n"
            f"storage: {{filesystem: {{rootdirectory: {self.folder / 'data'}}},"
            " delete: {enabled: true}}\n"
            f"http: {{addr: '{self.address}'}}\n"
        )
        with (self.folder / "registry.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(shutil.which(PROGRAM)), "serve", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        eventually(self._answers, "the registry to answer", START_SECONDS)

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (
            self.folder / "registry.log"
        ).read_text()
        try:
            return requests.get(f"http://{self.address}/v2/", timeout=5).ok
        except requests.ConnectionError:
            return False

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None


@contextmanager
def start_registry(folder: Path) -> Iterator[Registry]:
    """A registry that keeps its data in *folder*."""
    if shutil.which(PROGRAM) is None:
        pytest.fail(f"{PROGRAM} is missing; `make setup-engine` installs it", pytrace=False)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    registry = Registry(folder, port)
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()
