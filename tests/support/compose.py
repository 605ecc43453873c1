# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compose projects on the engine for tests: written down, redeployed, looked at."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docker import DockerClient

from tests.support.engine import PROJECT, build, one_at_a_time
from tests.support.modules import Ended, RunningModule, run_module, start_module
from tests.support.service import FOLDER

SERVICE = "com.docker.compose.service"
SOCKET = "/var/run/docker.sock"
# What a container tells and nobody does to it.
IDLE = ("exec_", "health_status", "top")
# In the shell: an engine asks every second, and a Python would take long to begin.
ASK = (
    "exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3; "
    'read -r -t 5 _version status _reason <&3; [ "$$status" = 200 ]'
)
CHECK = {
    "test": ["CMD", "bash", "-c", ASK],
    "interval": "1s",
    "timeout": "5s",
    "retries": 2,
    "start_period": "20s",
}


def service_image(version: str = "v1") -> str:
    """Build the service that says its version; the same image for all tests."""
    with one_at_a_time("image-service"):
        return build(FOLDER, f"immutable-test/service:{version}", VERSION=version)


def service(image: str, version: str = "v1", **more: Any) -> dict[str, Any]:
    """A service of a compose file, which is healthy when it answers."""
    environment = {"VERSION": version, **more.pop("environment", {})}
    given = {
        "image": image,
        "environment": environment,
        "ports": ["127.0.0.1::8080"],
        "healthcheck": CHECK,
        **more,
    }
    return {name: value for name, value in given.items() if value is not None}


@dataclass
class Stage:
    """One project: its folder, its name, and the options that it is redeployed with."""

    engine: DockerClient
    name: str
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)

    def write(self, services: Mapping[str, Any], **more: Any) -> None:
        """Write the compose file."""
        document = {"services": services, **more}
        # JSON is YAML; what is written a key a line can be found by its line.
        (self.folder / "compose.yaml").write_text(as_yaml(document))

    def arguments(self, **options: Any) -> dict[str, Any]:
        """The module's options."""
        return {
            "project_src": str(self.folder),
            "project_name": self.name,
            "wait_timeout": 90,
            # Long enough to look twice; tests of the soak itself set their own.
            "soak": 0.5,
            "releases_dir": str(self.folder.parent / "releases"),
            **self.options,
            **options,
        }

    def run(self, **options: Any) -> Ended:
        """Run the module to its end."""
        folder = Path(tempfile.mkdtemp(dir=self.folder.parent))
        return run_module(folder, "compose_redeploy", self.arguments(**options))

    def start(self, **options: Any) -> RunningModule:
        """Start the module."""
        folder = Path(tempfile.mkdtemp(dir=self.folder.parent))
        return start_module(folder, "compose_redeploy", self.arguments(**options))

    def redeploy(self, **options: Any) -> dict[str, Any]:
        """Run the module, which shall succeed; return its result."""
        ended = self.run(**options)
        assert ended.code == 0 and not ended.result.get("failed"), ended.output
        return ended.result

    def refused(self, **options: Any) -> dict[str, Any]:
        """Run the module, which shall fail; return its result."""
        ended = self.run(**options)
        assert ended.result.get("failed"), ended.output
        return ended.result

    def containers(self, project: str = "") -> list[Any]:
        """All containers of the project, those that ended as well."""
        found: list[Any] = self.engine.containers.list(
            all=True,
            filters={"label": f"{PROJECT}={project or self.name}"},
            ignore_removed=True,  # while it is listed: a redeploy may be under way
        )
        return found

    def of(self, service: str, project: str = "") -> list[Any]:
        """All containers of one service."""
        return [one for one in self.containers(project) if one.labels[SERVICE] == service]

    def serving(self, project: str = "") -> dict[str, str]:
        """The names of the containers that run, by id."""
        return {
            str(one.id): str(one.name)
            for one in self.containers(project)
            if one.status == "running"
        }

    def state(self) -> list[tuple[str, str, str]]:
        """All containers: what a run that failed leaves as it was."""
        return sorted((str(one.id), str(one.name), str(one.status)) for one in self.containers())

    def events_since(self, began: float) -> list[str]:
        """What was done to anything of the project since *began* (seconds, epoch)."""
        found = []
        # The engine takes fractions of seconds, which the stubs do not know of.
        events: Any = self.engine.events
        for event in events(since=began, until=time.time(), decode=True):
            attributes = event.get("Actor", {}).get("Attributes", {})
            names = (attributes.get("name", ""), attributes.get(PROJECT, ""))
            action = str(event["Action"])
            if any(self.name in name for name in names) and not action.startswith(IDLE):
                found.append(f"{event['Type']} {action} {names[0]}")
        return found


def as_yaml(value: Any, indent: int = 0) -> str:
    """Write mappings a key a line, and all else as JSON."""
    lines = []
    for name, item in value.items():
        # A name is written bare, so that its line can be found.
        key = (
            name
            if name.replace("_", "").replace("-", "").isalnum()
            else json.dumps(name, ensure_ascii=False)
        )
        if isinstance(item, Mapping) and item:
            lines.append(f"{' ' * indent}{key}:\n{as_yaml(item, indent + 2)}")
        else:
            lines.append(f"{' ' * indent}{key}: {json.dumps(item, ensure_ascii=False)}\n")
    return "".join(lines)


class Relay:
    """A way to the engine over TCP, which can be cut."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._cut = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """End all connections, and every new one at once."""
        self._cut.set()
        with self._lock:
            for one in list(self._open):
                _end(one)

    def mend(self) -> None:
        """Let connections through again."""
        self._cut.clear()

    def close(self) -> None:
        self.cut()
        _end(self._listener)
        self._thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            if self._cut.is_set():
                client.close()
                continue
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(SOCKET)
            with self._lock:
                self._open |= {client, engine}
            for one, other in ((client, engine), (engine, client)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        # Half a close: an answer may still be on its way.
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@contextmanager
def relayed() -> Iterator[Relay]:
    """A relay, ended afterwards."""
    relay = Relay()
    try:
        yield relay
    finally:
        relay.close()
