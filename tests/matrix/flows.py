# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flows of the matrices: how a version is deployed, and what is left on the engine."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker import DockerClient
from docker.errors import APIError, NotFound

from tests.matrix import cells, kills
from tests.matrix.fronts import Front
from tests.support.compose import CHECK, Stage
from tests.support.engine import PROJECT, remove_all
from tests.support.modules import RunningModule, start_module
from tests.support.router_daemon import free_port
from tests.support.service import SERVICE_LABEL

ASK = ["python3", "-m", "tests.support.actor_image.ask"]
STOP_SECONDS = 20
# What the modules may wait for; none of it is reached unless something hangs.
HEALTH_SECONDS = 20
DRAIN_SECONDS = 20


@dataclass(frozen=True)
class Kept:
    """A container of the service as it was found."""

    name: str
    version: str
    status: str
    restart: str
    exit_code: int
    restarts: int

    @property
    def running(self) -> bool:
        return self.status in ("running", "restarting")


def kept_of(attributes: Mapping[str, Any]) -> Kept:
    """Read what the engine says of a container."""
    environment = dict(entry.partition("=")[::2] for entry in attributes["Config"]["Env"])
    state = attributes["State"]
    return Kept(
        attributes["Name"].lstrip("/"),
        environment.get("VERSION", ""),
        state["Status"],
        attributes["HostConfig"]["RestartPolicy"]["Name"] or "no",
        state["ExitCode"],
        attributes["RestartCount"],
    )


