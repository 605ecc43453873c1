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


TOLD = {
    "name": "Say how it failed",
    "ansible.builtin.debug": {"msg": "{{ ansible_failed_result.msg }}"},
}


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

    def deploy(
        self, version: str, *cases: dict[str, Any], check: bool = False, **more: Any
    ) -> PlayResult:
        """Deploy *version*; in one run, once for each of *cases*, and each of them has to fail."""
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
        # Extra variables would outweigh those of a case.
        ours = {name for case in cases for name in case}
        role = {
            "name": "Deploy",
            "ansible.builtin.include_role": {"name": "immutable.delivery.portal_blue_green"},
            "vars": {name: value for name, value in variables.items() if name in ours},
        }
        tasks = [
            {"name": "Try", "block": [{**role, "vars": {**role["vars"], **case}}], "rescue": [TOLD]}
            for case in cases
        ]
        given = {name: value for name, value in variables.items() if name not in ours}
        return run_play(tasks or [role], extra_vars=given, check=check, timeout=240)

    def failed(self, version: str, *cases: dict[str, Any], **more: Any) -> list[str]:
        """Deploy; expect failures that leave the live version as it was, and their messages."""
        before = (self.live, self.health())
        result = self.deploy(version, *(cases or ({},)), **more)
        assert KEY not in result.stdout + result.stderr
        assert (self.live, self.health()) == before
        assert not (self.folder / "portal.lock").exists()
        told = [task.msg for task in result.ok().results if task.task == TOLD["name"]]
        assert len(told) == len(cases or ({},)), result.output
        return told

    @property
    def live(self) -> str:
        return str(self.proxy.current("portal"))

    @property
    def spare(self) -> str:
        """The slot that is not live."""
        return self.green if self.live == self.blue else self.blue

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


@pytest.fixture(scope="module")
def slots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slots]:
    folder = tmp_path_factory.mktemp("slots")
    with start_proxy(folder) as proxy:
        slots = Slots(folder, proxy, free_address(), free_address())
        connection = {"api_url": slots.blue, "host_header": HOST, "deployment_key": KEY}
        fill = {
            "name": "Fill it",
            "immutable.delivery.portal_import": {**connection, "src": str(EXPORT)},
        }
        try:
            run_play([started(folder, port_of(slots.blue), "v23"), fill]).ok()
            proxy.register("portal", slots.blue)
            yield slots
        finally:
            run_play(
                [process(folder, port_of(url), "absent") for url in (slots.blue, slots.green)]
            ).ok()


def test_a_deploy_goes_into_the_other_slot_and_the_next_one_back(slots: Slots) -> None:
    first, second = slots.live, slots.spare
    user = slots.sign_up("early-bird")
    slots.deploy("v24").ok()
    assert slots.live == second
    assert (slots.health()["version"], slots.health()["locked"]) == ("v24", False)
    assert slots.has(user)
    # Without tasks of the user's that retire it, the previous version runs on.
    assert slots.answers(first)
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
    assert slots.live == first
    assert slots.health()["version"] == "v25"
    assert slots.has(user)
    assert slots.has(later)
    assert not slots.answers(second)
    assert not slots.deploy("v25", portal_blue_green_retire_tasks=retire).ok().changed


def test_a_failure_removes_the_candidate_or_says_where_it_is(slots: Slots) -> None:
    live, spare, version = slots.live, slots.spare, slots.health()["version"]
    broken = [{"path": "/users/nobody"}]
    fails = {"portal_blue_green_smoke_checks": broken, "portal_blue_green_health_timeout": 2}
    (text,) = slots.failed("v30", **fails)
    assert "/users/nobody" in text
    assert f"Live is {version} at {live}, as before. The candidate was removed." in text
    assert not slots.answers(spare)
    left, kept = slots.failed(
        "v30",
        {"portal_blue_green_remove_tasks": ""},
        {"portal_blue_green_keep_failed": True},
        **fails,
    )
    assert f"The candidate at {spare} was left as it is." in left
    assert f"The candidate {spare} was kept for inspection." in kept
    assert slots.answers(spare)
    breaks = slots.tasks("breaks", {"name": "Break", "ansible.builtin.fail": {"msg": "No crane."}})
    wrong = slots.tasks("wrong", started(slots.folder, SLOT, "v22"))
    other_version, broken_too = slots.failed(
        "v30",
        # A version that does not come up is not switched to.
        {"portal_blue_green_create_tasks": wrong},
        {"portal_blue_green_remove_tasks": breaks},
        **fails,
    )
    assert "version is v22, not v30" in other_version
    assert "The candidate was removed" in other_version
    assert "/users/nobody" in broken_too
    assert "The candidate could not be removed: No crane." in broken_too


def test_slots_that_do_not_hold_the_live_version_are_refused(slots: Slots) -> None:
    live, spare = slots.live, slots.spare
    answered = slots.answers(spare)
    wrong: list[list[str]] = [[], [spare], [live], [live, f"{live}/"]]
    for text in slots.failed("v30", *({"portal_blue_green_slots": given} for given in wrong)):
        assert "portal_blue_green_slots must hold the live version's address" in text
        assert live in text
        assert "There is no candidate." in text
    assert slots.answers(spare) == answered


def test_task_files_of_the_user_are_given_by_full_paths(slots: Slots) -> None:
    # Each of these would find a file of the role's own.
    cases = [{f"portal_blue_green_{kind}_tasks": "smoke.yml"} for kind in ("create", "smoke")]
    for text in slots.failed("v30", *cases):
        assert "'smoke.yml' is not the full path of a task file; nothing was changed." in text
        assert '"{{ inventory_dir }}/smoke.yml"' in text


def test_check_mode_deploys_into_no_slot(slots: Slots) -> None:
    before = (slots.live, slots.health(), slots.answers(slots.spare))
    slots.deploy("v30", check=True).ok()
    assert (slots.live, slots.health(), slots.answers(slots.spare)) == before
