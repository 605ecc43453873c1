# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for containers on the real engine, and what is said of those that fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from docker import DockerClient

from ansible_collections.immutable.delivery.plugins.module_utils.deadline import Deadline
from ansible_collections.immutable.delivery.plugins.module_utils.engine.client import connect
from ansible_collections.immutable.delivery.plugins.module_utils.engine.containers import (
    NO_RESTART,
    Containers,
)
from ansible_collections.immutable.delivery.plugins.module_utils.engine.errors import (
    EngineAway,
    Missing,
)
from ansible_collections.immutable.delivery.plugins.module_utils.engine.health import (
    ContainerFailed,
    check_unchanged,
    soak,
    wait_well,
)
from ansible_collections.immutable.delivery.plugins.module_utils.engine.inspect import inspect
from ansible_collections.immutable.delivery.plugins.module_utils.engine.options import Connection
from tests.support.engine import BASE_IMAGE, remove_all
from tests.support.waiting import eventually

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
    assert caught.value.message == f"the container {prefix}-ended ended with exit code 3"
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
    with pytest.raises(ContainerFailed, match="is unhealthy") as caught:
        wait_well(engine, [ill], Deadline(300))
    assert caught.value.log == ["cannot reach the database"]


def test_one_that_is_started_again_and_again_is_given_up(
    engine: DockerClient, start: Start
) -> None:
    looping = start("looping", "exit 5", restart_policy={"Name": "always"})
    with pytest.raises(ContainerFailed, match=r"exit code 5, and was restarted \d+ times"):
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


# It notices that it is asked to end, and takes its time.
SLOW = "trap 'sleep 3; exit 0' TERM; while :; do sleep 0.1; done"


def test_an_interrupted_stop_is_undone_once_it_is_over(engine: DockerClient, start: Start) -> None:
    slow = start("stopping", SLOW, restart_policy={"Name": "unless-stopped"})
    containers = Containers(engine)
    # As a call that a signal breaks off: the engine goes on.
    stopping = threading.Thread(target=containers.stop_and_keep, args=(slow, 20))
    stopping.start()
    eventually(lambda: "kill" in actions(engine, slow), "the stop")
    assert inspect(engine, slow).running
    containers.start_again(slow, 20, restart="unless-stopped")
    stopping.join()
    seen = inspect(engine, slow)
    assert seen.running and seen.finished > seen.created and seen.started > seen.finished


def actions(engine: DockerClient, container: str) -> list[str]:
    """What has happened to a container so far."""
    filters = {"container": container}
    now = int(time.time())
    events = engine.events(since=0, until=now, filters=filters, decode=True)
    return [str(event["Action"]) for event in events]


def test_what_is_kept_has_no_restart_policy_until_it_is_started_again(
    engine: DockerClient, start: Start
) -> None:
    policy = {"Name": "on-failure", "MaximumRetryCount": 7}
    kept = start("kept", "sleep 60", restart_policy=policy)
    containers = Containers(engine)
    before = inspect(engine, kept)
    assert before.restart == "on-failure:7"
    containers.stop_and_keep(kept, 0)
    assert inspect(engine, kept).restart == NO_RESTART
    containers.start_again(kept, 0, restart=before.restart)
    after = inspect(engine, kept)
    assert (after.running, after.restart) == (True, "on-failure:7")


def test_one_that_restarts_again_and_again_can_be_stopped_for_good(
    engine: DockerClient, start: Start
) -> None:
    looping = start("crashing", "exit 4", restart_policy={"Name": "always"})
    eventually(lambda: inspect(engine, looping).restarts >= 2, "restarts")
    containers = Containers(engine)
    containers.stop_and_keep(looping, 1)
    seen = inspect(engine, looping)
    assert (seen.alive, seen.restart) == (False, NO_RESTART)
    time.sleep(1.5)
    assert not inspect(engine, looping).alive


def test_the_soak_names_the_code_of_an_exit_that_was_followed_by_a_restart(
    engine: DockerClient, start: Start
) -> None:
    command = "test -e /seen && exec sleep 60; touch /seen; sleep 2; echo no more; exit 3"
    one = start("later", command, restart_policy={"Name": "always"})
    healthy = [inspect(engine, one)]
    check_unchanged(engine, healthy)
    with pytest.raises(ContainerFailed, match="exit code 3") as failure:
        soak(engine, healthy, 30)
    assert "no more" in failure.value.log


def test_the_soak_needs_answers_through_the_router(engine: DockerClient, start: Start) -> None:
    healthy = [inspect(engine, start("quiet", "sleep 60"))]
    answers = iter(["status 502", "", "status 502", "status 502", "status 503"])
    with pytest.raises(ContainerFailed, match=r"through the router.*status 503"):
        soak(engine, healthy, 60, ask=lambda: next(answers))
    soak(engine, healthy, 1, ask=lambda: "")


def test_one_that_exits_until_it_can_start_is_started_again(
    engine: DockerClient, start: Start
) -> None:
    command = "echo x >>/tries; test $(wc -l </tries) -gt 2 && exec sleep 60; exit 1"
    waiting = start("waiting", command)
    seen = wait_well(engine, [waiting], Deadline(30), restarting=[waiting])
    assert seen[0].running
    never = start("never", "exit 6")
    with pytest.raises(ContainerFailed, match="exit code 6, and was restarted 3 times"):
        wait_well(engine, [never], Deadline(30), restarting=[never])
