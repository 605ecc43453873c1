# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deploy into one of two slots that stand at fixed addresses, with the user's own tasks."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.support.plays import PlayResult, run_play
from tests.support.portal import EXPORT, KEY, MAIN, STATIC
from tests.support.portal_harness import HOST
from tests.support.proxy import Proxy, start_proxy

PATIENCE = 30.0
SLOT = "{{ portal_blue_green_candidate_url | ansible.builtin.urlsplit('port') }}"
LIVE_SLOT = "{{ portal_blue_green_live_url | ansible.builtin.urlsplit('port') }}"


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def process(folder: Path, port: str, state: str, **options: Any) -> dict[str, Any]:
    """A task about the process in the slot at *port*."""
    return {
        "name": f"Have the slot {state}",
        "immutable.delivery.local_process": {
            "name": f"slot-{port}",
            "dir": f"{folder}/slot-{port}",
            "state": state,
            **options,
        },
    }


def started(folder: Path, port: str, version: str) -> dict[str, Any]:
    """A task that puts *version* into the slot at *port*, whatever ran there."""
    argv = [sys.executable, str(MAIN), f"--listen=127.0.0.1:{port}", "--ready-file={ready_file}"]
    argv += ["--data={dir}/data", f"--static={STATIC}", f"--version={version}", f"--host={HOST}"]
    environment = {"PORTAL_DEPLOYMENT_KEY": KEY}
    argv += ["--rate=0"]
    options = {"argv": argv, "environment": environment, "restart": True}
    return process(folder, port, "started", **options)


