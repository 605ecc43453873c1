# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 of the whole play at each stage: running it again finishes it, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.lab import Lab, Writer, kill_at, lab_at

STAGES = (
    "Start the candidate",
    "Export the live version, and let users write again at once",
    "Give the candidate the data, as a rehearsal",
    "Export the live version and keep it read-only",
    "Give the candidate the data and keep it read-only",
    "Switch to the candidate and prove it through the router",
    "Make sure that the live version took no write until the switch",
    "Let users write to the new version",
    "Stop the previous version, and delete what is older than is to be kept",
)


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


@pytest.mark.parametrize("task", STAGES)
def test_a_killed_deploy_is_finished_by_running_it_again(lab: Lab, task: str) -> None:
    before = lab.health()["version"]
    after = f"v{int(before[1:]) + 1}"
    with Writer(lab) as writer:
        with lab.start_deploy(after) as play:
            kill_at(play, task)
        assert lab.health()["version"] in (before, after)
        lab.deploy(after).ok()
        assert lab.health()["version"] == after
    assert writer.failed == []
    assert writer.acknowledged
    assert writer.lost == []
    assert len(lab.running) == 1
    assert len(lab.instances) <= 2
    assert not (lab.folder / "portal.lock").exists()
    assert not lab.deploy(after).ok().changed
