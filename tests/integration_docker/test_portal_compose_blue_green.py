# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guarded deploy between two compose projects, as `inventories/docker` does it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
import requests
from docker import DockerClient

from tests.support.lab import begun, kill_at
from tests.support.portal_compose import API_HOST, APPS, KEY, STATIC, Stack, now
from tests.support.waiting import eventually

DEPLOY = "deploy.yml"


@pytest.fixture(scope="module")
def stack(
    engine: DockerClient,
    prefix: str,
    app_image: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    """A lab with v23 live."""
    for app in APPS:
        app_image(app)
    stack = Stack(engine, tmp_path_factory.mktemp("blue-green") / "lab", prefix)
    try:
        stack.play("playbooks/docker_lab_up.yml").ok()
        yield stack
    finally:
        stack.play("playbooks/docker_lab_down.yml").ok()
    assert stack.projects == []
    for output in stack.outputs:
        assert KEY not in output


def proxy(stack: Stack) -> str:
    return str(json.loads((stack.folder / "proxy" / "ready.json").read_text())["url"])


def live_url(stack: Stack) -> str:
    answer = requests.get(f"{proxy(stack)}/services/{stack.prefix}", timeout=20)
    return str(answer.json()["url"]["url"])


def live_health(stack: Stack) -> dict[str, object]:
    answer = requests.get(
        f"{proxy(stack)}/{stack.prefix}/health", headers={"Host": API_HOST}, timeout=20
    )
    answer.raise_for_status()
    return dict(answer.json())


def running(stack: Stack) -> list[str]:
    """The projects whose HAProxy runs."""
    return [
        name for name in stack.projects if stack.containers(name)["haproxy"].status == "running"
    ]


def test_a_candidate_that_does_not_fit_leaves_the_live_project_as_it_was(stack: Stack) -> None:
    before = (live_url(stack), stack.projects, stack.ids(stack.projects[0]))
    began = now()
    result = stack.play(
        DEPLOY,
        portal_version="v24",
        portal_compose_static_src=str(STATIC / "static-incompatible"),
    )
    assert result.rc != 0
    assert "API 'brilliant' with plan 'basic'" in result.failures[-1].msg
    assert "the candidate was removed" in result.failures[-1].msg
    assert (live_url(stack), stack.projects, stack.ids(stack.projects[0])) == before
    assert live_health(stack) == {**live_health(stack), "version": "v23", "locked": False}
    assert stack.events(began, now(), stack.projects[0]) == []


def test_a_check_starts_nothing(stack: Stack) -> None:
    before = (live_url(stack), stack.projects)
    began = now()
    result = stack.play(DEPLOY, check=True, diff=True, portal_version="v24").ok()
    assert "+live: v24" in result.stdout
    assert (live_url(stack), stack.projects) == before
    assert stack.events(began, now(), stack.projects[0]) == []


def test_a_deploy_loses_no_request_and_no_write_and_keeps_the_previous_project(
    stack: Stack,
) -> None:
    blue = stack.projects[0]
    result = stack.play(
        DEPLOY, portal_version="v24", portal_blue_green_probe=True, portal_blue_green_probe_rate=8
    ).ok()
    report = result.task("End the load and read back every acknowledged write")["report"]
    assert report["sent"] > 0
    assert report["failed"] == 0, report
    assert report["writes"]["acknowledged"] > 0
    assert report["writes"]["lost"] == 0
    assert live_health(stack)["version"] == "v24"
    assert blue in stack.projects
    assert len(running(stack)) == 1
    green = running(stack)[0]
    assert green != blue
    assert live_url(stack) == stack.url(green)
    # An instance that is reached by another name than its own has nobody to answer.
    assert stack.ask("/health", "127.0.0.1", stack.url(green)).status_code == 503
    before = (stack.projects, stack.ids(green))
    assert not stack.play(DEPLOY, portal_version="v24").ok().changed
    assert (stack.projects, stack.ids(green)) == before


def test_a_deploy_that_was_killed_is_done_by_running_it_again(stack: Stack) -> None:
    green = running(stack)[0]
    task = "Export the live version, and let users write again at once"
    with stack.start(DEPLOY, portal_version="v25") as play:
        eventually(lambda: begun(play, task), f"the task {task!r}", 600)
        kill_at(play, task, lambda: len(running(stack)) == 2)
    assert live_url(stack) == stack.url(green)
    half = [name for name in running(stack) if name != green]
    assert len(half) == 1
    stack.play(DEPLOY, portal_version="v25").ok()
    assert live_health(stack) == {**live_health(stack), "version": "v25", "locked": False}
    assert half[0] not in stack.projects
    # One that was live is kept, stopped; the one before it is gone.
    assert len(running(stack)) == 1
    assert green in stack.projects
    assert len(stack.projects) == 2
