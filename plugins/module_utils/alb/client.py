# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The load balancer's API, one method a call, with every call counted and every refusal explained.

Source: Elastic Load Balancing API Reference, version 2015-12-01.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import DeliveryError
from ..signals import uninterrupted
from .groups import TargetGroup, group_from
from .roles import Target
from .rules import Rule, action_to, condition_to, rule_from

try:
    from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:
    # Said before anything here is called: by AnsibleAWSModule, or by the router that asks for this.
    HAS_AWS = False
else:
    HAS_AWS = True

if TYPE_CHECKING:
    from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

# A listener has 100 rules unless its quota was raised; the API gives up to 400 a call.
PAGE = 400
# DescribeTags takes that many resources.
TAGS_AT_ONCE = 20
DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
THROTTLED = ("Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests")


class ApiError(DeliveryError):
    """The API refused a call, or could not be asked.

    :param code: the API's code, such as ``PriorityInUse``; empty where there was no answer.
    """

    kind = "api"

    def __init__(self, message: str, *, code: str = "", next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.code = code


class AccessDenied(ApiError):
    """The credentials lack a permission."""

    kind = "access_denied"


@contextmanager
def _explained(action: str) -> Iterator[None]:
    """Turn the library's errors into sentences that name the API's action."""
    try:
        yield
    except ClientError as error:
        given = error.response.get("Error", {})
        code, message = given.get("Code", "?"), given.get("Message", "")
        full = f"elasticloadbalancing:{action}"
        if code in DENIED:
            raise AccessDenied(
                f"the credentials may not call {full}: {message}",
                code=code,
                next_step=f"Allow {full} in the policy of the role or user that deploys.",
            ) from error
        if code in THROTTLED:
            raise ApiError(
                f"{full} was throttled until no try was left: {message}",
                code=code,
                next_step="Run this again; see who else calls the API of this account.",
            ) from error
        raise ApiError(f"{full} was refused: {code}: {message}", code=code) from error
    except BotoCoreError as error:
        raise ApiError(
            f"elasticloadbalancing:{action} could not be asked: {error}",
            next_step="Check the credentials, the region, endpoint_url and the network.",
        ) from error


class Balancer:
    """The calls that a switch needs.

    Each is repeated where the API says that it is busy, on top of what botocore does by itself
    (``aws_config`` sets that). ``calls`` counts requests as they are sent, repeats included.
    """

    def __init__(self, api: Any) -> None:
        self._api = api
        self.calls = 0
        api.meta.events.register("before-send", self._count)

    @classmethod
    def of(cls, module: AnsibleAWSModule) -> Balancer:
        """Return a client with the module's credentials, region and endpoint."""
        return cls(module.client("elbv2"))

    def _count(self, **_event: object) -> None:
        self.calls += 1

    def _call(self, action: str, method: str, **arguments: Any) -> dict[str, Any]:
        def once() -> dict[str, Any]:
            # botocore would take an interruption for a failure of the network, and repeat the call.
            with uninterrupted():
                answer: dict[str, Any] = getattr(self._api, method)(**arguments)
            return answer

        retry = AWSRetry.jittered_backoff(
            retries=4, delay=0.3, max_delay=3, catch_extra_error_codes=list(THROTTLED)
        )
        repeated: Callable[[], dict[str, Any]] = retry(once)
        with _explained(action):
            return repeated()

    def listener_arn(self, load_balancer: str, port: int) -> str:
        """Return the ARN of the listener at *port* of a load balancer, given by name or ARN.

        :raises ApiError: there is none.
        """
        arn = load_balancer
        if not arn.startswith("arn:"):
            found = self._call(
                "DescribeLoadBalancers", "describe_load_balancers", Names=[load_balancer]
            )
            arn = found["LoadBalancers"][0]["LoadBalancerArn"]
        ports = []
        marker: dict[str, str] = {}
        while True:
            page = self._call(
                "DescribeListeners",
                "describe_listeners",
                LoadBalancerArn=arn,
                PageSize=PAGE,
                **marker,
            )
            for item in page["Listeners"]:
                if item.get("Port") == port:
                    return str(item["ListenerArn"])
                ports.append(str(item.get("Port")))
            if not page.get("NextMarker"):
                break
            marker = {"Marker": page["NextMarker"]}
        raise ApiError(
            f"{load_balancer} has no listener at port {port}, only at {', '.join(ports) or 'none'}"
        )

    def group_arn(self, name: str) -> str:
        """Return the ARN of the target group *name*."""
        found = self._call("DescribeTargetGroups", "describe_target_groups", Names=[name])
        return str(found["TargetGroups"][0]["TargetGroupArn"])

    def group(self, *, name: str = "", arn: str = "") -> TargetGroup:
        """Return a target group, by its name or its ARN.

        :raises ApiError: there is none, code ``TargetGroupNotFound``.
        """
        which = {"Names": [name]} if name else {"TargetGroupArns": [arn]}
        found = self._call("DescribeTargetGroups", "describe_target_groups", **which)
        return group_from(found["TargetGroups"][0])

    def deregistration_delay(self, group: str) -> float:
        """Return the seconds that a group gives to the requests of a target that leaves it."""
        found = self._call(
            "DescribeTargetGroupAttributes",
            "describe_target_group_attributes",
            TargetGroupArn=group,
        )
        values = {item["Key"]: item.get("Value") for item in found["Attributes"]}
        # What the API gives to a group that was made without one.
        return float(values.get("deregistration_delay.timeout_seconds") or 300)

    def entrance(self, listener_arn: str) -> str:
        """Return the URL of a listener, with its load balancer's own DNS name."""
        found = self._call("DescribeListeners", "describe_listeners", ListenerArns=[listener_arn])
        listener = found["Listeners"][0]
        found = self._call(
            "DescribeLoadBalancers",
            "describe_load_balancers",
            LoadBalancerArns=[listener["LoadBalancerArn"]],
        )
        host = found["LoadBalancers"][0]["DNSName"]
        return f"{str(listener['Protocol']).lower()}://{host}:{listener['Port']}"

    def rules(self, listener_arn: str) -> tuple[Rule, ...]:
        """Return all rules of a listener, its default action among them."""
        rules: list[Rule] = []
        marker: dict[str, str] = {}
        while True:
            page = self._call(
                "DescribeRules",
                "describe_rules",
                ListenerArn=listener_arn,
                PageSize=PAGE,
                **marker,
            )
            rules += [rule_from(item) for item in page["Rules"]]
            if not page.get("NextMarker"):
                return tuple(rules)
            marker = {"Marker": page["NextMarker"]}

    def rule(self, arn: str) -> Rule:
        """Return one rule."""
        return rule_from(self._call("DescribeRules", "describe_rules", RuleArns=[arn])["Rules"][0])

    def tags(self, arns: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the tags of each of these rules or target groups."""
        tags = {}
        for start in range(0, len(arns), TAGS_AT_ONCE):
            part = list(arns[start : start + TAGS_AT_ONCE])
            found = self._call("DescribeTags", "describe_tags", ResourceArns=part)
            for item in found["TagDescriptions"]:
                tags[str(item["ResourceArn"])] = {
                    tag["Key"]: tag.get("Value") or "" for tag in item["Tags"]
                }
        return tags

    def health(self, group: str) -> tuple[Target, ...]:
        """Return the targets of a group with their health."""
        found = self._call("DescribeTargetHealth", "describe_target_health", TargetGroupArn=group)
        targets = []
        for item in found["TargetHealthDescriptions"]:
            target, health = item["Target"], item.get("TargetHealth") or {}
            port = f":{target['Port']}" if target.get("Port") else ""
            targets.append(
                Target(
                    f"{target['Id']}{port}",
                    health.get("State", "unavailable"),
                    health.get("Reason") or "",
                    health.get("Description") or "",
                )
            )
        return tuple(targets)

    def create(self, listener_arn: str, rule: Rule, tags: Mapping[str, str]) -> Rule:
        """Make *rule*, marked as ours by *tags*, and return it as the API has it."""
        made = self._call(
            "CreateRule",
            "create_rule",
            ListenerArn=listener_arn,
            Priority=rule.priority,
            Conditions=[condition_to(item) for item in rule.conditions],
            Actions=[action_to(item) for item in rule.actions],
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
        )
        return rule_from(made["Rules"][0])

    def modify(self, rule: Rule, *, conditions: bool = False) -> Rule:
        """Give our rule its actions, and its condition where asked to; return what it is then."""
        changed: dict[str, Any] = {"Actions": [action_to(item) for item in rule.actions]}
        if conditions:
            changed["Conditions"] = [condition_to(item) for item in rule.conditions]
        made = self._call("ModifyRule", "modify_rule", RuleArn=rule.arn, **changed)
        return rule_from(made["Rules"][0])

    def modify_default(self, listener_arn: str, rule: Rule) -> Rule:
        """Give a listener its default action; return the action that it has then."""
        made = self._call(
            "ModifyListener",
            "modify_listener",
            ListenerArn=listener_arn,
            DefaultActions=[action_to(item) for item in rule.actions],
        )
        actions = made["Listeners"][0]["DefaultActions"]
        return rule_from({"RuleArn": rule.arn, "IsDefault": True, "Actions": actions})

    def delete(self, arn: str) -> None:
        """Delete a rule of ours."""
        self._call("DeleteRule", "delete_rule", RuleArn=arn)
