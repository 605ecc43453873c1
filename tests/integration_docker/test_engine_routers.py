# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers behind each real router of hosts: a project redeployed, and a service repaired."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from docker import DockerClient
from docker.models.containers import Container

from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import Router
from tests.support.compose import Stage, service, service_image
from tests.support.etcd import etcd_server, registrar
from tests.support.haproxy import haproxy_server
from tests.support.modules import run_module
from tests.support.nginx import nginx_server
from tests.support.router_flows import send_to
from tests.support.service import SERVICE_LABEL, traffic


@dataclass
class Front:
    """A router as the modules are told of it."""

    kind: str
    url: str
    options: dict[str, Any]
    router: Router

    def version(self) -> str:
        """Which version answers; empty where none does."""
        answer = requests.get(f"{self.url}/1", timeout=30)
        return str(answer.json()["version"]) if answer.ok else ""


@pytest.fixture(scope="module", params=["haproxy", "nginx", "etcd"])
def front(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    kind = str(request.param)
    folder = tmp_path_factory.mktemp(kind)
    with ExitStack() as stack:
        if kind == "nginx":
            nginx = stack.enter_context(nginx_server(folder / "nginx"))
            yield Front(kind, nginx.url, nginx.options(), nginx.router())
            return
        haproxy = stack.enter_context(haproxy_server(folder / "haproxy"))
        if kind == "haproxy":
            yield Front(kind, haproxy.url, haproxy.options(), haproxy.router())
            return
        etcd = stack.enter_context(etcd_server(folder / "etcd"))
        stack.enter_context(registrar(folder, etcd, haproxy))
        yield Front(kind, haproxy.url, etcd.options(), etcd.router(haproxy.url))


# With HAProxy: test_compose_haproxy.py.
@pytest.mark.parametrize(
    ("front", "strategy"), [("nginx", "blue_green"), ("etcd", "rolling")], indirect=["front"]
)
def test_a_project_to_another_version(
    engine: DockerClient, prefix: str, front: Front, tmp_path: Path, strategy: str
) -> None:
    image, folder = service_image(), tmp_path / "project"
    folder.mkdir()
    router = {
        "name": front.kind,
        "api_url": front.url,
        "services": [{"service": "web", "port": 8080, "name": "demo"}],
        "prove_path": "/1",
        "drain_timeout": 30,
    }
    options = {"strategy": strategy, "router": router, front.kind: front.options}
    stage = Stage(engine, f"{prefix}-{front.kind}", folder, options)
    try:
        stage.write({"web": service(image, "v1")})
        stage.redeploy()
        with traffic(f"{front.url}/1") as seen:
            stage.write({"web": service(image, "v2")})
            assert stage.redeploy()["downtime_seconds"] == 0
        assert seen.lost == [] and seen.versions == ["v1", "v2"]
        assert not stage.redeploy()["changed"]
    finally:
        send_to(front.router)


def test_a_service_that_ended_or_that_the_router_forgot(
    engine: DockerClient, prefix: str, front: Front, tmp_path: Path
) -> None:
    name = f"{prefix}-healed-{front.kind}"
    router = {"router": front.kind, "api_url": front.url, front.kind: front.options}

    def found() -> list[Container]:
        labels = {"label": f"{SERVICE_LABEL}={name}"}
        return engine.containers.list(all=True, filters=labels, ignore_removed=True)

    def heal() -> dict[str, Any]:
        wanted = {"services": [name], "health_paths": {name: "/health"}}
        where = {"address": "127.0.0.1", **router}
        ended = run_module(tmp_path, "service_heal", {**wanted, **where})
        assert ended.code == 0, ended.output
        return ended.result

    deployed = run_module(
        tmp_path,
        "service_deploy",
        {
            "name": name,
            "image": service_image(),
            "pull": "never",
            "container_port": 8080,
            "bind_address": "127.0.0.1",
            "address": "127.0.0.1",
            "health_path": "/health",
            "route": "demo",
            "prove_path": "/1",
            **router,
        },
    )
    try:
        assert deployed.code == 0, deployed.output
        # On another port than the router knows, after its restart.
        found()[0].kill()
        assert heal()["changed"] and front.version() == "v1"
        front.router.observe("demo")
        front.router.remove("demo")
        assert front.version() == ""
        assert heal()["changed"] and front.version() == "v1"
        assert not heal()["changed"]
    finally:
        send_to(front.router)
        for container in found():
            container.remove(force=True, v=True)