class Flow:
    """One service, deployed by one flow behind one router."""

    module = ""
    label = ""
    on_an_engine = True

    def __init__(self, engine: DockerClient, name: str, image: str, front: Front, folder: Path):
        self.engine = engine
        self.name = name
        self.image = image
        self.front = front
        self.folder = folder

    def arguments(self, version: str, environment: Mapping[str, str], **more: Any) -> Any:
        """The module's options to deploy that version."""
        raise NotImplementedError

    def start(self, version: str, environment: Mapping[str, str], **more: Any) -> RunningModule:
        """Start the module."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return start_module(folder, self.module, self.arguments(version, environment, **more))

    def containers(self) -> list[Kept]:
        """All containers of the service, those that ended as well."""
        found = []
        for entry in self._listed():
            with suppress(NotFound):
                found.append(kept_of(self.engine.api.inspect_container(entry["Id"])))
        return sorted(found, key=lambda one: (one.version, one.name))

    def log(self, version: str) -> bytes:
        """What the containers of a version have logged."""
        text = b""
        for entry in self._listed():
            # One that is just being removed gives no log any more.
            with suppress(APIError):
                if kept_of(self.engine.api.inspect_container(entry["Id"])).version == version:
                    text += self.engine.api.logs(entry["Id"])
        return text

    def _listed(self) -> list[Any]:
        return [
            entry
            for entry in self.engine.api.containers(all=True)
            if str(entry["Labels"].get(self.label, "")).startswith(self.name)
        ]

    def clean_up(self) -> None:
        """Remove the service from the router and the engine."""
        try:
            self.front.forget()
        finally:
            for entry in self._listed():
                with suppress(APIError):
                    self.engine.api.remove_container(entry["Id"], force=True, v=True)
            remove_all(self.engine, self.name)


class ServiceFlow(Flow):
    """``service_deploy``."""

    module = "service_deploy"
    label = SERVICE_LABEL
    port: int | None = None

    def arguments(self, version: str, environment: Mapping[str, str], **more: Any) -> Any:
        given = {
            "name": self.name,
            "image": self.image,
            "pull": "never",
            "container_port": 8080,
            "published_port": self.port,
            "bind_address": "127.0.0.1",
            "address": "127.0.0.1",
            "environment": {"VERSION": version, **environment},
            "health_path": "/health",
            "health_timeout": HEALTH_SECONDS,
            "stop_timeout": STOP_SECONDS,
            "router": self.front.router,
            "api_url": self.front.api_url,
            "route": self.front.route,
            "host_header": self.front.host,
            "prove_path": "/verify",
            "prove_count": cells.VERIFY_COUNT,
            "prove_timeout": cells.VERIFY_SECONDS,
            "drain_timeout": DRAIN_SECONDS,
            **self.front.options,
            **more,
        }
        restart = given.pop("restart", None)
        if restart:
            given["restart_policy"] = restart
        if environment.get("CRASH", "").startswith("test"):
            given |= {"test_image": self.image, "test_command": ASK}
        return given


class FixedServiceFlow(ServiceFlow):
    """``service_deploy`` with ``published_port``."""

    def __init__(self, *values: Any):
        super().__init__(*values)
        self.port = free_port()


class ComposeFlow(Flow):
    """``compose_redeploy`` by one strategy."""

    module = "compose_redeploy"
    label = PROJECT
    strategy = ""

    def arguments(self, version: str, environment: Mapping[str, str], **more: Any) -> Any:
        project = self.folder / "project"
        project.mkdir(exist_ok=True)
        stage = Stage(self.engine, self.name, project)
        restart = more.pop("restart", "no")
        stage.write(
            {
                "web": {
                    "image": self.image,
                    "environment": {"VERSION": version, **environment},
                    "ports": ["127.0.0.1::8080"],
                    "healthcheck": CHECK,
                    "restart": restart,
                    "stop_grace_period": f"{STOP_SECONDS}s",
                }
            }
        )
        router = {
            "name": self.front.router,
            "api_url": self.front.api_url,
            "services": [{"service": "web", "port": 8080, "name": self.front.route}],
            "host_header": self.front.host,
            "health_path": "/health",
            "prove_path": "/verify",
            "prove_count": cells.VERIFY_COUNT,
            "prove_timeout": cells.VERIFY_SECONDS,
            "drain_timeout": DRAIN_SECONDS,
        }
        given = {
            "strategy": self.strategy,
            "wait_timeout": HEALTH_SECONDS,
            "router": router,
            **self.front.options,
            **more,
        }
        return stage.arguments(**given)


class RecreateFlow(ComposeFlow):
    strategy = cells.RECREATE


class RollingFlow(ComposeFlow):
    strategy = cells.ROLLING


class BlueGreenFlow(ComposeFlow):
    strategy = cells.BLUE_GREEN


class RegisterFlow(Flow):
    """``proxy_register``: both versions run, and only the traffic is switched."""

    module = kills.REGISTER
    on_an_engine = False
    label = "immutable-test.matrix"

    def arguments(self, version: str, environment: Mapping[str, str], **more: Any) -> Any:
        given = {
            "router": self.front.router,
            "api_url": self.front.api_url,
            "service": self.front.route,
            "url": self._url(version, environment),
            "host_header": self.front.host,
            "health_path": "/health",
            "prove_path": "/verify",
            "prove_count": cells.VERIFY_COUNT,
            "prove_timeout": cells.VERIFY_SECONDS,
            "drain_timeout": DRAIN_SECONDS,
            **self.front.options,
            **more,
        }
        for name in ("restart", "soak"):
            given.pop(name, None)
        return given

    def _url(self, version: str, environment: Mapping[str, str]) -> str:
        """Have the version run; return its address."""
        name = f"{self.name}-{version}"
        try:
            found = self.engine.containers.get(name)
        except NotFound:
            found = self.engine.containers.run(
                self.image,
                detach=True,
                name=name,
                labels={self.label: self.name},
                environment={"VERSION": version, **environment},
                ports={"8080/tcp": ("127.0.0.1", 0)},
            )
        found.reload()
        port = found.attrs["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostPort"]
        return f"http://127.0.0.1:{port}"


FLOWS: Mapping[str, type[Flow]] = {
    cells.SERVICE: ServiceFlow,
    cells.SERVICE_FIXED: FixedServiceFlow,
    cells.RECREATE: RecreateFlow,
    cells.ROLLING: RollingFlow,
    cells.BLUE_GREEN: BlueGreenFlow,
    kills.REGISTER: RegisterFlow,
}
