# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for containers on the real engine, and what is said of those that fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from docker import DockerClient

from ansible_collections.immutable.delivery.plugins.module_utils.deadline import Deadline
from ansible_collections.immutable.delivery.plugins.module_utils.engine.client import (
    EngineAway,
    Missing,
    connect,
)
from ansible_collections.immutable.delivery.plugins.module_utils.engine.health import (
    ContainerFailed,
    inspect,
    wait_well,
)
from ansible_collections.immutable.delivery.plugins.module_utils.engine.options import Connection
from tests.support.engine import BASE_IMAGE, remove_all

Start = Callable[..., str]
SECOND = 1_000_000_000  # the engine's API counts nanoseconds


@pytest.fixture
def start(engine: DockerClient, prefix: str) -> Start:
    """Starts a container with a shell command and returns its id."""

    def started(name: str, command: str, **options: Any) -> str:
        container = engine.containers.run(
            BASE_IMAGE,
            ["sh", "-c", command],
            name=f"{prefix}-{name}",
            detach=True,
            init=True,
            **options,
        )
        return str(container.id)

    return started


def check(command: str, retries: int = 1) -> dict[str, Any]:
    """A health check that is made every second."""
    return {"test": ["CMD-SHELL", command], "interval": SECOND, "retries": retries}


def test_one_that_gets_healthy_is_waited_for(engine: DockerClient, start: Start) -> None:
    late = start(
        "late",
        "sleep 1.5; touch /tmp/ready; sleep 60",
        healthcheck=check("test -e /tmp/ready", retries=50),
    )
    unchecked = start("unchecked", "sleep 60")
    seen = wait_well(engine, [late, unchecked], Deadline(60))
    assert [container.id for container in seen] == [late, unchecked]
    assert [container.health for container in seen] == ["healthy", ""]


def test_one_that_ends_is_told_with_its_last_lines_and_no_secret(
    engine: DockerClient, start: Start, prefix: str
) -> None:
    ended = start("ended", "echo key is hunter2-and-more; echo no plan gold; exit 3")
    with pytest.raises(ContainerFailed) as caught:
        wait_well(engine, [ended], Deadline(60), secrets=["hunter2", "hunter2-and-more", ""])
    assert str(caught.value) == (
        f"the container {prefix}-ended ended with exit code 3; its last lines were: "
        "key is ******** | no plan gold."
    )
    assert caught.value.log == ["key is ********", "no plan gold"]


def test_one_that_only_holds_data_is_well_once_it_ended(engine: DockerClient, start: Start) -> None:
    data = start("data", "true")
    (seen,) = wait_well(engine, [data], Deadline(60), ends=[data])
    assert (seen.status, seen.exit_code) == ("exited", 0)
    broken = start("broken-data", "exit 4")
    with pytest.raises(ContainerFailed, match="ended with exit code 4"):
        wait_well(engine, [broken], Deadline(60), ends=[broken])


def test_one_whose_check_fails_is_told_at_once(engine: DockerClient, start: Start) -> None:
    ill = start("ill", "echo cannot reach the database; sleep 60", healthcheck=check("false"))
    with pytest.raises(ContainerFailed, match="is unhealthy; its last lines were: cannot reach"):
        wait_well(engine, [ill], Deadline(300))


def test_one_that_is_started_again_and_again_is_given_up(
    engine: DockerClient, start: Start
) -> None:
    looping = start("looping", "exit 5", restart_policy={"Name": "always"})
    with pytest.raises(ContainerFailed, match=r"started again \d+ times \(exit code 5\)"):
        wait_well(engine, [looping], Deadline(300))


def test_time_runs_out_with_the_reason(engine: DockerClient, start: Start) -> None:
    slow = start("slow", "echo still loading; sleep 60", healthcheck=check("false", retries=100))
    with pytest.raises(ContainerFailed, match=r"not healthy within 2 s \(health check: starting\)"):
        wait_well(engine, [slow], Deadline(2))


def test_what_is_asked_besides_counts(engine: DockerClient, start: Start) -> None:
    running = start("asked", "sleep 60")
    answers = iter(["status 503", "status 503", ""])
    (seen,) = wait_well(engine, [running], Deadline(60), look_further=lambda _seen: next(answers))
    assert seen.id == running
    assert list(answers) == []


def test_one_that_somebody_removes_is_told(engine: DockerClient, start: Start) -> None:
    gone = start("gone", "sleep 60")
    engine.containers.get(gone).remove(force=True)
    with pytest.raises(ContainerFailed, match="was removed by somebody"):
        wait_well(engine, [gone], Deadline(60))
    with pytest.raises(Missing, match="could not inspect the container"):
        inspect(engine, gone)


def test_nothing_of_a_test_is_left_nor_a_volume_that_was_handed_over(
    engine: DockerClient, start: Start, prefix: str
) -> None:
    former = engine.containers.get(start("left-former", "sleep 60", volumes=["/kept"]))
    (volume,) = (mount["Name"] for mount in former.attrs["Mounts"])
    start("left-latter", "sleep 60", volumes={volume: {"bind": "/kept"}})
    remove_all(engine, f"{prefix}-left")
    assert engine.containers.list(all=True, filters={"name": f"{prefix}-left"}) == []
    assert volume not in [one.name for one in engine.volumes.list()]


def test_an_engine_that_is_not_there_is_named() -> None:
    with pytest.raises(EngineAway, match=r"tcp://127\.0\.0\.1:1.*Connection refused.*run this"):
        connect(Connection(host="tcp://127.0.0.1:1"))
