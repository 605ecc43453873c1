# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever fails before the switch, or right after it: the live version is as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.lab import KEY, Lab, Writer, begun, lab_at
from tests.support.plays import ROOT, PlayResult, eventually

ENVIRONMENT = {"PORTAL_DEPLOYMENT_KEY": KEY}
FAULTS = ["--allow-faults"]
SWITCH = "Carry the data, switch, and prove the candidate through the router"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("failures")
    # Twenty deploys in a row are more than 25 calls a minute.
    with lab_at(folder, portal_lab_extra_args=[*FAULTS, "--rate=0"]) as lab:
        yield lab


def refused(lab: Lab, version: str = "v24", **settings: Any) -> PlayResult:
    """Deploy; expect a failure that leaves the live version live, unlocked and unchanged."""
    url, instances = lab.live_url, lab.instances
    digest = lab.data_digest(url)
    result = lab.deploy(version, **settings)
    assert result.rc != 0, result.output
    assert lab.live_url == url
    health = lab.health()
    assert (health["version"], health["locked"]) == ("v23", False)
    assert lab.data_digest(url) == digest
    assert len(lab.running) == 1
    if not settings.get("portal_blue_green_keep_failed"):
        assert lab.instances == instances
    assert lab.archives == []
    assert not (lab.folder / "portal.lock").exists()
    assert KEY not in result.stdout + result.stderr
    return result


def message(result: PlayResult) -> str:
    """The sentence that the play ends with."""
    return result.failures[-1].msg


def faulty(**faults: Any) -> dict[str, str]:
    return {**ENVIRONMENT, "PORTAL_FAULTS": json.dumps(faults)}


def test_a_candidate_that_cannot_take_the_data(lab: Lab) -> None:
    incompatible = [*FAULTS, "--rate=0", f"--static={ROOT}/apps/portal/static-incompatible"]
    text = message(refused(lab, portal_lab_extra_args=incompatible))
    assert "brilliant" in text
    assert "Live is v23" in text
    assert "as before" in text
    assert "candidate was removed" in text


def test_a_candidate_that_does_not_start(lab: Lab) -> None:
    text = message(refused(lab, portal_lab_extra_args=["--static=/nonexistent"]))
    assert "/nonexistent" in text
    assert "Live is v23" in text


def test_a_candidate_that_fails_its_import_is_kept_for_inspection_where_asked(lab: Lab) -> None:
    settings = {
        "portal_blue_green_process_environment": faulty(import_fails=True),
        "portal_blue_green_keep_failed": True,
    }
    before = lab.instances
    text = message(refused(lab, **settings))
    assert "failed the import" in text
    assert "kept for inspection" in text
    assert len(lab.instances) == len(before) + 1
    # The next deploy removes it.
    refused_again = lab.deploy(
        "v24",
        portal_blue_green_smoke_checks=[{"path": "/nowhere"}],
        portal_blue_green_health_timeout=3,
    )
    assert refused_again.rc != 0
    assert lab.instances == before


def test_a_live_portal_that_fails_its_export(lab: Lab) -> None:
    lab.faults(lab.live_url, export_fails=True)
    try:
        text = message(refused(lab))
    finally:
        lab.faults(lab.live_url)
    assert "failed the export" in text


def test_an_export_that_is_cut_off(lab: Lab) -> None:
    """One that is damaged otherwise fails in the same task: see test_portal_failures."""
    lab.faults(lab.live_url, truncate_data=1000)
    try:
        text = message(refused(lab))
    finally:
        lab.faults(lab.live_url)
    assert "the archive from" in text or "ended early" in text


def test_the_wrong_key(lab: Lab) -> None:
    text = message(refused(lab, portal_blue_green_deployment_key="somebody-elses-key-0123"))
    assert "refuses the deployment key" in text
    assert "somebody-elses-key-0123" not in text


def test_a_smoke_test_that_fails(lab: Lab) -> None:
    text = message(
        refused(
            lab,
            portal_blue_green_smoke_checks=[{"path": "/users/nobody"}],
            portal_blue_green_health_timeout=3,
        )
    )
    assert "/users/nobody" in text
    assert "404" in text


def test_a_proof_that_fails_after_the_switch(lab: Lab) -> None:
    settings = {
        "portal_blue_green_prove_path": "/no-such-page",
        "portal_blue_green_prove_timeout": 3,
    }
    text = message(refused(lab, **settings))
    assert "/no-such-page" in text or "proof" in text
    assert "Live is v23" in text


def test_no_version_and_no_portal(lab: Lab) -> None:
    assert "portal_version=v24" in message(refused(lab, ""))
    text = message(refused(lab, portal_blue_green_service="elsewhere"))
    assert "no version is live" in text


def test_an_unreachable_router(lab: Lab) -> None:
    text = message(refused(lab, portal_blue_green_router_url="http://127.0.0.1:9"))
    assert "http://127.0.0.1:9" in text
    assert "cannot be reached" in text


def test_a_lock_that_lapsed_once_is_gone_round_again(lab: Lab) -> None:
    live = lab.live_url
    slow = [*FAULTS, "--rate=0", "--import-delay=2"]
    with Writer(lab) as writer, lab.start_deploy("v24", portal_lab_extra_args=slow) as play:
        eventually(lambda: begun(play, SWITCH), "the final pass", 120)
        eventually(lambda: lab.is_locked(live), "the live portal's lock")
        lab.faults(live, lapse_now=True)
        lab.faults(live)
        result = play.wait(240).ok()
        assert lab.health()["version"] == "v24"
    assert result.task(SWITCH)["rounds"] == 2
    assert (writer.failed, writer.lost) == ([], [])


def test_two_deploys_at_once(lab: Lab) -> None:
    with lab.start_deploy("v25") as first:
        eventually((lab.folder / "portal.lock").exists, "the first deploy's lock")
        second = lab.deploy("v26")
        assert second.rc != 0
        assert "is being deployed by" in message(second)
        assert "since" in message(second)
        first.wait(240).ok()
    assert lab.health()["version"] == "v25"
    assert not (lab.folder / "portal.lock").exists()
