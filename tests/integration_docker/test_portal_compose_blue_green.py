# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guarded deploy between two compose projects, as `inventories/docker` does it, and repairs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator

import pytest
import requests
from docker import DockerClient

from tests.support.lab import begun, kill_at
from tests.support.portal_compose import API_HOST, APPS, KEY, PASSWORD, STATIC, Stack, now
from tests.support.shipped import Shipped
from tests.support.waiting import eventually

DEPLOY = "deploy.yml"
HEAL = "playbooks/heal.yml"
# The lock of a deploy that was killed is waited out, so it is shorter here than a real portal's.
LOCK_SECONDS = 30


@pytest.fixture(scope="module")
def stack(
    engine: DockerClient,
    prefix: str,
    app_image: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
    tarball: Shipped,
) -> Iterator[Stack]:
    """A lab with v23 live, and what is left of the version before that."""
    for app in APPS:
        app_image(app)
    settings = {
        "portal_docker_portal_args": ["--rate=0", f"--lock-seconds={LOCK_SECONDS}"],
        "portal_blue_green_lock_seconds": LOCK_SECONDS,
    }
    stack = Stack(engine, tmp_path_factory.mktemp("blue-green") / "lab", prefix, settings)
    try:
        # Of a lab that ended long ago.
        leave_older(stack)
        stack.play("playbooks/docker_lab_down.yml", shipped=tarball).ok()
        assert stack.projects == [] and not stack.folder.exists()
        leave_older(stack)
        # Molecule's scenario runs that of the checkout.
        stack.play("playbooks/docker_lab_up.yml", shipped=tarball).ok()
        yield stack
    finally:
        stack.play("playbooks/docker_lab_down.yml").ok()
    assert stack.projects == []
    for output in stack.outputs:
        assert KEY not in output
        assert PASSWORD not in output


def leave_older(stack: Stack) -> None:
    """Have a project that was live once: as far as deploys ask, its HAProxy, which does not run."""
    folder = stack.folder / "projects" / f"{stack.prefix}-v22-first"
    folder.mkdir(parents=True)
    files = {
        "compose.yml": {"services": {"haproxy": {"image": "immutable-test/haproxy:latest"}}},
        "released.json": {"version": "v22", "url": "http://127.0.0.1:9"},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "portal.env").touch()
    subprocess.run(
        ["docker", "compose", "create"], cwd=folder, check=True, capture_output=True, timeout=120
    )


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


def test_a_portal_is_put_together_again_with_its_data(stack: Stack, tarball: Shipped) -> None:
    (project,) = stack.running
    headers = {"Host": API_HOST}
    body = {"firstName": "Eve", "lastName": "Test", "email": "eve@example.org"}
    signed_up = requests.post(
        f"{stack.url(project)}/users", json=body, headers=headers, timeout=30
    ).json()
    parts = stack.containers(project)
    parts["portal-api"].remove(force=True)
    parts["kong-database"].stop()
    parts["portal"].pause()
    parts["haproxy"].restart()

    began = now()
    checked = stack.play(HEAL, check=True, shipped=tarball).ok()
    said = checked.task("Say what is wrong")
    assert said.changed and "portal-api" in said.msg and "paused" in said.msg
    assert stack.events(began, now(), project) == []

    healed = stack.play(HEAL).ok()
    assert healed.task("Have the router send the traffic there").changed
    user = requests.get(
        f"{proxy(stack)}/{stack.prefix}/users/{signed_up['id']}", headers=headers, timeout=30
    )
    assert user.ok and user.json()["email"] == "eve@example.org"
    record = stack.folder / "projects" / project / "released.json"
    assert json.loads(record.read_text())["url"] == stack.url(project)

    assert not stack.play(HEAL).ok().changed


def test_a_candidate_that_does_not_fit_leaves_the_live_project_as_it_was(stack: Stack) -> None:
    (blue,) = stack.running
    before = (live_url(stack), stack.projects, stack.ids(blue))
    began = now()
    result = stack.play(
        DEPLOY,
        portal_version="v24",
        portal_compose_static_src=str(STATIC / "static-incompatible"),
    )
    assert result.rc != 0
    assert "API 'brilliant' with plan 'basic'" in result.failures[-1].msg
    assert "The candidate was removed" in result.failures[-1].msg
    assert (live_url(stack), stack.projects, stack.ids(blue)) == before
    assert live_health(stack) == {**live_health(stack), "version": "v23", "locked": False}
    assert stack.events(began, now(), blue) == []


def test_a_check_starts_nothing(stack: Stack) -> None:
    (blue,) = stack.running
    before = (live_url(stack), stack.projects)
    began = now()
    result = stack.play(DEPLOY, check=True, diff=True, portal_version="v24").ok()
    assert "+live: v24" in result.stdout
    assert (live_url(stack), stack.projects) == before
    assert stack.events(began, now(), blue) == []


def test_a_deploy_that_was_killed_is_done_by_running_it_again_and_loses_nothing(
    stack: Stack, tarball: Shipped
) -> None:
    (blue,) = stack.running
    task = "Export the live version, and let users write again at once"
    with stack.start(DEPLOY, portal_version="v24") as play:
        eventually(lambda: begun(play, task), f"the task {task!r}", 600)
        kill_at(play, task, lambda: len(stack.running) == 2)
    assert live_url(stack) == stack.url(blue)
    (half,) = set(stack.running) - {blue}

    result = stack.play(
        DEPLOY, portal_version="v24", portal_blue_green_probe=True, portal_blue_green_probe_rate=8
    ).ok()
    report = result.task("End the load and read back every acknowledged write")["report"]
    assert report["sent"] > 0
    assert report["failed"] == 0, report
    assert report["writes"]["acknowledged"] > 0
    assert report["writes"]["lost"] == 0
    assert live_health(stack) == {**live_health(stack), "version": "v24", "locked": False}
    (green,) = stack.running
    assert green not in (blue, half)
    assert live_url(stack) == stack.url(green)
    # The one that was live is kept, stopped; the one before it is gone, and what was never live.
    assert set(stack.projects) == {blue, green}
    # An instance that is reached by another name than its own has nobody to answer.
    assert stack.ask("/health", "127.0.0.1", stack.url(green)).status_code == 503

    before = (stack.projects, stack.ids(green))
    again = stack.play("playbooks/deploy.yml", shipped=tarball, portal_version="v24")
    assert not again.ok().changed
    assert (stack.projects, stack.ids(green)) == before
