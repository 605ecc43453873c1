# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deploy and a retirement that are broken off at one point after the other, and run again.

Each run goes on from where the one before it stopped, and stops at its own point: a call is carried
out there, and the play does not come to know of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fleet import Fleet, Run, made_fleet
from tests.support.moto_fleet import FleetMoto
from tests.support.moto_server import Fault, served


@pytest.fixture(scope="module")
def server() -> Iterator[FleetMoto]:
    with served(FleetMoto()) as moto:
        yield moto


def stopped(fleet: Fleet, phase: str, action: str, **settings: object) -> Run:
    """Run a playbook, and break it off at its first call of *action*."""
    run = fleet.play(phase, faults=[Fault(1, lost=True, action=action)], **settings)
    assert action in run.message
    return run


def test_a_deploy_goes_on_from_wherever_it_stopped(server: FleetMoto, tmp_path: Path) -> None:
    fleet = made_fleet(server, tmp_path)
    for action in ("CreateTargetGroup", "CreateAutoScalingGroup", "CreateRule"):
        run = stopped(fleet, "deploy", action, fleet_keep_failed=True)
        assert run.routes == ("n", "n", "n")
        assert run.sizes.get("n") == 2
    made = run.groups["1"]["Instances"]
    run = fleet.play("deploy", again=True)
    assert run.ok
    assert run.routes == ("n", "1", "n")
    assert run.groups["1"]["Instances"] == made
    assert (run.sizes, run.target_groups) == ({"n": 2, "1": 2}, {"n", "1"})


def test_a_retirement_goes_on_from_wherever_it_stopped(server: FleetMoto, tmp_path: Path) -> None:
    fleet = made_fleet(server, tmp_path)
    fleet.stand("1")
    assert fleet.switch("promoted")["changed"]
    points = [
        "UpdateAutoScalingGroup",
        "DetachLoadBalancerTargetGroups",
        "DeleteTargetGroup",
        "DeleteAutoScalingGroup",
    ]
    for action in points:
        run = stopped(fleet, "retire", action)
        assert run.routes == ("1", "404", "1")
        assert run.sizes["1"] == 2
    run = fleet.play("retire", again=True)
    assert run.ok
    assert (run.sizes, run.target_groups) == ({"1": 2}, {"1"})
