# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A live portal whose lock lapses before the deploy is done with it: nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.lab import KEY, Lab, Writer, lab_at

SLOW = {"PORTAL_DEPLOYMENT_KEY": KEY, "PORTAL_FAULTS": json.dumps({"slow_ms": 2500})}


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A live portal whose lock lasts 6 s instead of 60, which a deploy does not know."""
    folder = tmp_path_factory.mktemp("hasty")
    with lab_at(folder, portal_lab_extra_args=["--rate=0", "--lock-seconds=6"]) as lab:
        yield lab


def test_a_lock_that_never_lasts_ends_with_the_live_version(hasty: Lab) -> None:
    slow = ["--rate=0", "--import-delay=8"]
    with Writer(hasty) as writer:
        result = hasty.deploy("v24", portal_lab_extra_args=slow, portal_blue_green_rounds=2)
        assert result.rc != 0
    assert "lapsed" in result.failures[-1].msg
    assert "pass 2 of 2" in result.failures[-1].msg
    assert (hasty.health()["version"], hasty.health()["locked"]) == ("v23", False)
    assert hasty.instances == ["v23-first"]
    assert (writer.failed, writer.lost) == ([], [])


def test_a_lock_that_lapses_under_the_switch_is_switched_back(hasty: Lab) -> None:
    # Each answer of the candidate takes 2.5 s, so its proof outlasts the live portal's lock.
    with Writer(hasty) as writer:
        result = hasty.deploy(
            "v24",
            portal_lab_extra_args=["--rate=0"],
            portal_blue_green_process_environment=SLOW,
            portal_blue_green_prove_timeout=60,
            portal_blue_green_rounds=1,
        )
        assert result.rc != 0
        assert hasty.health()["version"] == "v23"
    assert "lapsed" in result.failures[-1].msg
    assert "goes to" in result.failures[-1].msg
    assert not hasty.health()["locked"]
    assert hasty.instances == ["v23-first"]
    assert writer.acknowledged
    assert (writer.failed, writer.lost) == ([], [])