@dataclass
class Slots:
    """Blue and green behind a proxy; blue is live with v23 at first."""

    folder: Path
    proxy: Proxy
    blue: str
    green: str
    settings: dict[str, Any] = field(default_factory=dict)

    def tasks(self, name: str, *tasks: dict[str, Any]) -> str:
        file = self.folder / f"{name}.yml"
        file.write_text(json.dumps(list(tasks)))
        return str(file)

    def deploy(self, version: str, *, check: bool = False, **more: Any) -> PlayResult:
        variables = {
            "portal_blue_green_deployment_key": KEY,
            "portal_blue_green_host_header": HOST,
            "portal_blue_green_router_url": self.proxy.url,
            "portal_blue_green_work_dir": str(self.folder),
            # With a slash, which the router's address has not.
            "portal_blue_green_slots": [f"{self.blue}/", f"{self.green}/"],
            "portal_blue_green_create_tasks": self.tasks(
                "create", started(self.folder, SLOT, "{{ portal_blue_green_version }}")
            ),
            "portal_blue_green_remove_tasks": self.tasks(
                "remove", process(self.folder, SLOT, "absent")
            ),
            "portal_blue_green_version": version,
            **more,
        }
        role = {
            "name": "Deploy",
            "ansible.builtin.include_role": {"name": "immutable.delivery.portal_blue_green"},
        }
        return run_play([role], extra_vars=variables, check=check, timeout=240)

    def failed(self, version: str, **more: Any) -> str:
        """Deploy; expect a failure that leaves the live version as it was, and its message."""
        before = (self.live, self.health())
        result = self.deploy(version, **more)
        assert result.rc != 0, result.output
        assert KEY not in result.stdout + result.stderr
        assert (self.live, self.health()) == before
        assert not (self.folder / "portal.lock").exists()
        return result.failures[-1].msg

    @property
    def live(self) -> str | None:
        return self.proxy.current("portal")

    def health(self) -> dict[str, Any]:
        answer = requests.get(
            f"{self.proxy.url}/portal/health", headers={"Host": HOST}, timeout=PATIENCE
        )
        answer.raise_for_status()
        return dict(answer.json())

    def answers(self, url: str) -> bool:
        try:
            requests.get(f"{url}/health", headers={"Host": HOST}, timeout=PATIENCE)
        except requests.ConnectionError:
            return False
        return True

    def sign_up(self, name: str) -> str:
        body = {"firstName": name, "lastName": "Tester", "email": f"{name}@example.org"}
        answer = requests.post(
            f"{self.proxy.url}/portal/users", json=body, headers={"Host": HOST}, timeout=PATIENCE
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def has(self, user: str) -> bool:
        answer = requests.get(
            f"{self.proxy.url}/portal/users/{user}", headers={"Host": HOST}, timeout=PATIENCE
        )
        return answer.status_code == 200


def port_of(url: str) -> str:
    return str(urlsplit(url).port)


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[Slots]:
    with start_proxy(tmp_path) as proxy:
        slots = Slots(tmp_path, proxy, free_address(), free_address())
        connection = {"api_url": slots.blue, "host_header": HOST, "deployment_key": KEY}
        fill = {
            "name": "Fill it",
            "immutable.delivery.portal_import": {**connection, "src": str(EXPORT)},
        }
        try:
            run_play([started(tmp_path, port_of(slots.blue), "v23"), fill]).ok()
            proxy.register("portal", slots.blue)
            yield slots
        finally:
            run_play(
                [process(tmp_path, port_of(url), "absent") for url in (slots.blue, slots.green)]
            ).ok()


def test_a_deploy_goes_into_the_other_slot_and_the_next_one_back(slots: Slots) -> None:
    user = slots.sign_up("early-bird")
    slots.deploy("v24").ok()
    assert slots.live == slots.green
    assert (slots.health()["version"], slots.health()["locked"]) == ("v24", False)
    assert slots.has(user)
    # Without tasks of the user's that retire it, the previous version runs on.
    assert slots.answers(slots.blue)
    later = slots.sign_up("later-bird")
    retire = slots.tasks(
        "retire",
        {
            **process(slots.folder, "{{ item | ansible.builtin.urlsplit('port') }}", "stopped"),
            "loop": "{{ portal_blue_green_slots | map('regex_replace', '/$', '')"
            " | difference([portal_blue_green_live_url]) }}",
        },
    )
    slots.deploy("v25", portal_blue_green_retire_tasks=retire).ok()
    assert slots.live == slots.blue
    assert slots.health()["version"] == "v25"
    assert slots.has(user)
    assert slots.has(later)
    assert not slots.answers(slots.green)
    assert not slots.deploy("v25", portal_blue_green_retire_tasks=retire).ok().changed


def test_a_failure_removes_the_candidate_or_says_where_it_is(slots: Slots) -> None:
    broken = [{"path": "/users/nobody"}]
    fails = {"portal_blue_green_smoke_checks": broken, "portal_blue_green_health_timeout": 2}
    text = slots.failed("v24", **fails)
    assert "/users/nobody" in text
    assert f"Live is v23 at {slots.blue}, as before; the candidate was removed." in text
    assert not slots.answers(slots.green)
    text = slots.failed("v24", **fails, portal_blue_green_remove_tasks="")
    assert f"the candidate at {slots.green} was left as it is." in text
    text = slots.failed("v24", **fails, portal_blue_green_keep_failed=True)
    assert f"the candidate {slots.green} was kept for inspection." in text
    assert slots.answers(slots.green)
    breaks = slots.tasks("breaks", {"name": "Break", "ansible.builtin.fail": {"msg": "No crane."}})
    text = slots.failed("v24", **fails, portal_blue_green_remove_tasks=breaks)
    assert "/users/nobody" in text
    assert "the candidate could not be removed: No crane." in text


def test_a_version_that_does_not_come_up_is_not_switched_to(slots: Slots) -> None:
    wrong = slots.tasks("wrong", started(slots.folder, SLOT, "v22"))
    text = slots.failed(
        "v24", portal_blue_green_create_tasks=wrong, portal_blue_green_health_timeout=2
    )
    assert "version is v22, not v24" in text
    assert "the candidate was removed" in text


def test_slots_that_do_not_hold_the_live_version_are_refused(slots: Slots) -> None:
    for given in ([], [slots.green], [slots.blue], [slots.blue, f"{slots.blue}/"]):
        text = slots.failed("v24", portal_blue_green_slots=given)
        assert "portal_blue_green_slots must hold the live version's address" in text
        assert slots.blue in text
        assert "there is no candidate." in text
    assert not slots.answers(slots.green)


def test_check_mode_deploys_into_no_slot(slots: Slots) -> None:
    before = (slots.live, slots.health())
    slots.deploy("v24", check=True).ok()
    assert (slots.live, slots.health()) == before
    assert not slots.answers(slots.green)
