# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 of the whole play at each stage: running it again finishes it, and nothing is lost.

What a run that is killed leaves behind may hold users' data, and is gone after the next one.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import requests

from tests.support.lab import HOST, Lab, Writer, is_alive, kill_at, lab_at
from tests.support.waiting import eventually

DRAINED = "Wait until the previous version has answered its last request"
SWITCH = "Carry the data, switch, and prove the candidate through the router"


def at_once(lab: Lab, live: str) -> bool:
    return True


def live_is_locked(lab: Lab, live: str) -> bool:
    return lab.is_locked(live)


def traffic_is_switched(lab: Lab, live: str) -> bool:
    return lab.live_url != live


Stage = tuple[str, Callable[[Lab, str], bool]]
# Each run but the last of a chain is killed, and each finds what the one before it left behind.
CHAINS: dict[str, tuple[Stage, ...]] = {
    "while the candidate is made": (
        ("Start the candidate", at_once),
        ("Export the live version, and let users write again at once", at_once),
        ("Give the candidate the data, as a rehearsal", at_once),
    ),
    "in the final pass": ((SWITCH, at_once), (SWITCH, live_is_locked)),
    "after the switch": (
        (SWITCH, traffic_is_switched),
        (f"{DRAINED}, and verify the live one", at_once),
        ("Export it once more", live_is_locked),
        ("Stop the previous version, and delete what is older than is to be kept", at_once),
    ),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    # The lock of a killed deploy is waited out, so it is shorter here than a real portal's.
    settings = {
        "portal_lab_extra_args": ["--rate=0", "--lock-seconds=15"],
        "portal_blue_green_lock_seconds": 15,
        "portal_blue_green_min_remaining": 3,
        "portal_blue_green_rounds": 5,
    }
    with lab_at(tmp_path_factory.mktemp("killed"), **settings) as lab:
        yield lab


@pytest.mark.parametrize("stages", CHAINS.values(), ids=CHAINS)
def test_a_killed_deploy_is_finished_by_running_it_again(
    lab: Lab, stages: tuple[Stage, ...]
) -> None:
    before, live = lab.health()["version"], lab.live_url
    after = f"v{int(before[1:]) + 1}"
    with Writer(lab) as writer:
        for task, moment in stages:
            with lab.start_deploy(after) as play:
                kill_at(play, task, partial(moment, lab, live))
            assert lab.health()["version"] in (before, after)
            # What must be there meanwhile is for nobody else.
            assert stat.S_IMODE(lab.folder.stat().st_mode) == 0o700
            assert {stat.S_IMODE(path.stat().st_mode) for path in lab.archives} <= {0o600}
        lab.deploy(after).ok()
        assert lab.health()["version"] == after
    assert writer.failed == []
    assert writer.acknowledged
    assert writer.lost == []
    assert len(lab.running) == 1
    assert len(lab.instances) <= 2
    assert lab.archives == []
    assert not (lab.folder / "portal.lock").exists()
    assert not lab.deploy(after).ok().changed


def sign_up(url: str, name: str) -> str:
    """Have a portal acknowledge a user by its own address; return the user's id."""
    body = {"firstName": name, "lastName": "Late", "email": f"{name}@example.org"}
    answer = requests.post(f"{url}/users", json=body, headers={"Host": HOST}, timeout=30)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_what_the_previous_version_took_after_it_was_exported_is_named_and_kept(lab: Lab) -> None:
    before, live = lab.health()["version"], lab.live_url
    after = f"v{int(before[1:]) + 1}"
    with lab.start_deploy(after, portal_blue_green_probe=True) as play:
        kill_at(play, SWITCH, partial(traffic_is_switched, lab, live))
    probe = json.loads((lab.folder / "probe" / "probe.json").read_text())["process"]["pid"]
    assert is_alive(probe)
    # As from a client of a router that was not told yet.
    eventually(lambda: not lab.is_locked(live), "its lock lapses", 60)
    user = sign_up(live, "late-bird")

    kept = lab.running
    # Neither the same deploy nor that of another version retires what has it.
    for version in (after, after, f"v{int(after[1:]) + 1}"):
        failed = lab.deploy(version)
        assert failed.rc != 0
        message = failed.failures[-1].msg
        assert f"users/{user}" in message, message
        assert f"{before} at {live}" in message and "runs on" in message, message
        assert (lab.health()["version"], lab.running) == (after, kept)
        assert {path.name for path in lab.archives} == {"portal.tgz.enc", "portal.tgz.enc.json"}
        assert not is_alive(probe)

    lab.deploy(after, portal_blue_green_discard_writes=True).ok()
    assert lab.running == [lab.instance_of(lab.live_url).name]
    assert lab.archives == []
    assert not lab.deploy(after).ok().changed
