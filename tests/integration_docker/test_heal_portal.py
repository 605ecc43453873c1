# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A portal whose parts are down, gone or paused: one repair, and its data is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
import requests
from docker import DockerClient

from tests.support.portal_compose import API_HOST, APPS, KEY, PASSWORD, Stack, now

HEAL = "playbooks/heal.yml"
RELEASED = "projects/*/released.json"


@pytest.fixture(scope="module")
def stack(
    engine: DockerClient,
    prefix: str,
    app_image: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    """A lab with a first version live."""
    for app in APPS:
        app_image(app)
    stack = Stack(engine, tmp_path_factory.mktemp("heal") / "lab", prefix)
    try:
        stack.play("playbooks/docker_lab_up.yml").ok()
        yield stack
    finally:
        stack.play("playbooks/docker_lab_down.yml").ok()


def test_a_portal_is_put_together_again_with_its_data(stack: Stack) -> None:
    proxy = json.loads((stack.folder / "proxy" / "ready.json").read_text())["url"]
    (project,) = stack.projects
    body = {"firstName": "Eve", "lastName": "Test", "email": "eve@example.org"}
    headers = {"Host": API_HOST}
    signed_up = requests.post(
        f"{stack.url(project)}/users", json=body, headers=headers, timeout=30
    ).json()
    parts = stack.containers(project)
    parts["portal-api"].remove(force=True)
    parts["kong-database"].stop()
    parts["portal"].pause()
    parts["haproxy"].restart()

    began = now()
    checked = stack.play(HEAL, check=True).ok()
    said = checked.task("Say what is wrong")
    assert said.changed and "portal-api" in said.msg and "paused" in said.msg
    assert stack.events(began, now(), project) == []

    healed = stack.play(HEAL).ok()
    assert healed.task("Have the router send the traffic there").changed
    user = requests.get(
        f"{proxy}/{stack.prefix}/users/{signed_up['id']}", headers=headers, timeout=30
    )
    assert user.ok and user.json()["email"] == "eve@example.org"
    (record,) = stack.folder.glob(RELEASED)
    assert json.loads(record.read_text())["url"] == stack.url(project)

    assert not stack.play(HEAL).ok().changed
    assert not any(secret in output for secret in (KEY, PASSWORD) for output in stack.outputs)
