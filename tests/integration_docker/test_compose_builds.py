# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``compose_redeploy`` and the images that a project builds, on the engine."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from tests.support.compose import Stage
from tests.support.engine import BASE_IMAGE

SLEEP = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]


def context(stage: Stage, dockerfile: str, name: str = "app", **files: str) -> str:
    """Write what an image is built from."""
    folder = stage.folder / name
    folder.mkdir(exist_ok=True)
    for file, text in {"Dockerfile": dockerfile, **files}.items():
        (folder / file).write_text(text)
    return f"./{name}"


def sleeper(**more: Any) -> dict[str, Any]:
    return {"command": [SLEEP[0], SLEEP[1], SLEEP[2].replace("$", "$$")], **more}


def up(stage: Stage, *arguments: str) -> str:
    """What plain compose does with the project."""
    command = ["docker", "compose", "-p", stage.name, "up", "-d", *arguments]
    done = subprocess.run(command, cwd=stage.folder, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def ids(stage: Stage) -> set[str]:
    return {str(one.id) for one in stage.containers()}


COPIED = f"FROM {BASE_IMAGE}\nCOPY data /data\n"


@pytest.mark.parametrize("buildkit", ["1", "0"])
def test_only_what_a_build_changes_is_replaced(
    stage: Stage, buildkit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_BUILDKIT", buildkit)
    build = context(stage, COPIED, data="one")
    stage.write({"app": sleeper(build=build), "other": sleeper(image=BASE_IMAGE)})
    assert stage.redeploy()["changed"]
    before = ids(stage)

    # What no COPY takes, and a new time of what it takes, change nothing.
    (stage.folder / "app" / "README.md").write_text("read me")
    os.utime(stage.folder / "app" / "data")
    again = stage.redeploy()
    assert again["changed"] is False, again
    assert [one["step"] for one in again["steps"]] == [f"build the image {stage.name}-app"]
    assert ids(stage) == before
    up(stage)
    assert ids(stage) == before

    (stage.folder / "app" / "data").write_text("two")
    foreseen = stage.redeploy(_ansible_check_mode=True, _ansible_diff=True)
    # Only the builder knows.
    assert foreseen["changed"] is False
    assert foreseen["would_build"] == [f"{stage.name}-app"]
    assert "would build" in foreseen["diff"]["after"]
    assert f"would build {stage.name}-app" in str(foreseen["warnings"])
    assert ids(stage) == before
    done = stage.redeploy()
    assert done["changed"]
    assert [one["service"] for one in done["previous"]] == ["app"]
    assert "would build" not in done["diff"]["after"]
    assert stage.of("app")[0].exec_run(["cat", "/data"]).output == b"two"


def test_check_mode_knows_that_a_missing_image_changes_something(stage: Stage) -> None:
    stage.write({"app": sleeper(build=context(stage, COPIED, data="one"))})
    foreseen = stage.redeploy(_ansible_check_mode=True)
    assert (foreseen["changed"], foreseen["would_build"]) == (True, [f"{stage.name}-app"])
    assert stage.containers() == []
    assert not stage.engine.images.list(f"{stage.name}-app")


def test_what_only_the_builder_reads_right_is_built(stage: Stage) -> None:
    """Variables in FROM, a stage by platform, a target, arguments, secrets, text in the file."""
    dockerfile = (
        f"ARG TAG\nFROM {BASE_IMAGE.rpartition(':')[0]}:${{TAG:-{BASE_IMAGE.rpartition(':')[2]}}}"
        " AS build-amd64\nRUN echo x > /arch\n"
        f"FROM {BASE_IMAGE} AS build-arm64\nRUN echo y > /arch\n"
        "FROM build-${TARGETARCH} AS wanted\nARG WORD\nRUN echo $WORD > /word\n"
        "RUN --mount=type=secret,id=token test -s /run/secrets/token\n"
        "FROM wanted AS other\nRUN echo other > /word\n"
    )
    (stage.folder / "token").write_text("hunter2-is-no-password")
    inline = f"FROM {BASE_IMAGE}\nRUN echo inline > /word\n"
    stage.write(
        {
            "app": sleeper(
                build={
                    "context": context(stage, dockerfile),
                    "target": "wanted",
                    "args": {"WORD": "said"},
                    "secrets": ["token"],
                }
            ),
            "inline": sleeper(build={"context": "./app", "dockerfile_inline": inline}),
        },
        secrets={"token": {"file": "./token"}},
    )
    done = stage.redeploy()
    assert "hunter2" not in str(done)
    assert stage.of("app")[0].exec_run(["cat", "/word"]).output == b"said\n"
    assert stage.of("inline")[0].exec_run(["cat", "/word"]).output == b"inline\n"
    assert stage.redeploy()["changed"] is False


def test_an_image_that_one_service_builds_and_others_name_is_built(stage: Stage) -> None:
    build = context(stage, COPIED, data="one")
    image = f"{stage.name}-shared"
    stage.write(
        {
            "web": sleeper(image=image, build=build),
            "worker": sleeper(image=f"{image}:latest"),
            "cron": sleeper(image=image, build=build),
        }
    )
    done = stage.redeploy(services=["worker"])
    assert [one["service"] for one in done["containers"]] == ["worker"]
    done = stage.redeploy()
    assert len({one["image_id"] for one in done["containers"]}) == 1
    before = ids(stage)
    assert stage.redeploy()["changed"] is False
    up(stage)
    assert ids(stage) == before


def test_a_failed_build_says_why_and_changes_nothing(stage: Stage) -> None:
    build = context(stage, COPIED, data="one")
    stage.write({"app": sleeper(build=build)})
    stage.redeploy()
    before, image = stage.state(), stage.engine.images.get(f"{stage.name}-app").id
    context(stage, COPIED + "RUN echo no such thing >&2 && exit 7\n")
    failed = stage.refused()
    assert "could not build the image" in failed["msg"]
    assert "exit code: 7" in failed["msg"] or any("7" in line for line in failed["log"])
    assert stage.state() == before
    assert stage.engine.images.get(f"{stage.name}-app").id == image


def test_a_candidate_of_a_bad_image_gives_the_name_back(stage: Stage) -> None:
    build = context(stage, COPIED, data="one")
    stage.write({"app": sleeper(build=build)})
    stage.redeploy()
    before, image = stage.state(), stage.engine.images.get(f"{stage.name}-app").id
    context(stage, COPIED + 'ENTRYPOINT ["/bin/false"]\n')
    assert "serves again" in stage.refused()["state"]
    assert stage.state() == before
    assert stage.engine.images.get(f"{stage.name}-app").id == image


@pytest.mark.parametrize(
    ("build", "said"),
    [
        ("./none", "none"),
        ({"context": "./app", "additional_contexts": {"base": "service:base"}}, "base"),
        ({"context": "./app", "ssh": ["default"]}, "SSH_AUTH_SOCK"),
    ],
)
def test_what_the_builder_refuses_is_refused_in_its_words(
    stage: Stage, build: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    context(stage, COPIED, data="one")
    stage.write({"app": sleeper(build=build), "base": sleeper(build="./app")})
    failed = stage.refused()
    # The base's own build may have succeeded, depending on the version of compose.
    assert said in failed["msg"] + "".join(failed["log"])
    assert stage.containers() == []


@pytest.mark.parametrize("policy", ["missing", "never"])
def test_no_build_is_done_that_is_not_wanted(stage: Stage, policy: str) -> None:
    stage.write({"app": sleeper(build=context(stage, COPIED, data="one"))})
    if policy == "never":
        failed = stage.refused(build=policy)
        assert "must not be built" in failed["msg"]
        assert stage.containers() == []
    stage.redeploy(build="missing")
    before = ids(stage)
    context(stage, "FROM no-such-image\n")
    again = stage.redeploy(build=policy)
    assert (again["changed"], again["steps"]) == (False, [])
    assert ids(stage) == before


def test_what_the_files_pull_is_pulled_by_their_policy(stage: Stage) -> None:
    """No registry answers: what is pulled fails, what is not pulled starts."""
    image = "127.0.0.1:9/none"
    stage.engine.images.get(BASE_IMAGE).tag(f"{stage.name}-local")
    stage.write({"app": sleeper(image=f"{stage.name}-local", pull_policy="never")})
    assert stage.redeploy(pull="always")["changed"]
    stage.write({"app": sleeper(image=f"{stage.name}-none", pull_policy="never")})
    assert "must not be pulled" in stage.refused()["msg"]
    stage.engine.images.get(BASE_IMAGE).tag(image, "1")
    try:
        stage.write({"app": sleeper(image=f"{image}:1", pull_policy="always")})
        assert "could not pull" in stage.refused()["msg"]
        assert stage.redeploy(pull="missing")["changed"]
        # What can be built is, if it cannot be pulled.
        build = context(stage, COPIED, data="one")
        stage.write({"app": sleeper(image=f"{stage.name}-b", build=build, pull_policy="missing")})
        assert stage.redeploy()["changed"]
        assert stage.redeploy()["changed"] is False
    finally:
        stage.engine.images.remove(f"{image}:1", force=True)
