# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""New containers are watched for a while before the former ones are stopped or removed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from docker import DockerClient

from tests.support.actor import actor, actor_image
from tests.support.compose import Stage
from tests.support.engine import remove_all
from tests.support.proxy import Proxy, start_proxy
from tests.support.waiting import eventually

ANYWHERE = {"ports": ["127.0.0.1::8080"], "restart": "unless-stopped"}
# It crashes with exit code 3 a moment after the first request that came through the router.
CRASHES = {"CRASH": "traffic:1"}
SOAK = 20


@pytest.fixture(scope="module")
def image(engine: DockerClient) -> str:
    return actor_image()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    with start_proxy(tmp_path) as started:
        yield started


@pytest.fixture
def stage(
    engine: DockerClient, prefix: str, proxy: Proxy, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Stage]:
    folder = tmp_path / "project"
    folder.mkdir()
    name = f"{prefix}-{abs(hash(request.node.name)) % 10**6}"
    options = {
        "router": {
            "api_url": proxy.url,
            "services": [{"service": "web", "port": 8080, "name": name}],
            "prove_path": "/1",
            "drain_timeout": 5,
        }
    }
    staged = Stage(engine, name, folder, options)
    yield staged
    remove_all(engine, name)


def answer(proxy: Proxy, stage: Stage) -> tuple[int, str | None]:
    """What clients get through the router."""
    got = requests.get(f"{proxy.url}/{stage.name}/1", timeout=30)
    return got.status_code, got.headers.get("X-Version")


def seen(stage: Stage) -> set[tuple[str, str, str]]:
    """All containers of the project, in whichever colour: version, status, restart policy."""
    found = set()
    for project in (stage.name, f"{stage.name}-blue", f"{stage.name}-green"):
        for one in stage.containers(project):
            environment = dict(entry.partition("=")[::2] for entry in one.attrs["Config"]["Env"])
            policy = one.attrs["HostConfig"]["RestartPolicy"]["Name"]
            found.add((environment["VERSION"], str(one.status), policy or "no"))
    return found


def kill_in_its_soak(stage: Stage, proxy: Proxy) -> None:
    """Redeploy, and kill that once the new version has the traffic."""
    before = proxy.current(stage.name)
    with stage.start(soak=600) as running:
        eventually(
            lambda: proxy.current(stage.name) not in {before, None}, "the new version has traffic"
        )
        running.process.kill()
        running.process.wait()


@pytest.mark.parametrize("strategy", ["recreate", "rolling", "blue_green"])
def test_a_version_that_crashes_once_it_has_traffic_is_rolled_back(
    stage: Stage, image: str, proxy: Proxy, strategy: str
) -> None:
    stage.options["strategy"] = strategy
    stage.write({"web": actor(image, "v1", **ANYWHERE)})
    stage.redeploy()
    stage.write({"web": actor(image, "v2", environment=CRASHES, **ANYWHERE)})
    failed = stage.refused(soak=SOAK)
    assert "exit code 3" in failed["msg"] and "after it had been healthy" in failed["msg"], failed
    assert stage.name in failed["msg"]
    assert "v2 crashes" in " ".join(failed["log"]), failed
    assert failed["next_step"]
    if strategy != "blue_green":
        assert f"{stage.name}-web-1 serves again" in failed["state"]
    assert seen(stage) == {("v1", "running", "unless-stopped")}
    assert answer(proxy, stage) == (200, "v1")
    assert stage.run(soak=0, _ansible_check_mode=True).result["changed"]


@pytest.mark.parametrize("strategy", ["recreate", "rolling", "blue_green"])
@pytest.mark.parametrize("version", ["good", "bad"])
def test_a_run_that_is_killed_while_it_watches_is_made_whole_by_the_next(
    stage: Stage, image: str, proxy: Proxy, strategy: str, version: str
) -> None:
    stage.options["strategy"] = strategy
    stage.write({"web": actor(image, "v1", **ANYWHERE)})
    stage.redeploy()
    # Healthy until /watched is asked for: by the second run only.
    crash = {"CRASH": "watched:3"}
    stage.write({"web": actor(image, "v2", environment=crash, **ANYWHERE)})
    kill_in_its_soak(stage, proxy)
    former = {"recreate": ("v1", "exited", "no")}.get(strategy, ("v1", "running", "unless-stopped"))
    assert seen(stage) == {former, ("v2", "running", "unless-stopped")}
    if version == "good":
        done = stage.redeploy()
        assert any(step["step"].startswith("watch ") for step in done["steps"]), done["steps"]
        kept = {("v1", "exited", "no")} if strategy == "blue_green" else set()
        assert seen(stage) == {*kept, ("v2", "running", "unless-stopped")}
        assert answer(proxy, stage) == (200, "v2")
        assert stage.redeploy()["steps"] == []
        return
    # It watches what the killed run had not watched to its end.
    stage.options["router"]["prove_path"] = "/watched"
    failed = stage.refused(soak=SOAK)
    assert "exit code 3" in failed["msg"], failed
    assert seen(stage) == {("v1", "running", "unless-stopped")}
    assert answer(proxy, stage) == (200, "v1")


SERVE = "python3 -m tests.support.actor_image.actor"
# It cannot be started again once /data/bad is there; who ends the service leaves the container.
FRAIL = f"test -e /data/bad && exit 7; {SERVE} & exec sleep 10000"
END = """
import os, pathlib, signal
for one in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    if b"actor_image" in one.read_bytes() and int(one.parent.name) not in (1, os.getpid()):
        os.kill(int(one.parent.name), signal.SIGKILL)
"""


