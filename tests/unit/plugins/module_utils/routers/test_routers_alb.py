# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A load balancer as a router, over one that lives in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.alb import client as alb_client
from ansible_collections.immutable.delivery.plugins.module_utils.alb.client import ApiError
from ansible_collections.immutable.delivery.plugins.module_utils.alb.groups import (
    URL_TAG,
    TargetGroup,
    addresses_of,
    group_from,
)
from ansible_collections.immutable.delivery.plugins.module_utils.alb.plan import (
    PROMOTED,
    NotHealthy,
    Wanted,
)
from ansible_collections.immutable.delivery.plugins.module_utils.alb.roles import ROLE_TAG, Target
from ansible_collections.immutable.delivery.plugins.module_utils.alb.rules import (
    Condition,
    Fixed,
    Forward,
    Request,
    Rule,
    header_condition,
    route,
)
from ansible_collections.immutable.delivery.plugins.module_utils.alb.switch import ListenerChange
from ansible_collections.immutable.delivery.plugins.module_utils.alb.switch import (
    Overtaken as ListenerOvertaken,
)
from ansible_collections.immutable.delivery.plugins.module_utils.change import Undo, run
from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.routers import alb_options
from ansible_collections.immutable.delivery.plugins.module_utils.routers.alb import Alb
from ansible_collections.immutable.delivery.plugins.module_utils.routers.alb_options import alb_of
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import (
    Overtaken,
    Preparing,
    RouterError,
    Timed,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.routing import Routing

LISTENER = "arn:listener"
V23, V24, OTHER = "http://10.0.0.23:3001", "http://10.0.0.24:3001", "http://10.0.0.9:3001"


def arn(name: str) -> str:
    return f"arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/{name}/0"


class FakeBalancer:
    """The calls that the router needs, on values in memory; ``fails`` names those that are refused.

    As with AWS, only a group that a rule names is checked, and so can be healthy.
    """

    def __init__(self) -> None:
        self.default = Rule("default", None, (), (Forward.to({arn("v23"): 1}),))
        self.made: dict[str, Rule] = {}
        self.foreign: tuple[Rule, ...] = ()
        self.tagged: dict[str, dict[str, str]] = {}
        self.targets = {arn("v23"): ["10.0.0.23:3001"], arn("v24"): ["10.0.0.24:3001"]}
        self.kinds: dict[str, str] = {}
        self.delay = 300.0
        self.fails: list[str] = []
        self.calls: list[str] = []

    def _told(self, call: str) -> None:
        self.calls.append(call)
        if call in self.fails:
            self.fails.remove(call)
            raise ApiError(f"{call} was refused", code="ValidationError")

    def rules(self, listener_arn: str) -> tuple[Rule, ...]:
        self._told("rules")
        return (*self.foreign, *self.made.values(), self.default)

    def rule(self, arn: str) -> Rule:
        return self.default if arn == "default" else self.made[arn]

    def tags(self, arns: Sequence[str]) -> dict[str, dict[str, str]]:
        return {item: self.tagged.get(item, {}) for item in arns}

    def group(self, *, name: str = "", arn: str = "") -> TargetGroup:
        self._told("group")
        for item in self.targets:
            if item == arn or item.split("/")[-2] == name:
                return TargetGroup(item, item.split("/")[-2], "http", self.kinds.get(item, "ip"))
        raise ApiError("none", code="TargetGroupNotFound")

    def health(self, group: str) -> tuple[Target, ...]:
        if group not in self.targets:
            raise ApiError("none", code="TargetGroupNotFound")
        used = any(group in item.attached for item in self.forwards)
        state = "healthy" if used else "unused"
        return tuple(Target(name, state) for name in self.targets[group])

    @property
    def forwards(self) -> list[Forward]:
        actions = [self.default.action, *(rule.action for rule in self.made.values())]
        return [action for action in actions if isinstance(action, Forward)]

    def deregistration_delay(self, group: str) -> float:
        return self.delay

    def create(self, listener_arn: str, rule: Rule, tags: Mapping[str, str]) -> Rule:
        self._told("create")
        made = replace(rule, arn=f"made {len(self.made)} {rule.priority}")
        self.made[made.arn] = made
        self.tagged[made.arn] = dict(tags)
        return made

    def modify(self, rule: Rule, *, conditions: bool = False) -> Rule:
        self._told("modify")
        have = self.made[rule.arn]
        self.made[rule.arn] = rule if conditions else replace(have, actions=rule.actions)
        return self.made[rule.arn]

    def modify_default(self, listener_arn: str, rule: Rule) -> Rule:
        self._told("modify_default")
        self.default = replace(self.default, actions=rule.actions)
        return self.default

    def delete(self, arn: str) -> None:
        self._told("delete")
        del self.made[arn]

    def entrance(self, listener_arn: str) -> str:
        self._told("entrance")
        return "http://portal.elb:80"

    @property
    def routed(self) -> tuple[object, ...]:
        """Who answers blue, green and all others."""
        rules = (*self.made.values(), self.default)
        answers = [
            route(rules, Request(headers=(("x-client-mode", mode),)))
            for mode in ("blue", "green", "")
        ]
        return tuple(
            item.status or [name.split("/")[-2] for name in item.shares] for item in answers
        )

    @property
    def state(self) -> tuple[object, ...]:
        return (self.default, dict(self.made))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def router(balancer: FakeBalancer, groups: Mapping[str, str] | None = None, **more: Any) -> Alb:
    given: Any = balancer
    return Alb(given, LISTENER, {"v24": ""} if groups is None else groups, **more)


def prepared(alb: Alb, *urls: str) -> list[Undo]:
    undos: list[Undo] = []

    def note(undo: Undo, state: str = "") -> None:
        undos.append(undo)

    alb.prepare("portal", urls, note)
    return undos


def test_it_can_prepare_and_knows_the_time_of_a_drain() -> None:
    alb = router(FakeBalancer())
    assert isinstance(alb, Preparing)
    assert isinstance(alb, Timed)


def test_what_is_live_is_what_the_listener_forwards_to() -> None:
    balancer = FakeBalancer()
    assert router(balancer).observe("portal").urls == (V23,)
    balancer.default = replace(balancer.default, actions=(Fixed(503),))
    assert router(balancer).observe("portal").urls == ()


def test_an_address_is_the_one_given_or_that_of_the_tag_or_of_the_targets() -> None:
    balancer = FakeBalancer()
    balancer.targets[arn("v23")].append("10.0.0.22:3001")
    assert router(balancer).observe("portal").urls == ("http://10.0.0.22:3001", V23)
    balancer.tagged[arn("v23")] = {URL_TAG: "https://tag.example/"}
    assert router(balancer).observe("portal").urls == ("https://tag.example",)
    for named in ("v23", arn("v23")):
        given = router(balancer, {named: "https://given.example/"})
        assert given.observe("portal").urls == ("https://given.example",)


@pytest.mark.parametrize(
    ("kind", "targets", "message"),
    [
        ("ip", [], "target group v23 has no target"),
        ("instance", ["i-1:80"], "are of the type instance, which does not tell their address"),
        ("lambda", ["arn:function"], "are of the type lambda"),
    ],
)
def test_a_group_that_tells_no_address(kind: str, targets: list[str], message: str) -> None:
    balancer = FakeBalancer()
    balancer.targets[arn("v23")] = targets
    balancer.kinds[arn("v23")] = kind
    with pytest.raises(DeliveryError) as caught:
        router(balancer).observe("portal")
    assert message in caught.value.message
    assert caught.value.next_step


def test_addresses_of_targets() -> None:
    group = group_from(
        {
            "TargetGroupArn": "arn",
            "TargetGroupName": "v1",
            "Protocol": "HTTPS",
            "TargetType": "ip",
        }
    )
    targets = [
        Target("fd00::1:8443", "healthy"),
        Target("10.0.0.2:443", "unhealthy"),
        Target("10.0.0.1:443", "draining"),
    ]
    assert addresses_of(group, targets) == ("https://10.0.0.2:443", "https://[fd00::1]:8443")


def test_a_group_is_healthy_before_it_is_switched_to_and_the_switch_is_a_promotion() -> None:
    balancer = FakeBalancer()
    alb = router(balancer)
    prepared(alb, V24)
    assert balancer.routed == (["v23"], ["v23"], ["v23"])
    alb.switch("portal", [V24 + "/"])
    assert balancer.routed == (["v24"], 404, ["v24"])
    assert alb.observe("portal").urls == (V24,)
    # What is ready and live is neither prepared nor switched again.
    told = len([call for call in balancer.calls if call not in ("rules", "group")])
    prepared(alb, V24)
    alb.switch("portal", [V24])
    assert len([call for call in balancer.calls if call not in ("rules", "group")]) == told


def test_a_switch_without_preparation_waits_for_nothing() -> None:
    balancer = FakeBalancer()
    before = balancer.state
    with pytest.raises(NotHealthy):
        router(balancer).switch("portal", [V24])
    assert balancer.state == before


def test_going_back_restores_to_the_letter() -> None:
    balancer = FakeBalancer()
    first = balancer.state
    alb = router(balancer)
    undos = prepared(alb, V24)
    ready = balancer.state
    assert ready != first
    alb.switch("portal", [V24])
    alb.switch("portal", [V23])
    assert balancer.state == ready
    for undo in reversed(undos):
        undo()
    assert balancer.state == first


@pytest.mark.parametrize("call", ["create", "modify_default"])
def test_a_call_that_fails_restores_what_stood(call: str) -> None:
    balancer = FakeBalancer()
    alb = router(balancer)
    prepared(alb, V24)
    before = balancer.state
    balancer.fails = [call]
    with pytest.raises(ApiError) as caught:
        alb.switch("portal", [V24])
    assert balancer.state == before
    assert "emoved rule 1, x-client-mode: blue" in caught.value.state


def test_what_could_not_be_restored_is_tried_again_by_who_goes_back() -> None:
    balancer = FakeBalancer()
    alb = router(balancer)
    prepared(alb, V24)
    before = balancer.state
    alb.switch("portal", [V24])
    balancer.fails = ["modify_default", "delete"]
    with pytest.raises(RouterError) as caught:
        alb.switch("portal", [V23])
    assert "not all of the listener was restored" in caught.value.message
    alb.switch("portal", [V23])
    assert balancer.state == before


def test_removing_answers_everybody_and_is_taken_back_to_the_letter() -> None:
    balancer = FakeBalancer()
    alb = router(balancer)
    prepared(alb, V24)
    alb.switch("portal", [V24])
    before = balancer.state
    alb.remove("portal")
    assert balancer.routed == (503, 404, 503)
    assert alb.observe("portal").urls == ()
    alb.switch("portal", [V24])
    assert balancer.state == before
    alb.remove("portal")
    again = router(balancer)
    prepared(again, V24)
    again.switch("portal", [V24])
    assert balancer.routed == (["v24"], 404, ["v24"])
    # A first registration is taken back to where it began, and by others removed like any other.
    again.remove("portal")
    assert balancer.routed[2] == 503
    router(balancer).remove("portal")
    assert balancer.routed == (503, 404, 503)


V25 = "http://10.0.0.25:3001"


@pytest.fixture
def three() -> FakeBalancer:
    balancer = FakeBalancer()
    balancer.targets[arn("v25")] = ["10.0.0.25:3001"]
    return balancer


def deployer(balancer: FakeBalancer) -> Routing:
    routing = Routing(router(balancer, {"v23": "", "v24": "", "v25": ""}), "portal")
    routing.observe()
    return routing


def switch_to(balancer: FakeBalancer, url: str) -> list[Undo]:
    undos: list[Undo] = []
    deployer(balancer).switch([url], lambda undo, state="": undos.append(undo))
    return undos


@pytest.mark.parametrize("remove", [False, True])
def test_the_second_of_two_is_refused_and_changes_nothing(
    three: FakeBalancer, remove: bool
) -> None:
    slow, noted = deployer(three), list[Undo]()
    alb = router(three, {"v25": ""})
    alb.observe("portal")
    switch_to(three, V24)
    before = three.state
    with pytest.raises(Overtaken, match=V24):
        if remove:
            slow.remove(lambda undo, state="": noted.append(undo))
        else:
            slow.switch([V25], lambda undo, state="": noted.append(undo))
    # So it is between the last look and the write.
    with pytest.raises(Overtaken, match=V24):
        alb.remove("portal") if remove else alb.switch("portal", [V24])
    assert (three.state, noted) == (before, [])


def test_an_undo_leaves_who_came_after(three: FakeBalancer) -> None:
    undos = switch_to(three, V24)
    switch_to(three, V25)
    with pytest.raises(Overtaken, match=V25):
        undos[-1]()
    assert three.routed[2] == ["v25"]


def test_who_switches_during_the_wait_for_health_is_not_overtaken() -> None:
    class Late(FakeBalancer):
        """Somebody else switches as soon as the new group is checked."""

        def health(self, group: str) -> tuple[Target, ...]:
            if any(arn("v24") in item.attached for item in self.forwards):
                theirs = Forward.to({arn("v25"): 1, arn("v24"): 0})
                self.default = replace(self.default, actions=(theirs,))
            return super().health(group)

    balancer: Any = Late()
    wanted = Wanted(PROMOTED, arn("v24"))
    with pytest.raises(ListenerOvertaken, match="v25"):
        run(ListenerChange(balancer, LISTENER, wanted, timeout=5))
    assert balancer.default.action == Forward.to({arn("v25"): 1, arn("v24"): 0})
    assert balancer.made == {}


def test_our_rules_keep_the_header_that_somebody_chose() -> None:
    balancer = FakeBalancer()
    for number, (role, value) in enumerate((("live", "old"), ("candidate", "new")), 1):
        rule = Rule(
            f"own {number}",
            number,
            (header_condition("X-Version", value),),
            (Forward.to({arn("v23"): 1}) if role == "live" else Fixed(404),),
        )
        balancer.made[rule.arn] = rule
        balancer.tagged[rule.arn] = {ROLE_TAG: role}
    alb = router(balancer)
    prepared(alb, V24)
    alb.switch("portal", [V24])
    conditions = [
        (rule.conditions[0].name, *rule.conditions[0].values) for rule in balancer.made.values()
    ]
    assert conditions == [("X-Version", "old"), ("X-Version", "new")]


def divided(balancer: FakeBalancer) -> None:
    shares = {arn("v23"): 90, arn("v24"): 10}
    balancer.default = replace(balancer.default, actions=(Forward.to(shares),))
    live = Rule(
        "own", 1, (header_condition("x-client-mode", "blue"),), (Forward.to({arn("v23"): 1}),)
    )
    balancer.made["own"] = live
    balancer.tagged["own"] = {ROLE_TAG: "live"}


def shared(group: str) -> Callable[[FakeBalancer], None]:
    def share(balancer: FakeBalancer) -> None:
        condition = Condition("path-pattern", ("/kong/*",))
        balancer.foreign = (Rule("foreign", 7, (condition,), (Forward.to({arn(group): 1}),)),)

    return share


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (divided, "the listener divides its traffic among v23 and v24"),
        (
            shared("v23"),
            "rule 7 of the listener, which is not of our making, sends requests to v23",
        ),
        (
            shared("v24"),
            "rule 7 of the listener, which is not of our making, sends requests to v24",
        ),
    ],
)
def test_traffic_that_a_switch_would_not_take_along(
    spoil: Callable[[FakeBalancer], None], message: str
) -> None:
    balancer = FakeBalancer()
    spoil(balancer)
    before = balancer.state
    alb = router(balancer)
    with pytest.raises(RouterError) as caught:
        alb.observe("portal")
        prepared(alb, V24)
    assert message in caught.value.message
    assert balancer.state == before


