# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks of a fleet where things go wrong: ill instances, gates, rights, a busy API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Fleet, made_fleet
from tests.support.moto_fleet import FleetMoto
from tests.support.moto_server import THROTTLED, Fault, served

UNTOUCHED = ("n", "n", "n")
STAGED = ("n", "1", "n")


@pytest.fixture(scope="module")
def server() -> Iterator[FleetMoto]:
    with served(FleetMoto()) as moto:
        yield moto


@pytest.fixture
def fleet(server: FleetMoto, tmp_path: Path) -> Fleet:
    server.before.clear()
    return made_fleet(server, tmp_path)


def raised(fleet: Fleet) -> None:
    """Raise the alarm."""
    fleet.moto.client("cloudwatch").set_alarm_state(
        AlarmName=f"{fleet.service}-5xx", StateValue="ALARM", StateReason="too many"
    )


def test_a_candidate_that_is_never_healthy_is_kept_if_that_is_wanted_and_gone_on_with(
    fleet: Fleet,
) -> None:
    fleet.moto.states[f"{fleet.service}-1"] = [("unhealthy", "Target.FailedHealthChecks")]
    run = fleet.play("deploy", fleet_keep_failed=True, fleet_health_timeout=1)
    assert "0 of 2 targets are healthy, 2 must be" in run.message
    assert "is unhealthy (Target.FailedHealthChecks)" in run.message
    assert f"The candidate {fleet.service}-1 was kept" in run.message
    assert f"Live is {fleet.service}-n, as before.\nNext step: " in run.message
    assert run.routes == UNTOUCHED
    assert run.sizes == {"n": 2, "1": 2}
    made = run.groups["1"]["Instances"]

    # It comes to be healthy after all.
    fleet.moto.states[f"{fleet.service}-1"] = [
        ("initial", "Elb.InitialHealthChecking"),
        ("healthy", ""),
    ]
    hook = fleet.folder / "policies.yml"
    hook.write_text("- {name: Make policies, ansible.builtin.debug: {msg: made}}\n")
    run = fleet.play("deploy", fleet_created_tasks=str(hook))
    assert run.ok
    assert run.routes == STAGED
    assert run.groups["1"]["Instances"] == made
    assert run.result.task("Make policies").msg == "made"


def test_a_candidate_that_launches_nothing_is_removed(fleet: Fleet) -> None:
    fleet.moto.states[f"{fleet.service}-1"] = [("", "")]
    run = fleet.play("deploy", fleet_health_timeout=1)
    assert "no target is registered, 2 must be healthy" in run.message
    assert f"The candidate {fleet.service}-1 was removed." in run.message
    assert run.routes == UNTOUCHED
    assert (run.sizes, run.target_groups) == ({"n": 2}, {"n"})


def test_a_right_that_is_missing_is_named_and_nothing_is_left(fleet: Fleet) -> None:
    run = fleet.play("deploy", without=["autoscaling:CreateAutoScalingGroup"])
    assert "AccessDenied" in run.message
    assert "CreateAutoScalingGroup" in run.message
    assert run.routes == UNTOUCHED
    assert (run.sizes, run.target_groups) == ({"n": 2}, {"n"})


def test_each_call_may_be_throttled(fleet: Fleet) -> None:
    # Each second one of them, and so each call once.
    faults = [Fault(number, **THROTTLED) for number in range(1, 400, 2)]
    run = fleet.play("deploy", faults=faults)
    assert run.ok
    assert run.routes == STAGED


def test_an_alarm_that_is_raised_takes_the_share_of_the_candidate_away(fleet: Fleet) -> None:
    fleet.stand("1")
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
    fleet.moto.before["DescribeAlarms"] = lambda: raised(fleet)
    front = fleet.moto.front(fleet.listener)
    run = fleet.play(
        "canary",
        fleet_canary_alarms=[f"{fleet.service}-5xx"],
        fleet_canary_probe={
            "dir": str(fleet.folder / "probe"),
            "url": front,
            "reads": ["/health"],
            "rate": 5,
        },
        fleet_canary_health={"url": front},
    )
    assert f"{fleet.service}-5xx is in ALARM" in run.message
    assert "the candidate did not pass the gate: " in run.message
    assert "State: The candidate is staged again. Live is " in run.message
    assert run.routes == STAGED
    assert run.sizes == {"n": 2, "1": 2}
    probe = run.result.task("End the load")
    assert probe["report"]["failed"] == 0
    assert probe["running"] is False


def test_requests_that_are_lost_take_the_candidate_back(fleet: Fleet) -> None:
    fleet.stand("1")
    run = fleet.play(
        "canary",
        fleet_canary_on_failure="rolled_back",
        fleet_canary_probe={
            "dir": str(fleet.folder / "probe"),
            "url": fleet.moto.front(fleet.listener),
            "reads": ["/health"],
            "writes": {"path": "/broken", "body": {"name": "{n}"}},
            "rate": 5,
        },
    )
    assert "Make sure that no more requests are lost than may be" in run.message
    assert "is rolled back again" in run.message
    assert run.routes == ("n", "404", "n")


IMPOSSIBLE: list[tuple[str, dict[str, Any], str]] = [
    ("deploy", {"fleet_service": "kie_1"}, "1 to 20 letters, digits and inner hyphens"),
    ("deploy", {"fleet_first_group": "nobody"}, "There is no live fleet"),
    ("deploy", {"fleet_fixed_groups": ["nobody"]}, "There is no Auto Scaling group nobody"),
    ("deploy", {"fleet_version": "n"}, "is that of another Auto Scaling group already"),
    ("deploy", {"fleet_version": "x"}, "that is not of our making"),
    ("canary", {}, "No candidate is staged; deploy it first."),
    ("promote", {"fleet_version": "7"}, "There is no fleet of version 7 to promote"),
    ("rollback", {"fleet_version": "7"}, "There is no fleet of version 7 to go back to"),
    ("retire", {"fleet_first_version": "6", "fleet_version": "6"}, "Version 6 is live"),
]


def test_what_cannot_be_done_is_said(fleet: Fleet) -> None:
    elb = fleet.moto.client("elbv2")
    theirs = elb.describe_target_groups(Names=[f"{fleet.service}-n"])["TargetGroups"][0]
    elb.create_target_group(
        Name=f"{fleet.service}-x",
        Protocol="HTTP",
        Port=80,
        VpcId=theirs["VpcId"],
        Tags=[{"Key": "immutable.delivery:service", "Value": "another"}],
    )
    said = fleet.refused([(phase, settings) for phase, settings, _text in IMPOSSIBLE])
    for message, (phase, settings, text) in zip(said, IMPOSSIBLE, strict=True):
        assert text in message, (phase, settings)
    assert fleet.written == []
