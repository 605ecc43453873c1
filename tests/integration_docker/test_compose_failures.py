# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong with a compose redeploy leaves the very same containers serving."""

from __future__ import annotations

import signal
import socket
import threading
from typing import Any

import pytest

from tests.support.compose import Stage, relayed
from tests.support.engine import BASE_IMAGE
from tests.support.modules import RunningModule
from tests.support.waiting import eventually

SLEEP = "trap 'exit 0' TERM; sleep 1000 & wait"
# It takes its time to become healthy, so that there is a moment in which to interfere.
SLOW = {"test": ["CMD", "test", "-e", "/ready"], "interval": "1s", "retries": 90}


def web(version: str, **more: Any) -> dict[str, Any]:
    return {
        "image": BASE_IMAGE,
        "command": ["sh", "-c", SLEEP],
        "environment": {"VERSION": version},
        **more,
    }


def deployed(stage: Stage) -> list[tuple[str, str, str]]:
    """A first version; what then stands."""
    stage.write({"web": web("v1"), "db": web("v1")})
    stage.redeploy()
    return stage.state()


def midway(stage: Stage, **options: Any) -> RunningModule:
    """Start a redeploy whose new container is not healthy; return once the old one is stopped."""
    before = {one.id for one in stage.containers()}
    stage.write({"web": web("v2", healthcheck=SLOW), "db": web("v1")})
    running = stage.start(**options)

    def new_runs() -> bool:
        return any(one.id not in before and one.status == "running" for one in stage.of("web"))

    eventually(new_runs, "the new container to run")
    return running


def test_a_signal_midway_is_undone(stage: Stage) -> None:
    before = deployed(stage)
    with midway(stage) as running:
        running.process.send_signal(signal.SIGTERM)
        ended = running.end()
    assert ended.result["kind"] == "interrupted", ended.output
    assert "serves again" in ended.result["state"]
    assert stage.state() == before


def test_what_was_killed_midway_is_made_whole_by_the_next_run(stage: Stage) -> None:
    before = deployed(stage)
    with midway(stage) as running:
        running.process.kill()
        running.process.wait()
    (new,) = [one for one in stage.of("web") if one.status == "running"]
    # It is healthy by then: the next run keeps it, and removes what it followed.
    new.exec_run(["touch", "/ready"])
    done = stage.redeploy()
    assert done["changed"]
    assert [one.id for one in stage.of("web")] == [new.id]
    assert {one.id for one in stage.of("db")} <= {one[0] for one in before}
    assert stage.redeploy()["changed"] is False


def test_what_was_killed_midway_and_is_wanted_no_more_is_replaced(stage: Stage) -> None:
    deployed(stage)
    with midway(stage) as running:
        running.process.kill()
        running.process.wait()
    stage.write({"web": web("v3"), "db": web("v1")})
    done = stage.redeploy()
    assert [one["service"] for one in done["containers"]].count("web") == 1
    (new,) = stage.of("web")
    assert "VERSION=v3" in new.attrs["Config"]["Env"]
    assert stage.redeploy()["changed"] is False


# It ends when it may: a file in it keeps it from that.
HELD = "trap 'while [ -e /hold ]; do sleep 0.1; done; exit 0' TERM; sleep 1000 & wait; wait"


def several(version: str, **more: Any) -> dict[str, Any]:
    return {
        "web": web(version, scale=3, command=["sh", "-c", HELD], stop_grace_period="6s", **more),
        "job": web("v1", command=["true"]),
    }


def killed_between_stops(stage: Stage, restart: str) -> list[str]:
    """Kill a run that has stopped one of three containers; return the ids of all three."""
    stage.options["run_once_services"] = ["job"]
    stage.write(several("v1", restart=restart))
    stage.redeploy()
    former = stage.of("web")
    for one in former[1:]:
        one.exec_run(["touch", "/hold"])
    stage.write(several("v2", restart=restart))
    with stage.start() as running:
        eventually(
            lambda: any(
                one.id == former[0].id and one.status == "exited" for one in stage.of("web")
            ),
            "the first container to end",
        )
        running.process.kill()
        running.process.wait()
    return sorted(str(one.id) for one in former)


def up(stage: Stage) -> list[str]:
    return sorted(str(one.id) for one in stage.of("web") if one.status == "running")


