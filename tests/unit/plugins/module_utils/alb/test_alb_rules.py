# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules as values, and the interpreter of them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.alb.roles import kinds, name_of
from ansible_collections.immutable.delivery.plugins.module_utils.alb.rules import (
    Action,
    Condition,
    Fixed,
    Forward,
    Other,
    Request,
    Rule,
    UnknownCondition,
    action_from,
    action_to,
    condition_from,
    condition_to,
    header_condition,
    route,
    rule_from,
    same_condition,
    satisfied,
)
from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError


def forward(*groups: tuple[str, int], **config: Any) -> dict[str, Any]:
    tuples = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in groups]
    return {"Type": "forward", "ForwardConfig": {"TargetGroups": tuples, **config}}


OFF = {"TargetGroupStickinessConfig": {"Enabled": False}}


@pytest.mark.parametrize(
    "data",
    [
        {"Type": "forward", "TargetGroupArn": "a"},
        forward(("a", 1)),
        forward(("a", 7), **OFF),
        {"Type": "forward", "TargetGroupArn": "a", "Order": 1, **forward(("a", 1), **OFF)},
        {"Type": "forward", "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": "a"}]}},
        forward(("a", 1), TargetGroupStickinessConfig={"Enabled": True, "DurationSeconds": 9}),
    ],
)
def test_all_ways_to_write_one_group_are_the_same(data: dict[str, Any]) -> None:
    assert action_from(data) == Forward((("a", 1),))


def test_the_order_of_groups_means_nothing_and_stickiness_does() -> None:
    one, other = forward(("a", 1), ("b", 2), **OFF), forward(("b", 2), ("a", 1))
    sticky = {"TargetGroupStickinessConfig": {"Enabled": True, "DurationSeconds": 60}}
    assert action_from(one) == action_from(other) == Forward.to({"a": 1, "b": 2})
    assert action_from(forward(("a", 1), ("b", 2), **sticky)).sticky == 60  # type: ignore[union-attr]
    assert action_from(one) != action_from(forward(("a", 1), ("b", 3)))


ACTIONS: list[Action] = [
    Forward.to({"a": 1}),
    Forward.to({"a": 0, "b": 100}, 60),
    Fixed(404, "gone"),
    Fixed(503),
    Other("redirect", '{"RedirectConfig": {"StatusCode": "HTTP_301"}, "Type": "redirect"}'),
]


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_survives_the_way_to_the_api_and_back(action: Action) -> None:
    assert action_from(action_to(action)) == action


def test_a_header_condition_survives_it_too() -> None:
    condition = header_condition("x-mode", "blue")
    assert condition_from(condition_to(condition)) == condition


