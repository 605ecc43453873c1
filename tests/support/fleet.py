# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet behind a load balancer, and the playbooks run against it under their own policies."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.immutable.delivery.plugins.module_utils.alb.roles import name_of
from tests.support.alb import arguments, good, run
from tests.support.moto_fleet import FleetMoto
from tests.support.moto_server import REGION, Fault
from tests.support.plays import ROOT, PlayResult, TaskResult, run_play
from tests.support.shipped import CHECKOUT, Shipped

# What the service asks of the caller of another action, where moto asks nobody: the instances of a
# launch template are launched, tagged and given their role with the rights of the caller.
ON_BEHALF = {"ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"}
# Only where the groups are fixed ones.
FIXED_ONLY = {"deploy": {"autoscaling:AttachLoadBalancerTargetGroups"}}
METRICS = {"autoscaling:EnableMetricsCollection", "autoscaling:DisableMetricsCollection"}
PHASES = ("deploy", "canary", "promote", "rollback", "retire")
IMAGE = "ami-12c6146b"
FIRST_TASK = "Make sure that the names can be made of it"

_numbers = iter(range(1, 1_000_000))


def policy(phase: str) -> dict[str, Any]:
    """The policy that is shipped for a playbook, or for the inventory."""
    name = f"fleet_{phase}" if phase in PHASES else phase
    text = (ROOT / "docs" / "iam" / f"{name}.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def actions_of(document: Mapping[str, Any]) -> set[str]:
    """The actions that a policy allows."""
    return {action for statement in document["Statement"] for action in statement["Action"]}


@dataclass
class Run:
    """A run of a playbook, and what there was after it."""

    result: PlayResult
    parts: list[list[TaskResult]]
    actions: list[str]
    routes: tuple[str, ...]
    # Both as the API describes them, by their names without the service.
    groups: dict[str, dict[str, Any]]
    targets: dict[str, dict[str, Any]]

    @property
    def sizes(self) -> dict[str, int]:
        """How many instances each group has."""
        return {name: len(group["Instances"]) for name, group in self.groups.items()}

    @property
    def target_groups(self) -> set[str]:
        """The names of the target groups."""
        return set(self.targets)

    @property
    def ok(self) -> bool:
        """Whether it succeeded and, where it was to be run again, changed nothing then."""
        assert self.result.rc == 0, self.result.output
        again = [task.task for part in self.parts[1:] for task in part if task.changed]
        assert again == []
        return True

    @property
    def changed(self) -> list[str]:
        """The tasks of the first run that changed something."""
        return [task.task for task in self.parts[0] if task.changed]

    @property
    def message(self) -> str:
        """What it says that fails."""
        assert self.result.rc != 0, self.result.output
        return self.result.failures[-1].msg

    @property
    def written(self) -> list[str]:
        """The calls that were not only reading."""
        return [action for action in self.actions if ":Describe" not in action]


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

    def play(
        self,
        phase: str,
        *,
        check: bool = False,
        again: bool = False,
        faults: Sequence[Fault] = (),
        without: Collection[str] = (),
        shipped: Shipped = CHECKOUT,
        **settings: Any,
    ) -> Run:
        """Run a playbook, with no other rights than those of its policy.

        :param again: run it twice.
        :param without: rights that it is not given.
        """
        inventory = self.folder / "inventory.json"
        host = {"ansible_connection": "local"}
        inventory.write_text(json.dumps({"fleet": {"hosts": {self.service: host}}}))
        playbook = str(shipped.playbook(f"playbooks/fleet_{phase}.yml"))
        self.moto.reset_calls(*faults)
        self.moto.allowed = actions_of(policy(phase)) - set(without)
        try:
            result = run_play(
                [{"import_playbook": playbook}] * (2 if again else 1),
                extra_vars={**self.settings, **settings},
                check=check,
                args=["--inventory", str(inventory)],
                env=shipped.env,
                cwd=shipped.elsewhere,
                timeout=400,
            )
        finally:
            self.called.setdefault(phase, set()).update(self.moto.actions)
            self.moto.allowed = None
        parts: list[list[TaskResult]] = []
        for task in result.results:
            if task.task == FIRST_TASK:
                parts.append([])
            if parts:
                parts[-1].append(task)
        actions = list(self.moto.actions)
        return Run(result, parts, actions, self.routes(), *self.described())

    def refused(self, cases: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """Run the phase of each case with its settings, all in one run, and return what each says.

        Each has to fail, and all have no more rights than those of their policies together.
        """
        # Extra variables would outweigh those of a case.
        apart = {name for _phase, settings in cases for name in settings}
        theirs = {name: value for name, value in self.settings.items() if name in apart}
        told = "Say why it failed"
        tasks = [
            {
                "name": "Try",
                "block": [
                    {
                        "name": "Do it",
                        "ansible.builtin.include_role": {
                            "name": "immutable.delivery.fleet",
                            "tasks_from": phase,
                        },
                        "vars": {**theirs, **settings},
                    }
                ],
                "rescue": [
                    {
                        "name": told,
                        "ansible.builtin.debug": {"msg": "{{ ansible_failed_result.msg }}"},
                    }
                ],
            }
            for phase, settings in cases
        ]
        self.moto.reset_calls()
        self.moto.allowed = {
            action for phase, _settings in cases for action in actions_of(policy(phase))
        }
        given = {name: value for name, value in self.settings.items() if name not in apart}
        try:
            result = run_play(tasks, extra_vars=given, timeout=400).ok()
        finally:
            self.moto.allowed = None
        return [task.msg for task in result.results if task.task == told]

    @property
    def written(self) -> list[str]:
        """The calls since the last run began that were not only reading."""
        return [action for action in self.moto.actions if ":Describe" not in action]

    def routes(self) -> tuple[str, ...]:
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

    def described(self) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
        """The groups and the target groups of this service, these with their attributes."""
        begin = f"{self.service}-"
        groups = self.moto.client("autoscaling").describe_auto_scaling_groups()
        elb = self.moto.client("elbv2")
        targets = {}
        for group in elb.describe_target_groups()["TargetGroups"]:
            name = name_of(group["TargetGroupArn"])
            if name.startswith(begin):
                attributes = elb.describe_target_group_attributes(
                    TargetGroupArn=group["TargetGroupArn"]
                )["Attributes"]
                group.update({item["Key"]: item["Value"] for item in attributes})
                targets[name.removeprefix(begin)] = group
        found = {
            group["AutoScalingGroupName"].removeprefix(begin): group
            for group in groups["AutoScalingGroups"]
            if group["AutoScalingGroupName"].startswith(begin)
        }
        return found, targets

    def group(self, name: str) -> Any:
        """A group as moto holds it, for changing it."""
        return self.moto.groups()[f"{self.service}-{name}"]

    def stand(self, version: str) -> None:
        """Make the groups of a version as a deploy does, and stage it, all without a play."""
        name = f"{self.service}-{version}"
        old = self.moto.client("autoscaling").describe_auto_scaling_groups(
            AutoScalingGroupNames=[f"{self.service}-n"]
        )["AutoScalingGroups"][0]
        elb = self.moto.client("elbv2")
        like = elb.describe_target_groups(Names=[f"{self.service}-n"])["TargetGroups"][0]
        target = elb.create_target_group(
            Name=name, Protocol="HTTP", Port=8080, VpcId=like["VpcId"]
        )["TargetGroups"][0]["TargetGroupArn"]
        tags = {
            "immutable.delivery:service": self.service,
            "immutable.delivery:version": version,
        }
        self.moto.client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName=name,
            LaunchTemplate={"LaunchTemplateId": self.template, "Version": "1"},
            MinSize=1,
            DesiredCapacity=2,
            MaxSize=5,
            VPCZoneIdentifier=old["VPCZoneIdentifier"],
            TargetGroupARNs=[target],
            Tags=[
                {"Key": key, "Value": value, "PropagateAtLaunch": True}
                for key, value in tags.items()
            ],
        )
        good(self.switch("staged", target_group=target))

    def switch(self, state: str, **options: Any) -> dict[str, Any]:
        """Run alb_switch alone."""
        return run(arguments(self.moto, listener_arn=self.listener, state=state, **options))

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
            "access_key": "nobodys-key",
            "secret_key": "nobodys-secret",
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