@pytest.mark.parametrize(
    ("groups", "url", "message"),
    [
        ({"v24": ""}, OTHER, f"{OTHER} stands behind; v23 is at {V23} and v24 is at {V24}"),
        ({"v24": "", "v25": ""}, OTHER, "v25 does not exist"),
        ({}, V24, f"no target group is known that {V24} stands behind; v23 is at {V23}"),
        ({"v23": OTHER, "v24": OTHER}, OTHER, "is behind v23 and v24, and only one"),
    ],
)
def test_an_address_that_stands_behind_no_group_or_two(
    groups: dict[str, str], url: str, message: str
) -> None:
    alb = router(FakeBalancer(), groups)
    with pytest.raises(RouterError) as caught:
        alb.switch("portal", [url])
    assert message in caught.value.message


def test_a_failure_to_ask_is_no_group_that_is_missing() -> None:
    balancer = FakeBalancer()
    alb = router(balancer)
    alb.observe("portal")
    balancer.fails = ["group"]
    with pytest.raises(ApiError):
        alb.switch("portal", [V24])


def test_a_drain_lasts_as_long_as_the_former_group_gives() -> None:
    balancer, clock = FakeBalancer(), Clock()
    alb = router(balancer, clock=clock)
    assert (alb.in_flight("portal"), alb.drains_in("portal")) == (0, 0.0)
    prepared(alb, V24)
    alb.switch("portal", [V24])
    assert alb.in_flight("portal") is None
    clock.now += 100
    assert alb.drains_in("portal") == 200.0
    clock.now += 300
    assert alb.drains_in("portal") == 0.0
    # Somebody who comes later does not know when it was, and is cautious.
    later = router(balancer, clock=clock)
    assert later.in_flight("portal") is None
    assert later.drains_in("portal") == 300.0
    # A group without targets, or that is gone, has no requests.
    for targets in ([], None):
        if targets is None:
            del balancer.targets[arn("v23")]
        else:
            balancer.targets[arn("v23")] = targets
        assert (later.in_flight("portal"), later.drains_in("portal")) == (0, 0.0)


