# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release is watched with the traffic: it is called proved only then, and undone until then."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from tests.support.actor import actor_image, version_at
from tests.support.haproxy import HaProxyServer, haproxy_server
from tests.support.modules import RunningModule
from tests.support.routed_service import RoutedService, policy_of
from tests.support.router_daemon import free_port
from tests.support.waiting import eventually

OWN, KEPT = "unless-stopped", ("exited", "no")
LIVE = ("running", OWN)
PATIENCE = 120.0
# Longer than a test takes.
LONG = 300.0


@pytest.fixture(scope="module")
def haproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HaProxyServer]:
    with haproxy_server(tmp_path_factory.mktemp("haproxy")) as server:
        yield server


@pytest.fixture
def service(
    engine: DockerClient,
    prefix: str,
    haproxy: HaProxyServer,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[RoutedService]:
    name = f"{prefix}-{abs(hash(request.node.name)) % 10**6}"
    found = RoutedService(engine, name, actor_image(), tmp_path, haproxy)
    yield found
    found.run(state="absent")
    found.remove()


def names(service: RoutedService, version: str) -> list[str]:
    return [str(one.name) for one in service.containers(version)]


def in_its_soak(service: RoutedService, running: RunningModule, version: str) -> None:
    """Wait until that version has the traffic while its deploy goes on."""
    eventually(lambda: service.version() == version, f"{version} has the traffic", PATIENCE)
    assert running.process.poll() is None


def test_one_that_ends_while_it_is_watched(service: RoutedService) -> None:
    service.run("v1")
    (old,) = service.containers("v1")
    failed = service.fail("v2", environment={"CRASH": "traffic:1"}, prove_path="/1", soak=LONG)
    assert failed["kind"] == "container"
    assert "exit code 3" in failed["msg"] and "somebody" not in failed["msg"]
    assert any("v2 crashes" in line for line in failed["log"])
    assert str(old.name) in failed["state"]
    assert service.version() == "v1"
    assert service.found() == {"v1": LIVE}
    assert [one.id for one in service.containers()] == [old.id]


def test_a_signal_while_it_is_watched(service: RoutedService) -> None:
    service.run("v1")
    with service.start("v2", soak=LONG) as running:
        in_its_soak(service, running, "v2")
        running.process.send_signal(signal.SIGTERM)
        ended = running.end()
    assert ended.result["kind"] == "interrupted", ended.output
    assert service.version() == "v1" and service.found() == {"v1": LIVE}


def killed_in_its_soak(service: RoutedService, found: dict[str, tuple[str, str]]) -> None:
    with service.start("v2", soak=LONG) as running:
        in_its_soak(service, running, "v2")
        eventually(lambda: service.found() == found, f"{found}", PATIENCE)
        running.process.kill()
        running.process.wait()


def test_what_was_killed_in_its_soak_is_watched_again(service: RoutedService) -> None:
    service.run("v1")
    killed_in_its_soak(service, {"v1": LIVE, "v2": LIVE})
    (name,) = names(service, "v2")
    assert name.endswith(".candidate")
    # It fails the second time, and who was proved has the traffic again.
    (watched,) = service.containers("v2")
    with service.start("v2", soak=LONG, prove_path="/verify") as running:
        asked = b"was asked for /verify"
        eventually(lambda: asked in watched.logs(), "the second run to watch it", PATIENCE)
        watched.kill()
        ended = running.end()
    assert ended.result["kind"] == "container", ended.output
    assert "exit code 137" in ended.result["msg"]
    assert service.version() == "v1"
    assert service.found()["v2"] == KEPT
    again = service.run("v2")
    assert again.result["changed"]
    assert service.found() == {"v1": KEPT, "v2": LIVE}
    assert not names(service, "v2")[0].endswith(".candidate")
    assert not service.run("v2").result["changed"]


@pytest.mark.parametrize("coming", ["v2", "v3"])
def test_what_was_killed_in_its_soak_and_crashes_loses_the_traffic(
    service: RoutedService, coming: str
) -> None:
    service.run("v1")
    crashing: dict[str, Any] = {"environment": {"CRASH": "traffic:8"}}
    with service.start("v2", soak=LONG, **crashing) as running:
        in_its_soak(service, running, "v2")
        running.process.kill()
        running.process.wait()
    eventually(lambda: restarts(service, "v2"), "the engine to start it again", PATIENCE)
    failed = service.fail(coming, environment={"CRASH": "start"}, soak=LONG)
    assert failed["kind"] == "container" and "exit code 3" in failed["msg"]
    (name,) = names(service, "v1")
    assert failed["state"].startswith(f"Live again: {name} at http://")
    assert service.version() == "v1" and service.found()["v1"] == LIVE


def with_fixed_port(service: RoutedService) -> int:
    port = free_port()
    service.url = f"http://127.0.0.1:{port}"
    service.options.update(
        published_port=port, router=None, api_url=None, haproxy=None, route=None, rehearse=False
    )
    return port


@pytest.mark.parametrize("fixed", [False, True])
def test_what_is_well_is_not_given_up_for_one_that_does_not_serve_any_more(
    service: RoutedService, tmp_path: Path, fixed: bool
) -> None:
    port = with_fixed_port(service) if fixed else 0

    def version() -> str:
        return version_at(port) if fixed else service.version()

    once = tmp_path / "once"
    once.mkdir()
    command = "test -e /once/over && exit 7; exec python3 -m tests.support.actor_image.actor"
    service.run("v1", volumes=[f"{once}:/once:ro"], command=["sh", "-c", command])
    killed_in_its_soak(service, {"v1": KEPT if fixed else LIVE, "v2": LIVE})
    (once / "over").touch()
    if not fixed:
        (former,) = service.containers("v1")
        os.kill(former.attrs["State"]["Pid"], signal.SIGSTOP)
    # Nothing is wrong with the new one.
    with service.start("v2", soak=LONG) as running:
        time.sleep(5.0)
        running.process.send_signal(signal.SIGTERM)
        ended = running.end()
    assert ended.result["kind"] == "interrupted", ended.output
    assert "is not proved yet" in ended.result["state"] and version() == "v2"
    assert service.found()["v2"] == LIVE
    if not fixed:
        return
    # And if it ends, it is started again: it is better than nobody.
    (watched,) = service.containers("v2")
    with service.start("v2", soak=LONG) as running:
        time.sleep(5.0)
        watched.kill()
        ended = running.end()
    assert ended.result["kind"] == "container" and "exit code 7" in ended.result["state"]
    assert version() == "v2" and service.found() == {"v1": KEPT, "v2": LIVE}


def test_a_fixed_port_without_a_router(service: RoutedService) -> None:
    port = with_fixed_port(service)
    service.run("v1")
    failed = service.fail("v2", environment={"CRASH": "started:3"}, soak=LONG)
    assert "exit code 3" in failed["msg"]
    assert f"-1 at http://127.0.0.1:{port}" in failed["state"]
    assert version_at(port) == "v1" and service.found() == {"v1": LIVE}
    killed_in_its_soak(service, {"v1": KEPT, "v2": LIVE})
    service.run("v2")
    assert service.found() == {"v1": KEPT, "v2": LIVE}
    assert not names(service, "v2")[0].endswith(".candidate")


def test_back_from_one_that_crashed_after_its_soak(service: RoutedService) -> None:
    service.run("v1")
    service.run("v2", environment={"CRASH": "traffic:1"}, soak=0)
    eventually(lambda: not service.version(), "v2 to crash", PATIENCE)
    # It is at another port now, where the router does not look for it.
    eventually(lambda: restarts(service, "v2"), "the engine to start it again", PATIENCE)
    back = service.run(state="rolled_back")
    assert back.result["changed"]
    assert service.version() == "v1"
    assert service.found() == {"v1": LIVE, "v2": KEPT}
    assert not service.run(state="rolled_back").result["changed"]
    # Neither is it kept instead of the good one.
    service.run("v3")
    assert service.found() == {"v1": KEPT, "v3": LIVE}


def restarts(service: RoutedService, version: str) -> int:
    return sum(int(one.attrs["RestartCount"]) for one in service.containers(version))


def test_a_promotion_that_fails_in_its_soak(service: RoutedService) -> None:
    service.run("v1")
    crashing: dict[str, Any] = {"environment": {"CRASH": "traffic:1"}}
    service.run("v2", state="staged", **crashing)
    failed = service.fail(state="promoted", soak=LONG, prove_path="/1")
    assert "exit code 3" in failed["msg"]
    assert "The candidate is not staged any more." in failed["state"]
    assert service.version() == "v1"
    (candidate,) = service.containers("v2")
    assert str(candidate.name).endswith(".candidate") and policy_of(candidate) == "no"