def interrupted(stage: Stage, path: str) -> dict[str, Any]:
    """Interrupt a run once it watches: it asks for that path."""
    projects = (stage.name, f"{stage.name}-green")
    router = {**stage.options["router"], "prove_path": path}
    with stage.start(soak=60, router=router) as running:
        eventually(
            lambda: any(
                f"was asked for {path}".encode() in one.logs()
                for project in projects
                for one in stage.containers(project)
            ),
            "it watches",
        )
        time.sleep(1)
        running.process.send_signal(signal.SIGTERM)
        return running.end().result


@pytest.mark.parametrize("strategy", ["recreate", "rolling", "blue_green"])
def test_the_only_version_that_serves_stays_although_no_run_has_watched_it_to_its_end(
    stage: Stage, image: str, proxy: Proxy, strategy: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    # What it mounts tells it what to do, and is no data.
    stage.options |= {"strategy": strategy, "shared": ["web"]}
    frail = actor(image, "v1", command=["sh", "-c", FRAIL], volumes=[f"{data}:/data"], **ANYWHERE)
    stage.write({"web": {**frail, "healthcheck": {"disable": True}}})
    stage.redeploy()
    crash = {"CRASH": "watched:8"}
    stage.write({"web": actor(image, "v2", environment=crash, **ANYWHERE)})
    kill_in_its_soak(stage, proxy)
    (data / "bad").touch()
    for project in (stage.name, f"{stage.name}-blue"):
        for one in stage.containers(project):
            if one.status == "running" and "VERSION=v1" in one.attrs["Config"]["Env"]:
                one.exec_run(["python3", "-c", END])
    left = seen(stage)
    if strategy == "blue_green":
        stage.write({"web": actor(image, "v3", **ANYWHERE)})
        said = interrupted(stage, "/test")
        assert "serves as before, and is not verified yet" in said["state"], said
        assert (answer(proxy, stage), seen(stage)) == ((200, "v2"), left)
        stage.write({"web": actor(image, "v2", environment=crash, **ANYWHERE)})
    said = interrupted(stage, "/verify")
    assert "serves as before, and is not verified yet" in said["state"], said
    assert (answer(proxy, stage), seen(stage)) == ((200, "v2"), left)
    # It crashes, and is restarted by the engine at another port: better than nothing.
    stage.options["router"]["prove_path"] = "/watched"
    failed = stage.refused(soak=SOAK)
    assert "exit code 3" in failed["msg"], failed
    assert "web is served by" in failed["state"], failed
    assert answer(proxy, stage) == (200, "v2")
    assert seen(stage) == left


def test_what_served_before_is_not_removed_for_a_third_version_until_the_second_is_proved(
    stage: Stage, image: str, proxy: Proxy
) -> None:
    stage.options["strategy"] = "blue_green"
    stage.write({"web": actor(image, "v1", **ANYWHERE)})
    stage.redeploy()
    crash = {"CRASH": "watched:3"}
    stage.write({"web": actor(image, "v2", environment=crash, **ANYWHERE)})
    kill_in_its_soak(stage, proxy)
    stage.write({"web": actor(image, "v3", **ANYWHERE)})
    stage.options["router"]["prove_path"] = "/watched"
    failed = stage.refused(soak=SOAK)
    assert "exit code 3" in failed["msg"], failed
    assert "has the traffic again" in failed["state"], failed
    assert answer(proxy, stage) == (200, "v1")
    stage.redeploy()
    assert answer(proxy, stage) == (200, "v3")
    assert ("v1", "exited", "no") in seen(stage)


def test_a_version_that_crashes_after_its_health_check_without_a_router(
    stage: Stage, image: str
) -> None:
    del stage.options["router"]
    stage.write({"web": actor(image, "v1"), "job": actor(image, "v1")})
    stage.redeploy()
    before = stage.state()
    crash = {"CRASH": "checked:4"}
    stage.write({"web": actor(image, "v2", environment=crash), "job": actor(image, "v2")})
    failed = stage.refused(soak=SOAK)
    assert "web" in failed["msg"] and "exit code 3" in failed["msg"], failed
    assert stage.state() == before


def test_a_service_that_is_scaled_to_0_keeps_its_route(
    stage: Stage, image: str, proxy: Proxy
) -> None:
    stage.write({"web": actor(image, "v1", **ANYWHERE)})
    stage.redeploy()
    stage.write({"web": actor(image, "v1", **ANYWHERE, scale=0)})
    for strategy in ("recreate", "rolling"):
        failed = stage.refused(strategy=strategy)
        assert "service web is scaled to 0" in failed["msg"]
        assert "proxy_register" in failed["next_step"]
        assert answer(proxy, stage) == (200, "v1")


def test_blue_green_awaits_a_dependency_that_exits_until_what_it_needs_is_there(
    stage: Stage, image: str, proxy: Proxy
) -> None:
    stage.options["strategy"] = "blue_green"
    first = "test -e /tmp/tried || { touch /tmp/tried; exit 3; }"
    serve = "exec python3 -m tests.support.actor_image.actor"
    app = actor(image, "v1", command=["sh", "-c", f"{first}; {serve}"])
    needs = {"depends_on": {"app": {"condition": "service_healthy"}}}
    stage.write(
        {"web": actor(image, "v1", **ANYWHERE, **needs), "app": {**app, "restart": "always"}}
    )
    stage.redeploy()
    assert answer(proxy, stage) == (200, "v1")
    assert seen(stage) == {
        ("v1", "running", "unless-stopped"),
        ("v1", "running", "always"),
    }
    assert stage.redeploy()["steps"] == []