def test_both_ways_to_write_a_path_are_the_same() -> None:
    new = {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/b", "/a"]}}
    assert condition_from(new) == condition_from({"Field": "path-pattern", "Values": ["/a", "/b"]})


def test_headers_have_no_case_and_hosts_are_not_headers() -> None:
    assert same_condition(header_condition("X-Mode", "Blue"), header_condition("x-mode", "blue"))
    assert not same_condition(header_condition("x-mode", "blue"), header_condition("x", "blue"))
    assert not same_condition(header_condition("a", "b"), Condition("host-header", ("b",)))


def test_a_rule_of_the_api() -> None:
    data = {
        "RuleArn": "r",
        "Priority": "5",
        "Conditions": [{"Field": "host-header", "Values": ["a.example"]}],
        "Actions": [
            {"Type": "forward", "TargetGroupArn": "a", "Order": 2},
            {"Type": "authenticate-oidc", "Order": 1},
        ],
        "IsDefault": False,
    }
    rule = rule_from(data)
    assert (rule.priority, rule.is_default, rule.action) == (5, False, None)
    assert kinds(rule.actions) == "authenticate-oidc and a forward"
    default = rule_from({"RuleArn": "d", "Priority": "default", "IsDefault": True})
    assert default.priority is None
    assert default.is_default


HEADER = header_condition("X-Mode", "gr*n")
QUERY = Condition("query-string", pairs=(("version", "v?"), ("", r"what\?")))


@pytest.mark.parametrize(
    ("condition", "request_", "expected"),
    [
        (Condition("path-pattern", ("/img/*",)), Request("/img/a/b.png"), True),
        (Condition("path-pattern", ("/img/*",)), Request("/IMG/a"), False),
        (Condition("path-pattern", ("/img/*",)), Request("/img"), False),
        (Condition("path-pattern", ("/?",)), Request("/a"), True),
        (Condition("path-pattern", ("/?",)), Request("/ab"), False),
        (Condition("path-pattern", ("/a.b",)), Request("/axb"), False),
        (Condition("path-pattern", ("/x", "/y")), Request("/y"), True),
        (Condition("host-header", ("*.Example.com",)), Request(host="a.example.COM"), True),
        (Condition("host-header", ("*.example.com",)), Request(host="example.com"), False),
        (Condition("http-request-method", ("GET", "PUT")), Request(method="PUT"), True),
        (Condition("http-request-method", ("GET",)), Request(method="get"), False),
        (HEADER, Request(headers=(("x-mode", "GREEN"),)), True),
        (HEADER, Request(headers=(("x-mode", "blue"), ("X-MODE", "green"))), True),
        (HEADER, Request(headers=(("x-mode", "evergreen"),)), False),
        (HEADER, Request(), False),
        (Condition("source-ip", ("192.0.2.0/24", "::1/128")), Request(), True),
        (Condition("source-ip", ("198.51.100.0/24",)), Request(), False),
        (QUERY, Request(query=(("VERSION", "V1"),)), True),
        (QUERY, Request(query=(("version", "v12"),)), False),
        (QUERY, Request(query=(("anything", "what?"),)), True),
        (QUERY, Request(query=(("anything", "whats"),)), False),
    ],
)
def test_conditions(condition: Condition, request_: Request, expected: bool) -> None:
    assert satisfied(condition, request_) is expected


def test_a_regular_expression_is_not_guessed_at() -> None:
    data = {"Field": "path-pattern", "PathPatternConfig": {"RegexValues": ["^/a"]}}
    with pytest.raises(UnknownCondition):
        satisfied(condition_from(data), Request("/a"))


def rule(priority: int | None, action: Action, *conditions: Condition) -> Rule:
    return Rule(f"r{priority}", priority, conditions, (action,))


def test_the_lowest_priority_that_fits_in_all_its_conditions_wins() -> None:
    path, header = Condition("path-pattern", ("/a*",)), header_condition("x", "1")
    rules = [
        rule(None, Forward.to({"default": 1})),
        rule(20, Fixed(410), path),
        rule(10, Fixed(404), path, header),
        rule(5, Fixed(403), Condition("path-pattern", ("/b",))),
    ]
    assert route(rules, Request("/abc", headers=(("X", "1"),))).status == 404
    assert route(rules, Request("/abc")).status == 410
    assert route(rules, Request("/c")).shares == {"default": 1.0}


def test_weights_are_shares_and_nobody_is_sent_to_weight_0() -> None:
    answer = route([rule(None, Forward.to({"a": 1, "b": 3, "c": 0}))], Request())
    assert answer.shares == {"a": 0.25, "b": 0.75}
    assert [answer.group(point) for point in (0.0, 0.24, 0.25, 0.999)] == ["a", "a", "b", "b"]


def test_answers_of_the_balancer_itself() -> None:
    redirect = Other("redirect", '{"RedirectConfig": {"StatusCode": "HTTP_301"}}')
    assert route([rule(None, redirect)], Request()).status == 301
    assert route([rule(None, Other("redirect", "{}"))], Request()).status == 302
    assert route([rule(None, Other("authenticate-oidc", "{}"))], Request()).status == 401
    assert route([rule(None, Forward.to({"a": 0, "b": 0}))], Request()).status == 503
    with pytest.raises(DeliveryError):
        route([], Request())


def test_the_name_in_an_arn() -> None:
    assert name_of("arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/kie-v1/00") == "kie-v1"
    assert name_of("kie-v1") == "kie-v1"
    assert name_of(None) == "nobody"
