# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two portals, each behind a target group of its own, and the listener that decides between them.

The API is moto's, with the health that AWS reports: a group that no rule names is not checked. The
traffic goes through the stand-in of tests.support.alb_front.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from ansible_collections.immutable.delivery.plugins.module_utils.alb.rules import Forward
from tests.support.alb_front import AlbFront, alb_front, targets_of
from tests.support.modules import Ended, RunningModule, start_module
from tests.support.moto_server import HEALTH_NAMESPACE, REGION, Moto, Start, served
from tests.support.portal import KEY, Portal
from tests.support.portal_harness import HOST, entities, left_in, running_portal

# The seconds that a former group's requests get; AWS gives 300 where nobody asks for less.
DELAY = 1
PATIENCE = 60.0


@dataclass
class CheckedMoto(Moto):
    """moto with targets that have to be checked before they are healthy."""

    listener: str = ""
    ill: set[str] = field(default_factory=set)
    _looks: dict[str, int] = field(default_factory=dict)

    def _answer(
        self, environ: dict[str, Any], start: Start, action: str, form: dict[str, list[str]]
    ) -> Iterable[bytes]:
        if action != "DescribeTargetHealth":
            return super()._answer(environ, start, action, form)
        group = form["TargetGroupArn"][0]
        state, reason = self._state(group)
        members = "".join(
            f"<member><Target><Id>{host}</Id><Port>{port}</Port></Target><TargetHealth>"
            f"<State>{state}</State>{reason and f'<Reason>{reason}</Reason>'}</TargetHealth>"
            "</member>"
            for host, port in targets_of(group)
        )
        text = (
            f'<DescribeTargetHealthResponse xmlns="{HEALTH_NAMESPACE}"><DescribeTargetHealthResult>'
            f"<TargetHealthDescriptions>{members}</TargetHealthDescriptions>"
            "</DescribeTargetHealthResult></DescribeTargetHealthResponse>"
        ).encode()
        start("200 OK", [("Content-Type", "text/xml"), ("Content-Length", str(len(text)))])
        return [text]

    def _state(self, group: str) -> tuple[str, str]:
        named = {
            arn
            for rule in self.rules(self.listener)
            for item in rule.actions
            if isinstance(item, Forward)
            for arn in item.attached
        }
        if group not in named:
            self._looks.pop(group, None)
            return "unused", "Target.NotInUse"
        if group in self.ill:
            return "unhealthy", "Target.FailedHealthChecks"
        self._looks[group] = self._looks.get(group, 0) + 1
        return (
            ("initial", "Elb.InitialHealthChecking") if self._looks[group] == 1 else ("healthy", "")
        )


@dataclass
class Cloud:
    """The listener, with v23 live at first, and v24 behind the other group."""

    folder: Path
    moto: CheckedMoto
    front: AlbFront
    live: Portal
    candidate: Portal
    # By name, blue's first.
    groups: dict[str, str]
    elb: Any

    @property
    def connection(self) -> dict[str, Any]:
        """The options that alb_switch has as well."""
        return {
            "endpoint_url": self.moto.url,
            "region": REGION,
            "access_key": "test",
            "secret_key": "test-secret",
            # botocore's own repeats take seconds; ours are what is tested.
            "aws_config": {"retries": {"total_max_attempts": 1}},
        }

    @property
    def alb(self) -> dict[str, Any]:
        return {
            **self.connection,
            "listener_arn": self.moto.listener,
            "target_groups": dict.fromkeys(self.groups, ""),
            "health_timeout": 30,
        }

    def reset(self) -> None:
        """Have the traffic at the live portal, by a listener that was never ours."""
        self.moto.reset_calls()
        self.moto.ill.clear()
        self.moto.before.clear()
        self.moto.allowed = None
        for rule in self.moto.rules(self.moto.listener):
            if not rule.is_default:
                self.elb.delete_rule(RuleArn=rule.arn)
        self.elb.modify_listener(
            ListenerArn=self.moto.listener,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": self.arns[0]}],
        )

    @property
    def arns(self) -> list[str]:
        return list(self.groups.values())

    def arguments(self, **options: Any) -> dict[str, Any]:
        """The options of portal_switch."""
        return {
            "api_url": self.live.url,
            "candidate_url": self.candidate.url,
            "host_header": HOST,
            "deployment_key": KEY,
            "archive": self.folder / "archive",
            "router": "alb",
            "router_url": self.front.url,
            "alb": self.alb,
            "service": "portal",
            "prove_fields": {"version": "v24"},
            **options,
        }

    def start(self, *, check: bool = False, **options: Any) -> RunningModule:
        arguments = {**self.arguments(**options), "_ansible_check_mode": check}
        return start_module(self.folder, "portal_switch", arguments)

    def run(self, **options: Any) -> Ended:
        with self.start(**options) as running:
            return self.end(running)

    def end(self, running: RunningModule) -> Ended:
        ended = running.end()
        assert KEY not in ended.output
        assert "test-secret" not in ended.output
        assert [name for name in left_in(self.folder) if name.endswith(".portal-part")] == []
        return ended

    def register(self, **options: Any) -> Ended:
        """Run proxy_register."""
        given = {
            "router": "alb",
            "api_url": self.front.url,
            "alb": self.alb,
            "service": "portal",
            "host_header": HOST,
        }
        with start_module(self.folder, "proxy_register", {**given, **options}) as running:
            return self.end(running)

    def health(self) -> dict[str, Any]:
        """What answers through the listener."""
        answer = requests.get(f"{self.front.url}/health", headers={"Host": HOST}, timeout=PATIENCE)
        answer.raise_for_status()
        return dict(answer.json())

    def look(self) -> tuple[Any, ...]:
        """All of the listener, which side is read-only, and what the live portal has."""
        return (
            self.moto.rules(self.moto.listener),
            self.live.locked(),
            self.candidate.locked(),
            entities(self.live),
        )


@contextmanager
def cloud_at(folder: Path) -> Iterator[Cloud]:
    """Run all of it."""
    with (
        served(CheckedMoto()) as moto,
        running_portal(folder / "blue", version="v23") as live,
        running_portal(folder / "green", filled=False) as candidate,
    ):
        elb, ec2 = moto.client("elbv2"), moto.client("ec2")
        subnets = ec2.describe_subnets()["Subnets"][:2]
        balancer = elb.create_load_balancer(
            Name="portal", Subnets=[item["SubnetId"] for item in subnets]
        )["LoadBalancers"][0]["LoadBalancerArn"]
        groups = {}
        for name, portal in (("portal-blue", live), ("portal-green", candidate)):
            groups[name] = _group(elb, name, portal, subnets[0]["VpcId"])
        moto.listener = elb.create_listener(
            LoadBalancerArn=balancer,
            Protocol="HTTP",
            Port=80,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": groups["portal-blue"]}],
        )["Listeners"][0]["ListenerArn"]
        with alb_front(moto, moto.listener) as front:
            yield Cloud(folder, moto, front, live, candidate, groups, elb)


def _group(elb: Any, name: str, portal: Portal, vpc: str) -> str:
    arn: str = elb.create_target_group(
        Name=name, Protocol="HTTP", Port=80, VpcId=vpc, TargetType="ip"
    )["TargetGroups"][0]["TargetGroupArn"]
    parts = urlsplit(portal.url)
    elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": parts.hostname, "Port": parts.port}])
    elb.modify_target_group_attributes(
        TargetGroupArn=arn,
        Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": str(DELAY)}],
    )
    return arn
