# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks of a fleet against moto's server over HTTP, from version n to the end of it.

Each runs with no other rights than those of the policy that is shipped for it. Plays take seconds,
so one story is played once, and each test looks at its part of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.fleet import (
    FIXED_ONLY,
    METRICS,
    ON_BEHALF,
    PHASES,
    Fleet,
    Run,
    actions_of,
    made_fleet,
    policy,
)
from tests.support.moto_fleet import FleetMoto
from tests.support.moto_server import REGION, served
from tests.support.plays import ROOT
from tests.support.shipped import Shipped

SAME_GROUP = (
    "MinSize",
    "DesiredCapacity",
    "MaxSize",
    "LaunchTemplate",
    "VPCZoneIdentifier",
    "HealthCheckType",
    "HealthCheckGracePeriod",
    "DefaultCooldown",
    "TerminationPolicies",
    "EnabledMetrics",
)
SAME_TARGET = (
    "Protocol",
    "Port",
    "VpcId",
    "TargetType",
    "HealthCheckProtocol",
    "HealthCheckPath",
    "HealthCheckIntervalSeconds",
    "HealthCheckTimeoutSeconds",
    "HealthyThresholdCount",
    "UnhealthyThresholdCount",
    "Matcher",
    "deregistration_delay.timeout_seconds",
)
STAGED = ("n", "1", "n")
PROMOTED = ("1", "404", "1")
ROLLED_BACK = ("n", "404", "n")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with served(FleetMoto()) as moto:
        yield made_fleet(moto, tmp_path_factory.mktemp("fleet"))


@pytest.fixture(scope="module")
def told(fleet: Fleet, tarball: Shipped) -> dict[str, Run]:
    """From n, which somebody else made, to versions 1 and 2 of the launch template.

    Each playbook is run from the checkout first, and from the installed tarball later.
    """
    runs: dict[str, Run] = {}
    fleet.group("n").metrics = ["GroupInServiceInstances"]
    fleet.group("n").suspended_processes = ["AZRebalance"]
    by_port = {"load_balancer": fleet.service, "port": 80}
    wrong = {**fleet.settings["fleet_verify"], "verify_fields": {"version": "x"}}
    runs["unproved"] = fleet.play("deploy", fleet_verify={**wrong, "verify_timeout": 0})
    runs["deploy checked"] = fleet.play("deploy", check=True)
    runs["deploy"] = fleet.play("deploy", again=True)
    runs["canary"] = fleet.play("canary", fleet_canary_alarms=[alarm(fleet)])
    runs["canary again"] = fleet.play(
        "canary",
        shipped=tarball,
        fleet_canary_alarms=["nowhere"],
        fleet_canary_on_failure="rolled_back",
        fleet_listener=by_port,
    )
    # The live version grows with its load.
    fleet.moto.client("autoscaling").set_desired_capacity(
        AutoScalingGroupName=f"{fleet.service}-n", DesiredCapacity=3
    )
    runs["promote"] = fleet.play("promote", again=True, fleet_version="1")
    runs["standby checked"] = fleet.play("retire", check=True, fleet_retire_mode="standby")
    runs["standby"] = fleet.play("retire", again=True, fleet_retire_mode="standby")
    runs["rollback"] = fleet.play("rollback", again=True)
    fleet.new_template_version()
    runs["next deploy"] = fleet.play("deploy", fleet_listener=by_port, shipped=tarball)
    lock = str(fleet.folder / "lock")
    runs["withdrawn"] = fleet.play(
        "rollback", fleet_listener=by_port, fleet_lock_path=lock, shipped=tarball
    )
    runs["promote by name"] = fleet.play(
        "promote", fleet_version="2", fleet_listener=by_port, shipped=tarball
    )
    runs["retire"] = fleet.play("retire", again=True, fleet_listener=by_port, shipped=tarball)
    return runs


