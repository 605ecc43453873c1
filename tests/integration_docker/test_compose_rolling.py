# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``compose_redeploy`` in lock-step behind the demo proxy, on the engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from tests.support.compose import Stage, service, service_image
from tests.support.engine import remove_all
from tests.support.proxy import Proxy, start_proxy
from tests.support.service import traffic


@pytest.fixture(scope="module")
def image(engine: DockerClient) -> str:
    return service_image()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with start_proxy(tmp_path_factory.mktemp("proxy")) as started:
        yield started


@pytest.fixture
def stage(engine: DockerClient, prefix: str, proxy: Proxy, tmp_path: Path) -> Iterator[Stage]:
    folder = tmp_path / "project"
    folder.mkdir()
    name = f"{prefix}-{tmp_path.name[:20].strip('_').replace('_', '-')}"
    staged = Stage(engine, name, folder, {"strategy": "rolling", "router": router(proxy, name)})
    yield staged
    remove_all(engine, staged.name)


def router(proxy: Proxy, name: str, **more: Any) -> dict[str, Any]:
    return {
        "api_url": proxy.url,
        "services": [{"service": "web", "port": 8080, "name": name}],
        "health_path": "/health",
        "prove_path": "/1",
        "drain_timeout": 30,
        **more,
    }


def urls(proxy: Proxy, name: str) -> set[str]:
    return set(proxy.api("GET", f"/{name}").json().get("urls", []))


def addresses(stage: Stage) -> set[str]:
    """Where the project's running containers are reached."""
    found = set()
    for one in stage.of("web"):
        if one.status == "running":
            found.add(f"http://127.0.0.1:{one.ports['8080/tcp'][0]['HostPort']}")
    return found


def test_a_service_is_rolled_at_its_scale_and_no_request_is_lost(
    stage: Stage, image: str, proxy: Proxy
) -> None:
    stage.write({"web": service(image, "v1", deploy={"replicas": 2})})
    first = stage.redeploy()
    assert len(first["containers"]) == 2
    assert urls(proxy, stage.name) == addresses(stage)

    stage.write({"web": service(image, "v2", deploy={"replicas": 2})})
    with traffic(f"{proxy.url}/{stage.name}/1") as seen:
        second = stage.redeploy()
    assert seen.lost == []
    assert seen.sent > 50
    assert seen.versions == ["v1", "v2"]
    assert second["downtime_seconds"] == 0
    assert {one["id"] for one in second["previous"]} == {one["id"] for one in first["containers"]}
    assert len(stage.containers()) == 2
    assert urls(proxy, stage.name) == addresses(stage)
    again = stage.redeploy()
    assert (again["changed"], again["steps"]) == (False, [])


def test_a_version_that_is_no_good_leaves_the_traffic_with_the_very_same_containers(
    stage: Stage, image: str, proxy: Proxy
) -> None:
    stage.write({"web": service(image, "v1", deploy={"replicas": 2})})
    stage.redeploy()
    before = stage.serving()

    # What only shows behind the router shows once the first of two has been switched in.
    stage.write(
        {"web": service(image, "v2", deploy={"replicas": 2}, environment={"MODE": "unroutable"})}
    )
    with traffic(f"{proxy.url}/{stage.name}/2?") as seen:
        stage.options["router"]["prove_timeout"] = 2
        failed = stage.refused()
    assert failed["kind"] == "unproved", failed
    assert stage.serving() == before
    assert len(stage.containers()) == 2
    assert urls(proxy, stage.name) == addresses(stage)
    assert seen.versions == ["v1"]

    stage.write({"web": service(image, "v2", deploy={"replicas": 2}, environment={"MODE": "ill"})})
    with traffic(f"{proxy.url}/{stage.name}/1") as seen:
        failed = stage.refused()
    assert failed["kind"] == "container", failed
    assert "unhealthy" in failed["msg"]
    assert (stage.serving(), seen.lost) == (before, [])


