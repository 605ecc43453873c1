# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service of several versions behind HAProxy, whose versions crash as a test says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.models.containers import Container

from tests.support.actor import version_at
from tests.support.haproxy import HaProxyServer
from tests.support.modules import Ended, RunningModule, start_module
from tests.support.service import SERVICE_LABEL


class RoutedService:
    """A service behind HAProxy."""

    def __init__(
        self, engine: DockerClient, name: str, image: str, folder: Path, haproxy: HaProxyServer
    ) -> None:
        self.engine = engine
        self.name = name
        self.folder = folder
        self.options: dict[str, Any] = {
            "name": name,
            "image": image,
            "pull": "never",
            "container_port": 8080,
            "bind_address": "127.0.0.1",
            "address": "127.0.0.1",
            "health_path": "/health",
            "route": "demo",
            "router": "haproxy",
            "api_url": haproxy.url,
            "haproxy": haproxy.options(),
            "soak": 0.5,
        }
        self.url = haproxy.url

    def start(self, version: str = "", **more: Any) -> RunningModule:
        """Begin a deploy."""
        environment = {"VERSION": version, **more.pop("environment", {})}
        options = {**self.options, "environment": environment, **more}
        given = {name: value for name, value in options.items() if value is not None}
        return start_module(self.folder, "service_deploy", given)

    def fail(self, version: str = "", **more: Any) -> dict[str, Any]:
        """Deploy, which fails; return the result."""
        with self.start(version, **more) as running:
            ended = running.end()
        assert ended.result.get("failed"), ended.output
        return ended.result

    def run(self, version: str = "", **more: Any) -> Ended:
        """Deploy."""
        with self.start(version, **more) as running:
            ended = running.end()
        assert ended.code == 0, ended.output
        return ended

    def version(self) -> str:
        """Which version answers through the router; empty if none does."""
        return version_at(int(self.url.rpartition(":")[2]))

    def containers(self, version: str = "") -> list[Container]:
        """All containers, or those of a version."""
        label = f"{SERVICE_LABEL}={self.name}"
        every = self.engine.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        return [one for one in every if not version or version_of(one) == version]

    def found(self) -> dict[str, tuple[str, str]]:
        """The status and the restart policy of each version."""
        return {version_of(one): (str(one.status), policy_of(one)) for one in self.containers()}

    def remove(self) -> None:
        """Remove all containers."""
        for one in self.containers():
            one.remove(force=True, v=True)


def version_of(container: Container) -> str:
    """The version that a container runs."""
    variables = dict(entry.partition("=")[::2] for entry in container.attrs["Config"]["Env"])
    return str(variables.get("VERSION", ""))


def policy_of(container: Container) -> str:
    """The restart policy of a container."""
    return str(container.attrs["HostConfig"]["RestartPolicy"]["Name"] or "no")