def alarm(fleet: Fleet) -> str:
    """Make an alarm that is not raised."""
    fleet.moto.client("cloudwatch").put_metric_alarm(
        AlarmName=f"{fleet.service}-5xx",
        MetricName="HTTPCode_Target_5XX_Count",
        Namespace="AWS/ApplicationELB",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    return f"{fleet.service}-5xx"


def test_what_cannot_be_proved_is_removed_again(fleet: Fleet, told: dict[str, Run]) -> None:
    run = told["unproved"]
    assert run.routes == ("n", "n", "n")
    assert (run.sizes, run.target_groups) == ({"n": 2}, {"n"})
    assert "did not answer 3 times in a row as expected" in run.message
    assert f"Live is {fleet.service}-n, as before.\nNext step: " in run.message
    assert f"The candidate {fleet.service}-1 was removed." in run.message


def test_check_mode_changes_nothing_and_says_what_there_would_be(
    fleet: Fleet, told: dict[str, Run]
) -> None:
    run = told["deploy checked"]
    assert run.ok
    assert run.written == []
    said = run.result.task("Say what check mode cannot try").msg
    assert f"the target group {fleet.service}-1" in said
    assert "2 instances of version 1" in said
    assert told["standby checked"].ok
    assert told["standby checked"].written == []
    assert told["standby checked"].changed


def test_a_deploy_builds_beside_what_is_live_and_stages_it(told: dict[str, Run]) -> None:
    assert told["deploy"].ok
    assert told["deploy"].routes == STAGED
    assert told["deploy"].sizes == {"n": 2, "1": 2}


def test_the_new_fleet_is_as_the_live_one_is(fleet: Fleet, told: dict[str, Run]) -> None:
    run = told["deploy"]
    assert run.ok
    new, old = run.groups["1"], run.groups["n"]
    new_target, old_target = run.targets["1"], run.targets["n"]
    for name in SAME_GROUP:
        assert new[name] == old[name], name
    for name in SAME_TARGET:
        assert new_target[name] == old_target[name], name
    assert new["TargetGroupARNs"] == [new_target["TargetGroupArn"]]
    tags = {tag["Key"]: (tag["Value"], tag["PropagateAtLaunch"]) for tag in new["Tags"]}
    assert tags == {
        "cost-centre": ("7", True),
        "Name": (f"{fleet.service}-1", True),
        "immutable.delivery:service": (fleet.service, True),
        "immutable.delivery:version": ("1", True),
    }


def test_a_canary_goes_up_its_steps(told: dict[str, Run]) -> None:
    assert told["canary"].ok
    assert told["canary"].routes == ("n", "1", "1 50, n 50")
    assert len(told["canary"].changed) == 2


def test_a_canary_goes_on_with_its_share_and_loses_it_at_the_gate(told: dict[str, Run]) -> None:
    run = told["canary again"]
    assert "nowhere does not exist" in run.message
    assert "the candidate did not pass the gate: " in run.message
    assert "State: The candidate is rolled back again. Live is " in run.message
    assert run.changed == ["Take its share of the traffic away again"]
    assert run.routes == ROLLED_BACK
    assert run.sizes == {"n": 2, "1": 2}


def test_a_promotion_brings_the_candidate_to_the_size_of_the_live_one(
    told: dict[str, Run],
) -> None:
    assert told["promote"].ok
    assert told["promote"].routes == PROMOTED
    assert told["promote"].sizes == {"n": 3, "1": 3}


def test_one_in_standby_is_brought_back_by_a_rollback(told: dict[str, Run]) -> None:
    assert told["standby"].ok
    assert told["standby"].routes == PROMOTED
    assert told["standby"].sizes == {"n": 0, "1": 3}
    assert told["rollback"].ok
    assert told["rollback"].routes == ROLLED_BACK
    assert told["rollback"].sizes == {"n": 3, "1": 3}
    # Whatever was not asked for is as it was before it was in standby.
    before, after = told["deploy"].groups["n"], told["rollback"].groups["n"]
    for name in {*SAME_GROUP, "SuspendedProcesses"} - {"DesiredCapacity"}:
        assert after[name] == before[name], name
    assert before["SuspendedProcesses"]


def test_the_template_says_which_version_is_next_and_a_rollback_withdraws_it(
    told: dict[str, Run],
) -> None:
    assert told["next deploy"].ok
    assert told["next deploy"].routes == ("n", "2", "n")
    assert told["withdrawn"].ok
    assert told["withdrawn"].routes == ROLLED_BACK
    assert told["withdrawn"].sizes == {"n": 3, "1": 3, "2": 3}
    for task in (
        "Make sure that nobody else deploys this service",
        "Let others deploy this service",
    ):
        assert not told["withdrawn"].result.task(task).skipped


def test_retiring_ends_all_that_came_before(told: dict[str, Run]) -> None:
    assert told["promote by name"].ok
    assert told["promote by name"].routes == ("2", "404", "2")
    assert told["retire"].ok
    assert told["retire"].routes == ("2", "404", "2")
    assert (told["retire"].sizes, told["retire"].target_groups) == ({"2": 3}, {"2"})


@pytest.mark.parametrize("phase", PHASES)
def test_a_policy_has_what_is_needed_and_nothing_that_never_is(
    fleet: Fleet, told: dict[str, Run], phase: str
) -> None:
    failed = {name for name, run in told.items() if run.result.rc}
    assert failed == {"unproved", "canary again"}
    called = fleet.called[phase]
    if called & METRICS:
        # The one for a group whose metrics are collected, the other one for all others.
        called = called | METRICS
    allowed = actions_of(policy(phase))
    assert allowed - ON_BEHALF - FIXED_ONLY.get(phase, set()) == called
    if called & {"autoscaling:CreateAutoScalingGroup", "autoscaling:UpdateAutoScalingGroup"}:
        assert allowed >= ON_BEHALF


def test_the_inventory_groups_instances_by_service_and_version(
    fleet: Fleet, told: dict[str, Run]
) -> None:
    run = told["retire"]
    assert run.ok
    # Another one, whose instances have no tags of ours.
    plain = made_fleet(fleet.moto, fleet.folder)
    plain.moto.reset_calls()
    plain.moto.allowed = actions_of(policy("inventory"))
    try:
        listed = subprocess.run(
            [sys.executable, "-m", "ansible", "inventory", "-i", "inventories/aws", "--list"],
            env={
                **os.environ,
                "AWS_ENDPOINT_URL": fleet.moto.url,
                "AWS_ACCESS_KEY_ID": "nobodys-key",
                "AWS_SECRET_ACCESS_KEY": "nobodys-secret",
                "AWS_REGION": REGION,
            },
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        plain.moto.allowed = None
    assert listed.returncode == 0, listed.stderr
    found = json.loads(listed.stdout)
    instances = {item["InstanceId"] for item in run.groups["2"]["Instances"]}
    for group in ("aws_ec2", f"service_{fleet.service}", "version_2", f"{fleet.service}_2"):
        assert set(found[group]["hosts"]) == instances, group
    assert found["fleet"]["hosts"] == ["kie"]
    assert set(plain.moto.actions) == actions_of(policy("inventory"))