@pytest.mark.parametrize(
    ("how", "restart"),
    [
        ("the others run", "unless-stopped"),
        ("the engine stops the others", "no"),
        ("one new one was started", "no"),
    ],
)
def test_what_was_killed_between_three_stops_runs_again_after_a_failure(
    stage: Stage, restart: str, how: str
) -> None:
    former = killed_between_stops(stage, restart)
    eventually(lambda: not up(stage), "the engine to stop the others")
    if how == "the others run":
        for one in former[1:]:
            other = stage.engine.containers.get(one)
            # The killed run may have come that far with one of them.
            other.update(restart_policy={"Name": restart})
            other.start()
    elif how == "one new one was started":
        next(one for one in stage.of("web") if one.status == "created").start()
    (job,) = stage.of("job")
    ended = job.attrs["State"]["FinishedAt"]
    stage.write(several("v3", restart=restart, entrypoint=["false"]))
    failed = stage.refused()
    assert "serve again" in failed["state"]
    assert up(stage) == former
    seen = [one for one in stage.of("web") if one.status == "running"]
    assert {one.attrs["HostConfig"]["RestartPolicy"]["Name"] for one in seen} == {restart}
    job.reload()
    assert (job.status, job.attrs["State"]["FinishedAt"]) == ("exited", ended)

    stage.write(several("v4", restart=restart))
    stage.redeploy()
    assert len(up(stage)) == len(stage.of("web")) == 3
    assert not set(up(stage)) & set(former)


def test_what_was_killed_between_three_stops_is_made_whole_by_the_next_run(stage: Stage) -> None:
    former = killed_between_stops(stage, "always")
    stage.redeploy()
    assert len(up(stage)) == len(stage.of("web")) == 3
    assert not set(up(stage)) & set(former)
    assert stage.redeploy()["changed"] is False


def test_an_engine_that_goes_away_midway_and_comes_back(stage: Stage) -> None:
    before = deployed(stage)
    with relayed() as relay, midway(stage, docker_host=relay.host, engine_timeout=5) as running:
        relay.cut()
        threading.Timer(3.0, relay.mend).start()
        ended = running.end()
    assert ended.result["kind"] == "engine_away", ended.output
    assert "serves again" in ended.result["state"]
    assert stage.state() == before


def test_an_engine_that_is_away_is_named(stage: Stage) -> None:
    stage.write({"web": web("v1")})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    failed = stage.refused(docker_host=host)
    assert failed["kind"] == "engine_away"
    assert host in failed["msg"]


def test_a_port_that_somebody_has_taken(stage: Stage) -> None:
    before = deployed(stage)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stage.write({"web": web("v2", ports=[f"127.0.0.1:{port}:80"]), "db": web("v2")})
        failed = stage.refused()
    assert f"127.0.0.1:{port}" in failed["msg"], failed
    assert "web" in failed["msg"]
    assert stage.state() == before


def test_images_that_cannot_be_got(stage: Stage) -> None:
    before = deployed(stage)
    missing = "127.0.0.1:9/nobody/nothing:v0"
    stage.write({"web": web("v2", image=missing), "db": web("v2")})
    failed = stage.refused()
    assert missing in failed["msg"]
    failed = stage.refused(pull="never")
    assert (failed["kind"], missing in failed["msg"]) == ("image_missing", True)

    built = stage.folder / "built"
    built.mkdir()
    (built / "Dockerfile").write_text(f"FROM {BASE_IMAGE}\nRUN echo it breaks && false\n")
    stage.write({"web": {**web("v2"), "build": "./built", "image": f"{stage.name}-x"}})
    foreseen = stage.redeploy(_ansible_check_mode=True)
    assert foreseen["changed"]
    failed = stage.refused()
    assert "could not build" in failed["msg"]
    assert any("it breaks" in line for line in failed["log"]), failed
    assert stage.state() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"project_src": "/no/such/folder"}, "no folder"),
        ({"files": ["none.yaml"]}, "there is no file"),
        ({"services": ["nobody"]}, "services names nobody"),
        ({"static_services": ["nobody"]}, "static_services names nobody"),
        ({"wait_timeout": 0}, "wait_timeout"),
        ({"keep_releases": -1}, "keep_releases"),
        ({"state": "absent", "services": ["web"]}, "takes down all of the project"),
        ({"remove_volumes": True}, "remove_volumes is for state absent"),
        ({"strategy": "blue_green"}, "router"),
        (
            {
                "router": {
                    "api_url": "http://127.0.0.1:9",
                    "services": [{"service": "x", "port": 1}],
                }
            },
            "router.services names x",
        ),
    ],
)
def test_options_that_cannot_be_used(stage: Stage, options: dict[str, Any], words: str) -> None:
    stage.write({"web": web("v1")})
    failed = stage.refused(**options)
    assert words in failed["msg"]
    assert stage.containers() == []


def test_a_file_that_is_no_compose_file(stage: Stage) -> None:
    (stage.folder / "compose.yaml").write_text("services: [1, 2\n")
    failed = stage.refused()
    assert failed["kind"] == "compose"
    assert "could not read the compose files" in failed["msg"]
