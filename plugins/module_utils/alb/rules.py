# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A listener's rules as values, and a small interpreter that routes as the load balancer does.

Source: Elastic Load Balancing API Reference (2015-12-01: Rule, RuleCondition, Action) and the User
Guide for Application Load Balancers, "Listener rules".
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..errors import DeliveryError


class UnknownCondition(DeliveryError):
    """A condition that the interpreter cannot judge."""


@dataclass(frozen=True)
class Forward:
    """Send on to target groups, by weight (0 to 999; one of weight 0 gets nothing).

    The order of groups means nothing, and stickiness among groups means nothing where there is only
    one; equal values therefore route equally.

    :param groups: ARN and weight of each group, sorted.
    :param sticky: the seconds for which a client stays with its group; None for no such thing.
    """

    groups: tuple[tuple[str, int], ...]
    sticky: int | None = None

    @classmethod
    def to(cls, weights: Mapping[str, int], sticky: int | None = None) -> Forward:
        """Return the normal form."""
        return cls(tuple(sorted(weights.items())), sticky if len(weights) > 1 else None)

    @property
    def receiving(self) -> tuple[str, ...]:
        """The groups that get traffic."""
        return tuple(arn for arn, weight in self.groups if weight)

    @property
    def attached(self) -> tuple[str, ...]:
        """The groups that belong to it, with or without traffic."""
        return tuple(arn for arn, _weight in self.groups)


@dataclass(frozen=True)
class Fixed:
    """Answer without asking anybody."""

    status: int
    body: str = ""
    content_type: str = "text/plain"


@dataclass(frozen=True)
class Other:
    """An action that is only carried along: a redirect, a login. ``data`` is JSON."""

    kind: str
    data: str


Action: TypeAlias = "Forward | Fixed | Other"


@dataclass(frozen=True)
class Condition:
    """One condition: any of its values satisfies it.

    :param name: the header's, for ``http-header``.
    :param values: patterns; for ``query-string`` a key (or an empty string) and a value each.
    :param unknown: JSON of what this model does not know, such as regular expressions.
    """

    kind: str
    values: tuple[str, ...] = ()
    name: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    unknown: str = ""


@dataclass(frozen=True)
class Rule:
    """A rule; the listener's default action is the one whose ``priority`` is None."""

    arn: str
    priority: int | None
    conditions: tuple[Condition, ...]
    actions: tuple[Action, ...]

    @property
    def is_default(self) -> bool:
        """Whether this is the listener's default action."""
        return self.priority is None

    @property
    def action(self) -> Action | None:
        """The one action; None where there are several, a login before a forward, say."""
        return self.actions[0] if len(self.actions) == 1 else None


def header_condition(name: str, value: str) -> Condition:
    """Return the condition that a header has one value."""
    return Condition("http-header", (value,), name)


def same_condition(one: Condition, other: Condition) -> bool:
    """Tell whether both are satisfied by the same requests; names and values of headers have no
    case.
    """
    if one.kind != "http-header" or other.kind != "http-header":
        return one == other
    folded = [
        (item.name.lower(), sorted(value.lower() for value in item.values), item.unknown)
        for item in (one, other)
    ]
    return folded[0] == folded[1]


def same_effect(one: Rule, other: Rule) -> bool:
    """Tell whether two rules do the same to the same requests, wherever they stand."""
    return (
        one.actions == other.actions
        and len(one.conditions) == len(other.conditions)
        and all(map(same_condition, one.conditions, other.conditions))
    )


# From and to the API


def _canonical(data: Any) -> str:
    return json.dumps(data, sort_keys=True, default=str)


def action_from(data: Mapping[str, Any]) -> Action:
    """Return an action of the API. ``TargetGroupArn`` alone means the same as one group."""
    kind = data["Type"]
    if kind == "forward":
        config = data.get("ForwardConfig") or {}
        groups = config.get("TargetGroups") or [{"TargetGroupArn": data["TargetGroupArn"]}]
        weights = {item["TargetGroupArn"]: int(item.get("Weight", 1)) for item in groups}
        if len(weights) == 1:
            # The only group gets everything, whatever its weight but 0.
            weights = {arn: min(weight, 1) for arn, weight in weights.items()}
        sticky = config.get("TargetGroupStickinessConfig") or {}
        seconds = int(sticky.get("DurationSeconds") or 0) if sticky.get("Enabled") else None
        return Forward.to(weights, seconds)
    if kind == "fixed-response":
        config = data.get("FixedResponseConfig") or {}
        return Fixed(
            int(config.get("StatusCode", 200)),
            config.get("MessageBody") or "",
            config.get("ContentType") or "text/plain",
        )
    return Other(kind, _canonical(data))


def action_to(action: Action) -> dict[str, Any]:
    """Return the action as the API takes it."""
    if isinstance(action, Forward):
        if len(action.groups) == 1:
            return {"Type": "forward", "TargetGroupArn": action.groups[0][0]}
        config: dict[str, Any] = {
            "TargetGroups": [
                {"TargetGroupArn": arn, "Weight": weight} for arn, weight in action.groups
            ],
            "TargetGroupStickinessConfig": {"Enabled": False},
        }
        if action.sticky is not None:
            config["TargetGroupStickinessConfig"] = {
                "Enabled": True,
                "DurationSeconds": action.sticky,
            }
        return {"Type": "forward", "ForwardConfig": config}
    if isinstance(action, Fixed):
        fixed = {"StatusCode": str(action.status), "ContentType": action.content_type}
        if action.body:
            fixed["MessageBody"] = action.body
        return {"Type": "fixed-response", "FixedResponseConfig": fixed}
    return dict(json.loads(action.data))