def test_what_is_left_again_is_drained_too() -> None:
    balancer, clock = FakeBalancer(), Clock()
    alb = router(balancer, clock=clock)
    prepared(alb, V24)
    alb.switch("portal", [V24])
    clock.now += 100
    alb.switch("portal", [V23])
    assert alb.in_flight("portal") is None
    assert alb.drains_in("portal") == 300.0


def test_clients_ask_where_they_are_told_to_or_at_the_load_balancer_itself() -> None:
    balancer = FakeBalancer()
    assert router(balancer, entrance="https://api.example.org").entrance("portal") == (
        "https://api.example.org"
    )
    assert balancer.calls == []
    alb = router(balancer)
    assert [alb.entrance("portal") for _number in range(2)] == ["http://portal.elb:80"] * 2
    assert balancer.calls == ["entrance"]


def test_libraries_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alb_client, "HAS_AWS", False)
    with pytest.raises(DeliveryError) as caught:
        alb_of({"alb": {"listener_arn": "arn"}, "api_url": ""})
    assert "router alb needs boto3, botocore and the collection amazon.aws" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"listener_arn": ""}, "needs either alb.listener_arn or alb.load_balancer"),
        ({"load_balancer": "portal"}, "needs either alb.listener_arn or alb.load_balancer"),
        ({"listener_arn": "", "load_balancer": "portal"}, "needs alb.port"),
        ({"min_healthy": -1}, "min_healthy must not be less than 0"),
        ({"health_timeout": -1.0}, "health_timeout must not be less than 0"),
        ({"health_timeout": float("inf")}, "nor endless"),
        ({"health_timeout": float("nan")}, "nor endless"),
        ({"target_groups": {"v23": "nowhere"}}, "alb.target_groups.v23"),
    ],
)
def test_options_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(alb_client, "HAS_AWS", True)
    monkeypatch.setattr(alb_options, "_client", lambda _given: MagicMock())
    given = {"listener_arn": "arn", "target_groups": {}, "health_timeout": 300.0, **change}
    with pytest.raises(DeliveryError) as caught:
        alb_of({"alb": given, "api_url": ""})
    assert message in caught.value.message
