# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet behind a load balancer, and the playbooks run against it under their own policies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.immutable.delivery.plugins.module_utils.alb.roles import name_of
from tests.support.moto_fleet import FleetMoto
from tests.support.moto_server import REGION
from tests.support.plays import ROOT, PlayResult, run_play

PHASES = ("deploy", "canary", "promote", "rollback", "retire")
IMAGE = "ami-12c6146b"

_numbers = iter(range(1, 1_000_000))


def policy(phase: str) -> dict[str, Any]:
    """The policy that is shipped for a playbook."""
    text = (ROOT / "docs" / "iam" / f"fleet_{phase}.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def actions_of(document: Mapping[str, Any]) -> set[str]:
    """The actions that a policy allows."""
    return {action for statement in document["Statement"] for action in statement["Action"]}


@dataclass
class Fleet:
    """A listener that forwards to version n, whose group and target group somebody else made."""

    moto: FleetMoto
    folder: Path
    service: str
    listener: str
    template: str
    settings: dict[str, Any] = field(default_factory=dict)
    # By playbook, every action that was called.
    called: dict[str, set[str]] = field(default_factory=dict)

    def play(self, phase: str, *, check: bool = False, **settings: Any) -> PlayResult:
        """Run a playbook, with no other rights than those of its policy."""
        inventory = self.folder / "inventory.json"
        host = {"ansible_connection": "local"}
        inventory.write_text(json.dumps({"fleet": {"hosts": {self.service: host}}}))
        self.moto.reset_calls(*self.moto.faults)
        if self.moto.allowed is None:
            self.moto.allowed = actions_of(policy(phase))
        try:
            return run_play(
                ROOT / "playbooks" / f"fleet_{phase}.yml",
                extra_vars={**self.settings, **settings},
                check=check,
                args=["--inventory", str(inventory)],
            )
        finally:
            self.called.setdefault(phase, set()).update(self.moto.actions)
            self.moto.allowed = None

    def routes(self) -> tuple[Any, ...]:
        """Who answers those who ask for blue, for green, and for nothing; without the service."""
        return tuple(self._route(mode) for mode in ("blue", "green", ""))

    def _route(self, mode: str) -> str:
        routed = self.moto.routed(self.listener, mode)
        if isinstance(routed, int):
            return str(routed)
        shares = {
            name.removeprefix(f"{self.service}-"): share for name, share in sorted(routed.items())
        }
        if len(shares) == 1:
            return next(iter(shares))
        return ", ".join(f"{name} {share}" for name, share in shares.items())

    def sizes(self) -> dict[str, int]:
        """How many instances each group of this service has."""
        return {
            name.removeprefix(f"{self.service}-"): len(group.instance_states)
            for name, group in sorted(self.moto.groups().items())
            if name.startswith(f"{self.service}-")
        }

    def group(self, name: str) -> Any:
        """A group as moto holds it."""
        return self.moto.groups()[f"{self.service}-{name}"]

    def target_groups(self) -> set[str]:
        """The names of the target groups of this service."""
        found = self.moto.client("elbv2").describe_target_groups()["TargetGroups"]
        return {
            name_of(group["TargetGroupArn"]).removeprefix(f"{self.service}-")
            for group in found
            if name_of(group["TargetGroupArn"]).startswith(f"{self.service}-")
        }

    def tags(self, name: str) -> dict[str, str]:
        """A group's tags."""
        return {tag["Key"]: tag["Value"] for tag in self.group(name).tags}

    def new_template_version(self) -> None:
        """What a pipeline does that has a new build: a new version of the launch template."""
        self.moto.client("ec2").create_launch_template_version(
            LaunchTemplateId=self.template,
            LaunchTemplateData={"ImageId": IMAGE, "InstanceType": "t3.micro"},
        )


def made_fleet(moto: FleetMoto, folder: Path, **settings: Any) -> Fleet:
    """Make one with two instances of version n, called SERVICE-n."""
    service = f"kie{next(_numbers)}"
    ec2, elb = moto.client("ec2"), moto.client("elbv2")
    subnets = ec2.describe_subnets()["Subnets"][:2]
    template = ec2.create_launch_template(
        LaunchTemplateName=service,
        LaunchTemplateData={"ImageId": IMAGE, "InstanceType": "t3.micro"},
    )["LaunchTemplate"]["LaunchTemplateId"]
    target_group = elb.create_target_group(
        Name=f"{service}-n",
        Protocol="HTTP",
        Port=8080,
        VpcId=subnets[0]["VpcId"],
        HealthCheckPath="/health",
        HealthCheckIntervalSeconds=7,
        Matcher={"HttpCode": "200,204"},
    )["TargetGroups"][0]["TargetGroupArn"]
    elb.modify_target_group_attributes(
        TargetGroupArn=target_group,
        Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "42"}],
    )
    scaling = moto.client("autoscaling")
    scaling.create_auto_scaling_group(
        AutoScalingGroupName=f"{service}-n",
        LaunchTemplate={"LaunchTemplateId": template, "Version": "1"},
        MinSize=1,
        DesiredCapacity=2,
        MaxSize=5,
        VPCZoneIdentifier=",".join(subnet["SubnetId"] for subnet in subnets),
        TargetGroupARNs=[target_group],
        HealthCheckType="ELB",
        HealthCheckGracePeriod=77,
        DefaultCooldown=55,
        Tags=[{"Key": "cost-centre", "Value": "7", "PropagateAtLaunch": True}],
    )
    balancer = elb.create_load_balancer(
        Name=service, Subnets=[subnet["SubnetId"] for subnet in subnets]
    )["LoadBalancers"][0]["LoadBalancerArn"]
    listener = elb.create_listener(
        LoadBalancerArn=balancer,
        Protocol="HTTP",
        Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": target_group}],
    )["Listeners"][0]["ListenerArn"]
    fleet = Fleet(moto, folder, service, listener, template)
    fleet.settings = {
        "fleet_service": service,
        "fleet_listener": {"listener_arn": listener},
        "fleet_connection": {
            "endpoint_url": moto.url,
            "region": REGION,
            "access_key": "test",
            "secret_key": "test",
        },
        "fleet_first_group": f"{service}-n",
        "fleet_health_timeout": 20,
        "fleet_poll_interval": 1,
        "fleet_canary_steps": [{"weight": 10, "bake": 1}, {"weight": 50, "bake": 1}],
        "fleet_canary_interval": 1,
        "fleet_verify": {
            "verify_url": moto.front(listener),
            "verify_fields": {"version": service + "-{{ fleet_expected_version }}"},
        },
        **settings,
    }
    return fleet


def fixed_fleet(moto: FleetMoto, folder: Path) -> Fleet:
    """Make one with two groups that stay: SERVICE-n, which is live, and SERVICE-spare, empty."""
    fleet = made_fleet(moto, folder)
    live, spare = f"{fleet.service}-n", f"{fleet.service}-spare"
    scaling = moto.client("autoscaling")
    subnets = fleet.group("n").vpc_zone_identifier
    scaling.create_auto_scaling_group(
        AutoScalingGroupName=spare,
        LaunchTemplate={"LaunchTemplateId": fleet.template, "Version": "1"},
        MinSize=0,
        DesiredCapacity=0,
        MaxSize=1,
        VPCZoneIdentifier=subnets,
    )
    fleet.settings |= {"fleet_first_group": "", "fleet_fixed_groups": [live, spare]}
    return fleet
