# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service of several versions on the engine, with a registry, a proxy and traffic besides."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from docker import DockerClient
from docker.errors import APIError
from docker.models.containers import Container

from tests.support.engine import build, one_at_a_time, remove_all
from tests.support.modules import Ended, run_module
from tests.support.proxy import Proxy, start_proxy
from tests.support.registry import Registry, start_registry

FOLDER = Path(__file__).with_name("service_image")
SERVICE_LABEL = "immutable.delivery.service"
BETWEEN_REQUESTS = 0.02


@dataclass
class Shop:
    """All that a deploy needs: an engine, a registry with images, a proxy."""

    engine: DockerClient
    registry: Registry
    proxy: Proxy
    prefix: str
    folder: Path
    names: int = 0
    digests: dict[str, str] = field(default_factory=dict)

    def new_name(self) -> str:
        """A name that no service had yet."""
        self.names += 1
        return f"{self.prefix}-s{self.names}"

    def image(self, version: str, mode: str = "well") -> str:
        """Build and push a version of the service; return its name by digest."""
        tag = f"{self.registry.address}/{self.prefix}/service:{version}"
        if tag not in self.digests:
            with one_at_a_time("image-service"):
                build(FOLDER, tag, VERSION=version, MODE=mode)
            self.digests[tag] = push(tag)
            self.engine.images.remove(tag)
        return f"{tag.rpartition(':')[0]}@{self.digests[tag]}"

    def options(self, name: str, image: str, **more: Any) -> dict[str, Any]:
        """The module's options for a usual deploy, with *more*."""
        options: dict[str, Any] = {
            "name": name,
            "image": image,
            "container_port": 8080,
            "bind_address": "127.0.0.1",
            "health_path": "/health",
            "health_timeout": 60,
            "stop_timeout": 20,
            "router": "registry",
            "api_url": self.proxy.url,
            "prove_path": "/1",
            "drain_timeout": 30,
            "soak": 0.5,
            **more,
        }
        return {name: value for name, value in options.items() if value is not None}

    def deploy(self, name: str, image: str, **more: Any) -> Ended:
        """Run the module, as a task does."""
        arguments = self.options(name, image, **more)
        return run_module(self.folder, "service_deploy", arguments)

    def containers(self, name: str) -> list[Container]:
        """All containers of a service, those that ended as well."""
        label = f"{SERVICE_LABEL}={name}"
        return self.engine.containers.list(all=True, filters={"label": label}, ignore_removed=True)

    def running(self, name: str) -> list[str]:
        """The ids of those that run."""
        return sorted(str(one.id) for one in self.containers(name) if one.status == "running")

    def version(self, name: str) -> str:
        """Which version answers through the proxy."""
        answer = requests.get(f"{self.proxy.url}/{name}/1", timeout=30)
        assert answer.ok, answer.text
        return str(answer.json()["version"])

    def clean_up(self) -> None:
        """Remove what the prefix names, and the containers of services that it names."""
        for container in self.engine.containers.list(all=True, ignore_removed=True):
            if str(container.labels.get(SERVICE_LABEL, "")).startswith(self.prefix):
                with suppress(APIError):
                    container.remove(force=True, v=True)
        remove_all(self.engine, self.prefix)

    def state(self, name: str) -> tuple[object, ...]:
        """All that a deploy that failed must leave as it was."""
        containers = sorted((one.id, one.name, one.status) for one in self.containers(name))
        return (*containers, self.proxy.api("GET", f"/{name}").json())


@contextmanager
def open_shop(engine: DockerClient, prefix: str, folder: Path) -> Iterator[Shop]:
    """A registry, a proxy and the engine; what was made on that is removed."""
    with start_registry(folder) as registry, start_proxy(folder) as proxy:
        shop = Shop(engine, registry, proxy, prefix, folder)
        try:
            yield shop
        finally:
            shop.clean_up()


CHECK = ["python3", "/app/check.py"]


def push(tag: str) -> str:
    """Push an image; return its digest."""
    done = subprocess.run(
        ["docker", "push", "--quiet", tag], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = subprocess.run(
        ["docker", "inspect", "--format", "{{index .RepoDigests 0}}", tag],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return shown.stdout.strip().partition("@")[2]


@dataclass
class Traffic:
    """Requests that never end while somebody deploys; each that fails is lost."""

    sent: int = 0
    lost: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)


def version_in_body(answer: requests.Response) -> str:
    """The version that an answer of the tests' own service names."""
    return str(answer.json()["version"])


@contextmanager
def traffic(
    url: str,
    clients: int = 4,
    *,
    method: str = "POST",
    version: Callable[[requests.Response], str] = version_in_body,
) -> Iterator[Traffic]:
    """Send requests from *clients* threads; POSTs, which nobody repeats silently, unless said.

    :param version: reads from an answer which version gave it.
    """
    seen = Traffic()
    over = threading.Event()

    def client() -> None:
        with requests.Session() as session:
            while not over.wait(BETWEEN_REQUESTS):
                seen.sent += 1
                try:
                    answer = session.request(method, url, timeout=30)
                    if not answer.ok:
                        seen.lost.append(f"{answer.status_code} {answer.text[:200]}")
                    elif (name := version(answer)) not in seen.versions:
                        seen.versions.append(name)
                except requests.RequestException as error:
                    seen.lost.append(str(error))

    threads = [threading.Thread(target=client) for _client in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join(60)


def events_since(engine: DockerClient, began: float, prefix: str) -> list[str]:
    """What happened to containers and images of that prefix since *began* (seconds, epoch)."""
    found = []
    # The engine takes fractions of seconds, which the stubs do not know of.
    events: Any = engine.events
    for event in events(since=began, until=time.time(), decode=True):
        name = str(event.get("Actor", {}).get("Attributes", {}).get("name", ""))
        label = str(event.get("Actor", {}).get("Attributes", {}).get(SERVICE_LABEL, ""))
        if prefix in name or label.startswith(prefix):
            found.append(f"{event['Type']} {event['Action']} {name}")
    return found
