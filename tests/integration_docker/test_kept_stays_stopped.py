# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept stopped, or is a candidate, has the restart policy ``no``: a reboot starts neither.

A container gets its own policy again when it is started to be live.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import DockerClient

from tests.support.actor import actor, actor_image
from tests.support.compose import Stage
from tests.support.engine import remove_all
from tests.support.haproxy import HaProxyServer, haproxy_server
from tests.support.routed_service import RoutedService
from tests.support.service import SERVICE_LABEL
from tests.support.waiting import eventually

OWN = "unless-stopped"


@pytest.fixture(scope="module")
def image(engine: DockerClient) -> str:
    return actor_image()


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[HaProxyServer]:
    with haproxy_server(tmp_path / "haproxy") as server:
        yield server


@pytest.fixture
def service(
    engine: DockerClient,
    prefix: str,
    image: str,
    haproxy: HaProxyServer,
    request: pytest.FixtureRequest,
) -> Iterator[RoutedService]:
    name = f"{prefix}-{abs(hash(request.node.name)) % 10**6}"
    found = RoutedService(engine, name, image, request.getfixturevalue("tmp_path"), haproxy)
    yield found
    found.remove()


def test_a_kept_release(service: RoutedService) -> None:
    service.run("v1")
    service.run("v2")
    assert service.found() == {"v1": ("exited", "no"), "v2": ("running", OWN)}
    service.run("v1")
    assert service.found() == {"v1": ("running", OWN), "v2": ("exited", "no")}


def test_a_release_that_was_crash_looping_when_it_was_replaced(service: RoutedService) -> None:
    service.run("v1", environment={"CRASH": "started:4"}, soak=0)
    name = next(iter(service.found()))

    def restarted() -> bool:
        label = {"label": f"{SERVICE_LABEL}={service.name}"}
        (one,) = service.engine.containers.list(all=True, filters=label)
        return int(one.attrs["RestartCount"]) > 0

    eventually(restarted, f"{name} is started again by the engine")
    service.run("v2")
    found = service.found()
    assert found.pop("v2") == ("running", OWN)
    assert set(found.values()) <= {("exited", "no")}


def test_a_candidate_until_it_is_live(service: RoutedService) -> None:
    service.run("v1")
    service.run("v2", state="staged")
    assert service.found() == {"v1": ("running", OWN), "v2": ("running", "no")}
    service.run("v2", state="promoted")
    assert service.found() == {"v1": ("exited", "no"), "v2": ("running", OWN)}
    service.run("v2", state="rolled_back")
    assert service.found() == {"v1": ("running", OWN), "v2": ("exited", "no")}


def test_the_former_project_of_blue_green(
    engine: DockerClient, prefix: str, image: str, tmp_path: Path, haproxy: HaProxyServer
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    router = {
        "name": "haproxy",
        "api_url": haproxy.url,
        "services": [{"service": "web", "port": 8080, "name": "demo"}],
    }
    options = {"strategy": "blue_green", "router": router, "haproxy": haproxy.options()}
    stage = Stage(engine, f"{prefix}-colours", folder, options)

    def found() -> dict[str, tuple[str, str]]:
        return {
            colour: (str(one.status), one.attrs["HostConfig"]["RestartPolicy"]["Name"])
            for colour in ("blue", "green")
            for one in stage.containers(f"{stage.name}-{colour}")
        }

    anywhere = {"ports": ["127.0.0.1::8080"], "restart": "always"}
    try:
        stage.write({"web": actor(image, "v1", **anywhere)})
        stage.redeploy()
        stage.write({"web": actor(image, "v2", **anywhere)})
        stage.redeploy()
        assert found() == {"blue": ("exited", "no"), "green": ("running", "always")}
        assert stage.redeploy()["changed"] is False
    finally:
        remove_all(engine, stage.name)
