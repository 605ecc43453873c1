# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole deploy under load: forward twice, the same again, check mode, and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab import Lab, Writer, lab_at


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab_at(tmp_path_factory.mktemp("forward")) as lab:
        yield lab


def test_every_deploy_carries_every_write_and_loses_no_request(lab: Lab) -> None:
    with Writer(lab) as writer:
        for before, after in (("v23", "v24"), ("v24", "v25")):
            assert lab.health()["version"] == before
            result = lab.deploy(after, portal_blue_green_probe=True).ok()
            assert lab.health()["version"] == after
            assert not lab.health()["locked"]
            report = result.task("End the load and read back every acknowledged write")["report"]
            assert report["failed"] == 0, report
            assert report["sent"] > 0
            assert report["writes"]["acknowledged"] > 0
            assert report["writes"]["lost"] == 0
            assert [entry["version"] for entry in report["versions"]][-1] == after
            summary = (lab.folder / "last-deploy.txt").read_text()
            assert f"Replaced portal {before} by {after}" in summary
            assert "0 failed" in summary
            assert "0 lost" in summary
            # The lab keeps one previous version, stopped.
            assert len(lab.running) == 1
            assert len(lab.instances) == 2
    assert writer.failed == []
    assert writer.acknowledged
    assert writer.refused
    assert writer.lost == []


def test_the_version_that_is_live_changes_nothing(lab: Lab) -> None:
    version = lab.health()["version"]
    before = (lab.live_url, lab.instances, lab.data_digest(lab.live_url))
    result = lab.deploy(version).ok()
    assert not result.changed
    assert (lab.live_url, lab.instances, lab.data_digest(lab.live_url)) == before


def test_check_mode_writes_nowhere_and_shows_the_plan(lab: Lab) -> None:
    before = (lab.live_url, lab.instances, lab.data_digest(lab.live_url), files_of(lab.folder))
    result = lab.play("deploy.yml", check=True, diff=True, portal_version="v99").ok()
    after = (lab.live_url, lab.instances, lab.data_digest(lab.live_url), files_of(lab.folder))
    assert after == before
    assert not lab.health()["locked"]
    assert "+live: v99" in result.stdout
    assert "rehearse: carry the data while users go on writing" in result.stdout


def test_going_back_carries_the_data_back(lab: Lab) -> None:
    # As if the deploy before it had been killed between its switch and its record: else the live
    # instance would be taken for a candidate that was never live, and be removed at once.
    (lab.instance_of(lab.live_url) / "released.json").unlink()
    with Writer(lab) as writer:
        # A probe that was not told what to write only reads.
        result = lab.deploy(
            "v23", portal_blue_green_probe=True, portal_blue_green_probe_writes={}
        ).ok()
        assert lab.health()["version"] == "v23"
    report = result.task("End the load and read back every acknowledged write")["report"]
    assert report["sent"] > 0 and report["failed"] == 0, report
    assert not any(report["writes"].values()), report
    assert writer.failed == []
    assert writer.acknowledged
    assert writer.lost == []


def files_of(folder: Path) -> set[str]:
    """The files of a lab, but those that a running portal writes by itself."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if "data" not in path.relative_to(folder).parts
    }
