# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What moto leaves out of Auto Scaling groups behind a load balancer.

A target group that no listener uses is not checked, so its targets are `unused`; one that has just
been attached has them `initial` at first. Instances that are gone are no targets any more. And
metrics can be switched off.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from moto.backends import get_backend

from ansible_collections.immutable.delivery.plugins.module_utils.alb.roles import name_of
from tests.support.moto_server import ACCOUNT, REGION, Moto, Start, answer_xml

MEMBER = re.compile(r"<member>(?=<Target>|\s*<Target>).*?</member>", re.DOTALL)
IDENTITY = re.compile(r"<Id>(.*?)</Id>")
HEALTH = re.compile(r"<TargetHealth>.*?</TargetHealth>", re.DOTALL)
DISABLED = (
    '<DisableMetricsCollectionResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">'
    "<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>"
    "</DisableMetricsCollectionResponse>"
)


@dataclass
class FleetMoto(Moto):
    """By name of a target group, ``states`` has what each look shows, where a listener uses it.

    The last one stays; an empty one shows that no target is registered. Clients who ask for a path
    below a front are answered as well, and for /broken with a failure.
    """

    states: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def _answer(
        self, environ: dict[str, Any], start: Start, action: str, form: dict[str, list[str]]
    ) -> Iterable[bytes]:
        if action == "DisableMetricsCollection":
            group = self.groups()[form["AutoScalingGroupName"][0]]
            group.metrics = []
            return answer_xml(start, "200 OK", DISABLED)
        if action == "DescribeTargetHealth":
            return self._health(environ, start, form["TargetGroupArn"][0])
        return super()._answer(environ, start, action, form)

    def _health(self, environ: dict[str, Any], start: Start, arn: str) -> Iterable[bytes]:
        text = b"".join(self._pass(environ, lambda *_answer: None)).decode()
        state, reason = self._state(arn)
        told = f"<State>{state}</State>" + (f"<Reason>{reason}</Reason>" if reason else "")

        def of_one(member: re.Match[str]) -> str:
            found = IDENTITY.search(member[0])
            if not state or found is None or not self._runs(found[1]):
                return ""
            return HEALTH.sub(f"<TargetHealth>{told}</TargetHealth>", member[0])

        return answer_xml(start, "200 OK", MEMBER.sub(of_one, text))

    def _state(self, arn: str) -> tuple[str, str]:
        if not self._in_use(arn):
            return "unused", "Target.NotInUse"
        looks = self.states.setdefault(name_of(arn), [("healthy", "")])
        return looks.pop(0) if len(looks) > 1 else looks[0]

    def _front(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        # /front/arn:...:listener/app/NAME/ID/ID and then the path.
        parts = environ["PATH_INFO"].split("/")
        if parts[7:] == ["broken"]:
            start("500 -", [("Content-Length", "0")])
            return []
        return super()._front({**environ, "PATH_INFO": "/".join(parts[:7])}, start)

    def _in_use(self, arn: str) -> bool:
        backend = get_backend("elbv2")[ACCOUNT][REGION]
        return any(
            arn in str(action.data)
            for balancer in backend.load_balancers.values()
            for listener in balancer.listeners.values()
            for rule in backend.describe_rules(listener.arn, None)
            for action in rule.actions
        )

    def _runs(self, identity: str) -> bool:
        instance = get_backend("ec2")[ACCOUNT][REGION].get_instance_by_id(identity)
        return bool(instance is not None and instance.state == "running")

    def groups(self) -> dict[str, Any]:
        """The Auto Scaling groups that moto holds, read without a call."""
        held: dict[str, Any] = get_backend("autoscaling")[ACCOUNT][REGION].autoscaling_groups
        return held
