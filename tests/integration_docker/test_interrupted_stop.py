# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An interruption while the engine stops a container slowly: the former one serves afterwards.

A start is a no-op for a container that is about to end, so each test looks again once it is over.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from tests.support.actor import actor, actor_image, told_to_end, version_at
from tests.support.compose import Stage
from tests.support.engine import remove_all
from tests.support.modules import run_module, start_module
from tests.support.router_daemon import free_port
from tests.support.service import SERVICE_LABEL

# How long the former version goes on serving after SIGTERM.
SLOW_SECONDS = 8
SLOW = {"IGNORE_TERM": str(SLOW_SECONDS)}


@pytest.fixture(scope="module")
def image(engine: DockerClient) -> str:
    return actor_image()


@pytest.fixture
def stage(
    engine: DockerClient, prefix: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Stage]:
    folder = tmp_path / "project"
    folder.mkdir()
    staged = Stage(engine, f"{prefix}-{abs(hash(request.node.name)) % 10**6}", folder)
    yield staged
    remove_all(engine, staged.name)


def healthy(stage: Stage) -> list[tuple[str, str, str]]:
    """The containers that run: their ids, services and health."""
    return sorted(
        (str(one.id), str(one.name), one.attrs["State"]["Health"]["Status"])
        for one in stage.containers()
        if one.status == "running"
    )


@pytest.mark.parametrize(
    ("names", "number"),
    [(["web"], signal.SIGINT), (["web", "api"], signal.SIGTERM)],
    ids=["one service", "two services"],
)
def test_recreate(stage: Stage, image: str, names: list[str], number: signal.Signals) -> None:
    ports = {name: free_port() for name in names}

    def project(version: str) -> dict[str, Any]:
        # One of two ends at once: what was stopped and what is being stopped are both started.
        return {
            name: actor(
                image,
                version,
                ports=[f"127.0.0.1:{ports[name]}:8080"],
                environment=SLOW if name == "web" else {},
            )
            for name in names
        }

    stage.write(project("v1"))
    stage.redeploy()
    before = healthy(stage)
    stage.write(project("v2"))
    (web,) = stage.of("web")
    with stage.start() as running:
        told_to_end(web)
        began = time.monotonic()
        running.process.send_signal(number)
        ended = running.end()
    assert ended.result["kind"] == "interrupted", ended.output
    assert healthy(stage) == before
    time.sleep(max(0.0, began + SLOW_SECONDS + 2 - time.monotonic()))
    assert healthy(stage) == before
    assert {name: version_at(port) for name, port in ports.items()} == dict.fromkeys(names, "v1")
    assert stage.redeploy()["changed"]
    assert {name: version_at(port) for name, port in ports.items()} == dict.fromkeys(names, "v2")


def test_service_with_a_fixed_port(
    engine: DockerClient, prefix: str, image: str, tmp_path: Path
) -> None:
    name, port = f"{prefix}-fixed", free_port()

    def options(version: str) -> dict[str, Any]:
        return {
            "name": name,
            "image": image,
            "pull": "never",
            "container_port": 8080,
            "published_port": port,
            "bind_address": "127.0.0.1",
            "address": "127.0.0.1",
            "environment": {"VERSION": version, **SLOW},
            "health_path": "/health",
            "stop_timeout": 20,
            "rehearse": False,
        }

    def running_ids() -> list[str]:
        label = {"label": f"{SERVICE_LABEL}={name}"}
        return [str(one.id) for one in engine.containers.list(filters=label)]

    first = run_module(tmp_path, "service_deploy", options("v1"))
    try:
        assert first.code == 0, first.output
        (old,) = running_ids()
        with start_module(tmp_path, "service_deploy", options("v2")) as running:
            told_to_end(engine.containers.get(old))
            began = time.monotonic()
            running.process.send_signal(signal.SIGTERM)
            ended = running.end()
        assert ended.result["kind"] == "interrupted", ended.output
        assert running_ids() == [old]
        time.sleep(max(0.0, began + SLOW_SECONDS + 2 - time.monotonic()))
        assert running_ids() == [old]
        assert version_at(port) == "v1"
        again = run_module(tmp_path, "service_deploy", options("v2"))
        assert again.code == 0, again.output
        assert version_at(port) == "v2"
    finally:
        for one in engine.containers.list(all=True, filters={"label": f"{SERVICE_LABEL}={name}"}):
            one.remove(force=True, v=True)
