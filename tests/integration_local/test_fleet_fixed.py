# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two Auto Scaling groups that stay and take the versions in turn; and a service's first version.

As in test_fleet, one story is played once, and each test looks at its part of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.fleet import FIXED_ONLY, Fleet, Run, fixed_fleet, made_fleet
from tests.support.moto_fleet import FleetMoto
from tests.support.moto_server import served

VERSION = "immutable.delivery:version"


@pytest.fixture(scope="module")
def moto() -> Iterator[FleetMoto]:
    with served(FleetMoto()) as server:
        yield server


@pytest.fixture(scope="module")
def fleet(moto: FleetMoto, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return fixed_fleet(moto, tmp_path_factory.mktemp("fixed"))


@pytest.fixture(scope="module")
def told(fleet: Fleet) -> dict[str, Run]:
    """Version 1 goes to the spare group, version 2 to the one that was live at first."""
    runs: dict[str, Run] = {}
    runs["deploy"] = fleet.play("deploy")
    runs["promote"] = fleet.play("promote")
    fleet.new_template_version()
    runs["next deploy"] = fleet.play("deploy", again=True)
    runs["next promote"] = fleet.play("promote")
    runs["retire"] = fleet.play("retire", again=True)
    return runs


def version(run: Run, name: str) -> tuple[str | None, str]:
    """The version that a group says it has, and that of the template it launches."""
    group = run.groups[name]
    tags = {tag["Key"]: tag["Value"] for tag in group["Tags"]}
    return tags.get(VERSION), group["LaunchTemplate"]["Version"]


def test_the_group_that_is_not_live_takes_the_new_version(told: dict[str, Run]) -> None:
    run = told["deploy"]
    assert run.ok
    assert run.routes == ("n", "1", "n")
    assert run.sizes == {"n": 2, "spare": 2}
    assert version(run, "spare") == ("1", "1")
    assert run.groups["spare"]["TargetGroupARNs"] == [run.targets["1"]["TargetGroupArn"]]
    assert told["promote"].routes == ("1", "404", "1")


def test_what_it_had_before_is_emptied_first(told: dict[str, Run]) -> None:
    before, run = told["promote"], told["next deploy"]
    assert run.ok
    assert run.routes == ("1", "2", "1")
    assert version(run, "n") == ("2", "2")
    old = {item["InstanceId"] for item in before.groups["n"]["Instances"]}
    new = {item["InstanceId"] for item in run.groups["n"]["Instances"]}
    assert len(new) == 2
    assert not old & new
    # The target group of n was not of our making, and stays, parted from the group.
    assert run.target_groups == {"n", "1", "2"}
    assert run.groups["n"]["TargetGroupARNs"] == [run.targets["2"]["TargetGroupArn"]]


def test_a_fixed_group_that_is_retired_stays_without_a_version(told: dict[str, Run]) -> None:
    assert told["next promote"].routes == ("2", "404", "2")
    run = told["retire"]
    assert run.ok
    assert run.routes == ("2", "404", "2")
    assert run.sizes == {"n": 2, "spare": 0}
    assert run.target_groups == {"n", "2"}
    assert version(run, "spare") == ("", "1")
    assert run.groups["spare"]["TargetGroupARNs"] == []


def test_they_need_what_their_policies_have_for_them(fleet: Fleet, told: dict[str, Run]) -> None:
    assert told["retire"].ok
    for phase, actions in FIXED_ONLY.items():
        assert actions <= fleet.called[phase]


def test_the_first_version_of_all_is_live_at_once(
    moto: FleetMoto, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fleet = made_fleet(moto, tmp_path_factory.mktemp("first"))
    missing = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503"}}
    moto.client("elbv2").modify_listener(ListenerArn=fleet.listener, DefaultActions=[missing])
    subnets = moto.client("ec2").describe_subnets()["Subnets"]
    run = fleet.play(
        "deploy",
        fleet_first_group="",
        # Its name has a hyphen there, and so the answers that the verification expects differ.
        fleet_version="2026.11",
        fleet_verify={},
        fleet_launch_template={"launch_template_name": fleet.service},
        fleet_capacity={"desired_capacity": 2},
        fleet_subnets=[subnets[0]["SubnetId"]],
        fleet_target_group_options={
            "protocol": "HTTP",
            "port": 80,
            "vpc_id": subnets[0]["VpcId"],
        },
    )
    assert run.ok
    assert run.routes == ("2026-11", "404", "2026-11")
    assert run.sizes["2026-11"] == 2
