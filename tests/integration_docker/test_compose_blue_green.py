# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``compose_redeploy`` as a second project beside the first, on the engine."""

from __future__ import annotations

import time
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
def stage(
    engine: DockerClient, prefix: str, proxy: Proxy, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Stage]:
    folder = tmp_path / "project"
    folder.mkdir()
    name = f"{prefix}-{abs(hash(request.node.name)) % 10**6}"
    entrances = [{"service": one, "port": 8080, "name": f"{name}.{one}"} for one in ("web", "api")]
    options = {
        "strategy": "blue_green",
        "router": {
            "api_url": proxy.url,
            "services": entrances,
            "prove_path": "/1",
            "prove_timeout": 5,
            "drain_timeout": 30,
        },
    }
    staged = Stage(engine, name, folder, options)
    yield staged
    remove_all(engine, name)


def both(image: str, version: str, **more: Any) -> dict[str, Any]:
    return {
        "web": service(image, version, depends_on={"api": {"condition": "service_healthy"}}),
        "api": service(image, version, **more),
    }


def everything(stage: Stage) -> list[tuple[str, str]]:
    return sorted(
        (str(one.id), str(one.status))
        for colour in ("blue", "green")
        for one in stage.containers(f"{stage.name}-{colour}")
    )


def test_to_and_fro_under_traffic_with_the_former_one_kept(
    stage: Stage, image: str, proxy: Proxy
) -> None:
    stage.write(both(image, "v1"))
    first = stage.redeploy()
    assert first["project"] == f"{stage.name}-blue"
    assert (first["previous"], first["downtime_seconds"]) == ([], 0)

    stage.write(both(image, "v2"))
    began = time.time()
    foreseen = stage.redeploy(_ansible_check_mode=True, _ansible_diff=True)
    assert foreseen["changed"]
    assert stage.events_since(began) == []
    with (
        traffic(f"{proxy.url}/{stage.name}.web/1") as web,
        traffic(f"{proxy.url}/{stage.name}.api/1") as api,
    ):
        second = stage.redeploy()
    assert (web.lost, api.lost) == ([], [])
    assert (web.versions, api.versions) == (["v1", "v2"], ["v1", "v2"])
    assert second["project"] == f"{stage.name}-green"
    assert second["downtime_seconds"] == 0
    assert {one["id"] for one in second["previous"]} == {one["id"] for one in first["containers"]}
    assert {one.status for one in stage.containers(f"{stage.name}-blue")} == {"exited"}
    # What came with a tick is what was foreseen.
    assert [one["step"] for one in second["steps"]] == [one["step"] for one in foreseen["steps"]]

    again = stage.redeploy()
    assert (again["changed"], again["steps"]) == (False, [])

    stage.write(both(image, "v3"))
    third = stage.redeploy(keep_releases=0)
    assert third["project"] == f"{stage.name}-blue"
    assert stage.containers(f"{stage.name}-green") == []


def test_a_project_that_is_no_good_is_removed_and_the_traffic_stays(
    stage: Stage, image: str, proxy: Proxy
) -> None:
    stage.write(both(image, "v1"))
    stage.redeploy()
    before = everything(stage)
    for mode, words in (("broken", "this version cannot start"), ("unroutable", "500")):
        stage.write(both(image, "v2", environment={"MODE": mode}))
        with traffic(f"{proxy.url}/{stage.name}.web/1") as seen:
            failed = stage.refused()
        assert words in "\n".join([failed["msg"], *failed["log"]])
        assert f"{stage.name}-green was removed" in failed["state"]
        assert (everything(stage), seen.lost) == (before, [])
        # The one that is no good is switched first, and back.
        for name in ("web", "api"):
            answer = proxy.api("GET", f"/{stage.name}.{name}").json()["urls"]
            assert len(answer) == 1


def test_a_half_made_switch_is_made_whole(stage: Stage, image: str, proxy: Proxy) -> None:
    stage.write(both(image, "v1"))
    stage.redeploy()
    old = proxy.current(f"{stage.name}.web")
    assert old is not None
    stage.write(both(image, "v2"))
    stage.redeploy()
    # As a run that was killed between the two switches leaves it: both run, one is switched.
    for one in stage.containers(f"{stage.name}-blue"):
        one.start()
    web = stage.of("web", f"{stage.name}-blue")[0]
    web.reload()
    port = web.ports["8080/tcp"][0]["HostPort"]
    proxy.register(f"{stage.name}.web", f"http://127.0.0.1:{port}")

    whole = stage.redeploy()
    assert (whole["changed"], whole["project"]) == (True, f"{stage.name}-green")
    assert {one.status for one in stage.containers(f"{stage.name}-blue")} == {"exited"}
    assert stage.redeploy()["changed"] is False


def lost(stage: Stage, image: str, proxy: Proxy, *, tried: bool) -> list[tuple[str, str]]:
    """Leave both projects running without a route, as a killed run does and a router that forgets.

    :param tried: whether the run was killed before the newer one could have had any traffic.
    """
    for version in ("v1", "v2"):
        stage.write(both(image, version, restart="always"))
        stage.redeploy()
    for one in stage.of("api", f"{stage.name}-green") if tried else ():
        one.update(restart_policy={"Name": "no"})
    for one in stage.containers(f"{stage.name}-blue"):
        one.start()
    for one in stage.of("api", f"{stage.name}-blue"):
        one.update(restart_policy={"Name": "always"})
    for name in ("web", "api"):
        proxy.api("DELETE", f"/{stage.name}.{name}")
        assert proxy.current(f"{stage.name}.{name}") is None
    return everything(stage)


def test_without_a_route_the_project_that_never_had_traffic_is_replaced(
    stage: Stage, image: str, proxy: Proxy
) -> None:
    lost(stage, image, proxy, tried=True)
    blue = [(one.id, one.status) for one in stage.containers(f"{stage.name}-blue")]
    stage.write(both(image, "v3", restart="always", environment={"MODE": "broken"}))
    failed = stage.refused()
    assert f"{stage.name}-green was removed" in failed["state"]
    assert [(one.id, one.status) for one in stage.containers(f"{stage.name}-blue")] == blue
    stage.write(both(image, "v3", restart="always"))
    assert stage.redeploy()["project"] == f"{stage.name}-green"
    assert {one.status for one in stage.containers(f"{stage.name}-blue")} == {"exited"}


def test_without_a_route_neither_of_two_that_may_be_live_is_removed(
    stage: Stage, image: str, proxy: Proxy
) -> None:
    before = lost(stage, image, proxy, tried=False)
    stage.write(both(image, "v3", restart="always"))
    for options in ({}, {"_ansible_check_mode": True}):
        failed = stage.refused(**options)
        assert failed["kind"] == "split"
        assert f"{stage.name}-blue and {stage.name}-green run, and the router" in failed["msg"]
        assert "proxy_register" in failed["next_step"]
        assert everything(stage) == before
    # What the killed run wanted needs nobody removed.
    stage.write(both(image, "v2", restart="always"))
    whole = stage.redeploy()
    assert (whole["changed"], whole["project"]) == (True, f"{stage.name}-green")
    assert {one.status for one in stage.containers(f"{stage.name}-blue")} == {"exited"}
    assert stage.redeploy()["changed"] is False