_CONFIGS = {
    "http-header": "HttpHeaderConfig",
    "path-pattern": "PathPatternConfig",
    "host-header": "HostHeaderConfig",
    "http-request-method": "HttpRequestMethodConfig",
    "query-string": "QueryStringConfig",
    "source-ip": "SourceIpConfig",
}


def condition_from(data: Mapping[str, Any]) -> Condition:
    """Return a condition of the API, which has two ways to write paths and hosts."""
    kind = data["Field"]
    config = data.get(_CONFIGS.get(kind, ""))
    regex = data.get("RegexValues") or (config or {}).get("RegexValues")
    if kind not in _CONFIGS or regex:
        return Condition(kind, unknown=_canonical(data))
    values = (config or {}).get("Values") or data.get("Values") or []
    if kind == "query-string":
        pairs = tuple((item.get("Key") or "", item["Value"]) for item in values)
        return Condition(kind, pairs=tuple(sorted(pairs)))
    name = (config or {}).get("HttpHeaderName", "")
    return Condition(kind, tuple(sorted(values)), name)


def condition_to(condition: Condition) -> dict[str, Any]:
    """Return a header condition as the API takes it; no others are ever written."""
    return {
        "Field": "http-header",
        "HttpHeaderConfig": {"HttpHeaderName": condition.name, "Values": list(condition.values)},
    }


def rule_from(data: Mapping[str, Any]) -> Rule:
    """Return a rule of ``DescribeRules``."""
    priority = data.get("Priority", "default")
    actions = sorted(data.get("Actions") or [], key=lambda item: item.get("Order") or 0)
    return Rule(
        data["RuleArn"],
        None if data.get("IsDefault") or priority == "default" else int(priority),
        tuple(condition_from(item) for item in data.get("Conditions") or []),
        tuple(action_from(item) for item in actions),
    )


# The interpreter


@dataclass(frozen=True)
class Request:
    """What the load balancer looks at. ``query`` holds the decoded pairs."""

    path: str = "/"
    host: str = ""
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()
    source: str = "192.0.2.1"


@dataclass(frozen=True)
class Answer:
    """Where a request goes: to groups by their shares, or else an answer of the balancer's own."""

    rule: Rule
    shares: Mapping[str, float] = field(default_factory=dict)
    status: int | None = None

    def group(self, point: float) -> str:
        """Return the group for *point*, from 0 up to but not including 1, as a die would say."""
        reached = 0.0
        for arn, share in self.shares.items():
            reached += share
            if point < reached:
                return arn
        return list(self.shares)[-1]


def _pattern(text: str, case: bool, escapes: bool = False) -> re.Pattern[str]:
    """Return a wildcard pattern: ``*`` is any text, ``?`` one character."""
    parts = []
    pieces = re.findall(r"\\[*?\\]|.", text, re.DOTALL) if escapes else list(text)
    for piece in pieces:
        if len(piece) == 2:
            parts.append(re.escape(piece[1]))
        else:
            parts.append({"*": ".*", "?": "."}.get(piece) or re.escape(piece))
    return re.compile("".join(parts), re.DOTALL | (0 if case else re.IGNORECASE))


def _any(patterns: Iterable[str], values: Iterable[str], case: bool) -> bool:
    compiled = [_pattern(pattern, case) for pattern in patterns]
    return any(pattern.fullmatch(value) for value in values for pattern in compiled)


def _query_matches(pairs: Sequence[tuple[str, str]], request: Request) -> bool:
    for key, value in pairs:
        wanted = _pattern(value, False, True)
        for have_key, have in request.query:
            named = not key or _pattern(key, False, True).fullmatch(have_key)
            if named and wanted.fullmatch(have):
                return True
    return False


def satisfied(condition: Condition, request: Request) -> bool:
    """Tell whether *request* satisfies *condition*.

    Paths and methods have case; hosts, headers and queries have none; methods have no wildcards.

    :raises UnknownCondition: it cannot be told.
    """
    if condition.unknown:
        raise UnknownCondition(f"a condition of the kind {condition.kind} cannot be judged")
    if condition.kind == "path-pattern":
        return _any(condition.values, [request.path], True)
    if condition.kind == "host-header":
        return _any(condition.values, [request.host], False)
    if condition.kind == "http-request-method":
        return request.method in condition.values
    if condition.kind == "http-header":
        name = condition.name.lower()
        values = [value for key, value in request.headers if key.lower() == name]
        return _any(condition.values, values, False)
    if condition.kind == "source-ip":
        source = ipaddress.ip_address(request.source)
        return any(source in ipaddress.ip_network(value, False) for value in condition.values)
    return _query_matches(condition.pairs, request)


def route(rules: Iterable[Rule], request: Request) -> Answer:
    """Route *request*: the first rule by priority of which all conditions are satisfied.

    :raises UnknownCondition: a rule that comes into question cannot be judged.
    """
    ordered = sorted(rules, key=lambda rule: (rule.is_default, rule.priority or 0))
    for rule in ordered:
        if all(satisfied(condition, request) for condition in rule.conditions):
            return _answer(rule)
    raise DeliveryError("a listener without a default action is none")


def _answer(rule: Rule) -> Answer:
    action = rule.actions[-1]
    if isinstance(action, Forward):
        total = sum(weight for _arn, weight in action.groups)
        if not total:
            return Answer(rule, status=503)
        return Answer(rule, {arn: weight / total for arn, weight in action.groups if weight})
    if isinstance(action, Fixed):
        return Answer(rule, status=action.status)
    if action.kind == "redirect":
        config = json.loads(action.data).get("RedirectConfig") or {}
        return Answer(rule, status=301 if config.get("StatusCode") == "HTTP_301" else 302)
    return Answer(rule, status=401)