def test_a_failure_at_the_second_container_brings_the_first_one_back(
    stage: Stage, image: str, proxy: Proxy
) -> None:
    stage.write({"web": service(image, "v1", deploy={"replicas": 2})})
    stage.redeploy()
    before = stage.serving()
    # The proxy goes away after the first switch: two proofs are needed for two containers.
    folder = stage.folder / "count"
    folder.mkdir()
    folder.chmod(0o777)
    first_only = (
        "import os,sys;n=len(os.listdir('/count'));open(f'/count/{n}','w');"
        "sys.exit('only one may start') if n else os.execvp('python3',['python3','/app/app.py'])"
    )
    stage.write(
        {
            "web": service(
                image,
                "v2",
                deploy={"replicas": 2},
                command=["python3", "-c", first_only],
                volumes=[f"{folder}:/count"],
            )
        }
    )
    with traffic(f"{proxy.url}/{stage.name}/1") as seen:
        failed = stage.refused()
    assert any("only one may start" in line for line in failed["log"]), failed
    assert "serve again" in failed["state"]
    assert seen.lost == []
    assert "v2" in seen.versions
    assert stage.serving() == before
    assert urls(proxy, stage.name) == addresses(stage)


def test_what_only_one_container_can_have_is_refused_by_its_line(stage: Stage, image: str) -> None:
    stage.write({"web": service(image, ports=["127.0.0.1:18080:8080"])})
    failed = stage.refused()
    assert failed["kind"] == "unsuitable"
    assert "service web publishes the fixed port 18080 (compose.yaml, line" in failed["msg"]
    line = int(failed["msg"].partition("line ")[2].partition(")")[0])
    assert "ports" in (stage.folder / "compose.yaml").read_text().splitlines()[line - 1]

    stage.write({"web": service(image, container_name=f"{stage.name}-fixed")})
    failed = stage.refused()
    assert f"service web has container_name {stage.name}-fixed (compose.yaml" in failed["msg"]
    stage.write(
        {"web": service(image), "side": service(image, ports=None, network_mode="service:web")}
    )
    failed = stage.refused()
    assert "service side shares network_mode with a container of web (compose.yaml" in failed["msg"]
    assert stage.containers() == []


def test_the_router_is_brought_to_what_stands_and_scale_follows_the_file(
    stage: Stage, image: str, proxy: Proxy
) -> None:
    stage.write({"web": service(image, "v1", deploy={"replicas": 1})})
    stage.redeploy()
    before = stage.serving()
    proxy.register(stage.name, "http://127.0.0.1:9")
    turned = stage.redeploy()
    assert turned["changed"]
    assert stage.serving() == before
    assert urls(proxy, stage.name) == addresses(stage)

    stage.write({"web": service(image, "v1", deploy={"replicas": 3})})
    more = stage.redeploy()
    assert len(more["containers"]) == 3
    assert set(before) <= set(stage.serving())
    assert urls(proxy, stage.name) == addresses(stage)

    stage.write({"web": service(image, "v1", deploy={"replicas": 1})})
    with traffic(f"{proxy.url}/{stage.name}/1") as seen:
        stage.redeploy()
    assert seen.lost == []
    assert len(stage.containers()) == 1
    assert urls(proxy, stage.name) == addresses(stage)


def test_another_host_is_not_taken_off_the_route(stage: Stage, image: str, proxy: Proxy) -> None:
    stage.write({"web": service(image, "v1")})
    stage.redeploy()
    before = stage.state()
    other = "http://192.0.2.1:8080"
    proxy.register(stage.name, other)
    stage.write({"web": service(image, "v2")})
    failed = stage.refused()
    assert (failed["kind"], other in failed["msg"]) == ("foreign_address", True), failed
    assert (urls(proxy, stage.name), stage.state()) == ({other}, before)
    stage.options["router"]["peers"] = ["192.0.2.1"]
    assert stage.redeploy(_ansible_check_mode=True)["changed"]


def test_a_router_that_is_away_changes_nothing(stage: Stage, image: str) -> None:
    stage.write({"web": service(image, "v1")})
    stage.redeploy()
    before = stage.state()
    stage.write({"web": service(image, "v2")})
    stage.options["router"] = {**stage.options["router"], "api_url": "http://127.0.0.1:9"}
    stage.options["router"]["timeout"] = 3
    failed = stage.refused()
    assert "Nothing was changed" in failed["state"], failed
    assert stage.state() == before
