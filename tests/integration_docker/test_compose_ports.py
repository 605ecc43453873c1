# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports and names that move between containers, as ``recreate`` replaces and puts them back."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from docker import DockerClient

from tests.support.actor import actor, actor_image, version_at
from tests.support.compose import Stage
from tests.support.proxy import Proxy, start_proxy
from tests.support.router_daemon import free_port

NEVER = {"HEALTH": "never"}


@pytest.fixture(scope="module")
def image(engine: DockerClient) -> str:
    return actor_image()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    with start_proxy(tmp_path) as started:
        yield started


def published(image: str, version: str, port: int | None, **more: Any) -> dict[str, Any]:
    """A service at a fixed port, or at none."""
    ports = {} if port is None else {"ports": [f"127.0.0.1:{port}:8080"]}
    return actor(image, version, **ports, **more)


@pytest.mark.parametrize(
    "environment", [NEVER, {"CRASH": "start"}], ids=["never healthy", "crashes at start"]
)
def test_the_router_follows_a_former_container_to_its_new_port(
    stage: Stage, image: str, proxy: Proxy, environment: dict[str, str]
) -> None:
    name = stage.name
    stage.options["router"] = {
        "api_url": proxy.url,
        "services": [{"service": "web", "port": 8080, "name": name}],
    }
    anywhere = {"ports": ["127.0.0.1::8080"]}
    stage.write({"web": actor(image, "v1", **anywhere)})
    stage.redeploy()
    stage.write({"web": actor(image, "v2", environment=environment, **anywhere)})
    failed = stage.refused()
    (web,) = stage.of("web")
    port = web.ports["8080/tcp"][0]["HostPort"]
    assert proxy.current(name) == f"http://127.0.0.1:{port}"
    answer = requests.get(f"{proxy.url}/{name}/1", timeout=30)
    assert (answer.status_code, answer.headers.get("X-Version")) == (200, "v1")
    assert failed["next_step"], failed


def test_two_services_swap_their_ports(stage: Stage, image: str) -> None:
    one, other = free_port(), free_port()
    slow = {"environment": {"IGNORE_TERM": "3"}}
    stage.write({"a": published(image, "a", one), "b": published(image, "b", other, **slow)})
    stage.redeploy()
    stage.write({"a": published(image, "a", other), "b": published(image, "b", one, **slow)})
    stage.redeploy()
    assert (version_at(one), version_at(other)) == ("b", "a")
    assert stage.redeploy()["steps"] == []


def test_two_services_swap_their_ports_and_one_is_never_healthy(stage: Stage, image: str) -> None:
    one, other = free_port(), free_port()
    slow = {"IGNORE_TERM": "3"}
    stage.write(
        {
            "a": published(image, "a", one),
            "b": published(image, "b", other, environment=slow),
        }
    )
    stage.redeploy()
    before = stage.state()
    stage.write(
        {
            "a": published(image, "a", other),
            "b": published(image, "b", one, environment={**slow, **NEVER}),
        }
    )
    stage.refused()
    assert stage.state() == before
    assert (version_at(one), version_at(other)) == ("a", "b")


def test_a_front_gives_its_port_to_the_app_it_depends_on(stage: Stage, image: str) -> None:
    port = free_port()
    needs = {"depends_on": {"app": {"condition": "service_healthy"}}}
    stage.write(
        {"app": published(image, "app", None), "front": published(image, "front", port, **needs)}
    )
    stage.redeploy()
    stage.write(
        {"app": published(image, "app", port), "front": published(image, "front", None, **needs)}
    )
    stage.redeploy()
    assert version_at(port) == "app"
    assert len(stage.serving()) == 2
    assert stage.redeploy()["steps"] == []


def test_a_front_gives_its_name_to_the_app_it_depends_on(stage: Stage, image: str) -> None:
    name = {"container_name": f"{stage.name}-entrance"}
    needs = {"depends_on": {"app": {"condition": "service_healthy"}}}
    stage.write({"app": actor(image, "app"), "front": actor(image, "front", **needs, **name)})
    stage.redeploy()
    stage.write({"app": actor(image, "app", **name), "front": actor(image, "front", **needs)})
    stage.redeploy()
    (app,) = stage.of("app")
    assert app.name == name["container_name"]
    assert len(stage.serving()) == 2
    assert stage.redeploy()["steps"] == []


def test_a_port_is_one_for_each_family_of_addresses(stage: Stage, image: str) -> None:
    port = free_port()

    def at(address: str, version: str) -> dict[str, Any]:
        return actor(image, version, ports=[f"{address}:{port}:8080"])

    stage.write({"four": at("0.0.0.0", "four"), "six": at("[::]", "six")})
    stage.redeploy()
    assert version_at(port) == "four"
    assert len(stage.serving()) == 2
    # The one that stays has IPv6, and that alone.
    stage.write({"four": at("127.0.0.1", "next"), "six": at("[::]", "six")})
    stage.redeploy()
    assert version_at(port) == "next"
    before = stage.state()
    stage.write({"four": at("[::1]", "four"), "six": at("[::]", "six")})
    assert f"[::1]:{port} of the host, which {stage.name}-six-1 has" in stage.refused()["msg"]
    assert stage.state() == before


@pytest.mark.parametrize("both", [True, False], ids=["both families", "IPv6 only"])
def test_a_program_at_all_addresses_of_ipv6(stage: Stage, image: str, both: bool) -> None:
    stage.write({"web": actor(image, "v1")})
    stage.redeploy()
    before = stage.state()
    family = socket.AF_INET6
    with socket.create_server(("::", 0), family=family, dualstack_ipv6=both) as server:
        port = server.getsockname()[1]
        stage.write({"web": published(image, "v2", port)})
        if both:
            assert "which another program has" in stage.refused()["msg"]
            assert stage.state() == before
        else:
            stage.redeploy()
            assert version_at(port) == "v2"
            before = stage.state()
        # Without an address, a container needs both families.
        stage.write({"web": actor(image, "v3", ports=[f"{port}:8080"])})
        began = time.time()
        assert "which another program has" in stage.refused()["msg"]
        assert stage.state() == before
        assert not any("kill" in event or "die" in event for event in stage.events_since(began))
