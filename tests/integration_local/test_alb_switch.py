# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""alb_switch against moto's server over HTTP: the states of a deploy, and everything in between."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.alb import arguments, good, run, switch
from tests.support.moto_server import REGION, Moto, Stage, moto_server, stage
from tests.support.plays import run_play

STAGED = ("v1", "v2", "v1")
PROMOTED = ("v2", "404", "v2")
ROLLED_BACK = ("v1", "404", "v1")


@pytest.fixture(scope="module")
def server() -> Iterator[Moto]:
    with moto_server() as moto:
        yield moto


@pytest.fixture
def moto(server: Moto) -> Moto:
    server.reset_calls()
    server.health.clear()
    server.before.clear()
    return server


def unchanged(at: Stage, state: str, **options: Any) -> None:
    """Run once more: nothing is written, and nothing but rules and tags is read."""
    at.moto.reset_calls()
    assert good(switch(at, state, **options))["changed"] is False
    assert at.moto.calls == ["DescribeRules", "DescribeTags"]


def test_a_deploy_from_the_candidate_to_the_end_of_its_predecessor(moto: Moto) -> None:
    at = stage(moto)
    first = good(switch(at, "staged", "v2"))
    assert at.routes() == STAGED
    assert (first["live"], first["candidate"]) == (at.groups["v1"], at.groups["v2"])
    unchanged(at, "staged", target_group=at.groups["v2"])

    good(switch(at, "canary", weight=25, stickiness=600))
    assert at.routes() == ("v1", "v2", "v1 75, v2 25")
    unchanged(at, "canary", weight=25, stickiness=600)
    good(switch(at, "canary", weight=25))
    assert at.routes() == ("v1", "v2", "v1 75, v2 25")

    promoted = good(switch(at, "promoted"))
    assert at.routes() == PROMOTED
    assert promoted["previous"] == at.groups["v1"]
    assert promoted["before"] == {
        "live": at.groups["v1"],
        "candidate": at.groups["v2"],
        "previous": None,
    }
    unchanged(at, "promoted")

    good(switch(at, "rolled_back"))
    assert at.routes() == ROLLED_BACK
    unchanged(at, "rolled_back")

    good(switch(at, "promoted", "v2"))
    elb = moto.client("elbv2")
    with pytest.raises(elb.exceptions.ResourceInUseException):
        elb.delete_target_group(TargetGroupArn=at.groups["v1"])
    good(switch(at, "retired"))
    elb.delete_target_group(TargetGroupArn=at.groups["v1"])
    assert at.routes() == PROMOTED


@pytest.mark.parametrize("state", ["staged", "canary"])
def test_a_rollback_before_the_promotion(moto: Moto, state: str) -> None:
    at = stage(moto)
    good(switch(at, state, "v2"))
    result = good(switch(at, "rolled_back"))
    assert at.routes() == ROLLED_BACK
    assert result["previous"] is None
    unchanged(at, "rolled_back")


def test_the_next_deploy_uses_the_rules_that_there_are(moto: Moto) -> None:
    at = stage(moto)
    for state, group in (("staged", "v2"), ("promoted", None), ("staged", "v3")):
        good(switch(at, state, group))
    assert at.routes() == ("v2", "v3", "v2")
    assert len(moto.rules(at.listener)) == 3
    good(switch(at, "rolled_back"))
    assert at.routes() == PROMOTED


@pytest.mark.parametrize("count", [0, 97])
def test_a_promotion_takes_6_calls_whatever_the_number_of_rules(moto: Moto, count: int) -> None:
    at = stage(moto, foreign=range(1, count + 1))
    good(switch(at, "staged", "v2"))
    before = [rule for rule in moto.rules(at.listener) if rule.priority][:count]
    moto.reset_calls()
    result = good(switch(at, "promoted"))
    assert at.routes() == PROMOTED
    assert result["api_calls"] == len(moto.calls) == 6
    assert [rule for rule in moto.rules(at.listener) if rule.priority][:count] == before
    for priority in range(1, count + 1):
        assert at.route("green", f"/foreign/{priority}") == "418"


def test_free_priorities_are_found_between_those_taken(moto: Moto) -> None:
    at = stage(moto, foreign=[1, 2, 4, 5, 7])
    rules = good(switch(at, "staged", "v2"))["rules"]
    assert [rule["priority"] for rule in rules] == [3, 6, None]
    assert [rule["role"] for rule in rules] == ["live", "candidate", "default"]


def test_a_priority_that_is_taken_meanwhile_is_not_insisted_on(moto: Moto) -> None:
    at = stage(moto)
    moto.before["CreateRule"] = lambda: moto.client("elbv2").create_rule(
        ListenerArn=at.listener,
        Priority=1,
        Conditions=[{"Field": "path-pattern", "Values": ["/theirs"]}],
        Actions=[{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "418"}}],
    )
    good(switch(at, "staged", "v2"))
    assert at.routes() == STAGED
    assert at.route("green", "/theirs") == "418"


def test_an_https_listener_keeps_its_certificate(moto: Moto) -> None:
    at = stage(moto, https=True)
    elb = moto.client("elbv2")

    def kept() -> list[Any]:
        listener = elb.describe_listeners(ListenerArns=[at.listener])["Listeners"][0]
        return [listener[name] for name in ("Protocol", "Port", "Certificates", "SslPolicy")]

    before = kept()
    for state, group in (("staged", "v2"), ("canary", None), ("promoted", None)):
        good(switch(at, state, group))
    assert at.routes() == PROMOTED
    assert kept() == before


def test_check_mode_tells_all_and_changes_nothing(moto: Moto) -> None:
    at = stage(moto)
    before = moto.rules(at.listener)
    planned = good(switch(at, "promoted", "v2", _ansible_check_mode=True, _ansible_diff=True))
    assert moto.rules(at.listener) == before
    assert moto.written == []
    assert planned["changed"] is True
    assert (planned["live"], planned["previous"]) == (at.groups["v2"], at.groups["v1"])
    done = good(switch(at, "promoted", "v2", _ansible_diff=True))
    assert done["diff"] == planned["diff"]
    assert [step["step"] for step in done["steps"]] == [step["step"] for step in planned["steps"]]


def test_what_stands_can_be_asked_for_without_wanting_anything(moto: Moto) -> None:
    at = stage(moto)
    for state, group in (("staged", "v2"), ("promoted", None)):
        good(switch(at, state, group))
    seen = good(switch(at, "retired", _ansible_check_mode=True))["before"]
    assert seen == {"live": at.groups["v2"], "candidate": None, "previous": at.groups["v1"]}


def test_names_serve_as_well_as_arns(moto: Moto) -> None:
    at = stage(moto)
    name = at.groups["v2"].split("/")[-2]
    task = {"load_balancer": at.name, "port": 80, "target_group": name, "state": "staged"}
    good(run(arguments(moto, **task)))
    assert at.routes() == STAGED
    moto.reset_calls()
    assert good(run(arguments(moto, **task)))["changed"] is False
    # The group's name stands in the rules by now.
    assert "DescribeTargetGroups" not in moto.calls


def test_a_play_with_the_defaults_of_the_aws_group(moto: Moto, tmp_path: Path) -> None:
    at = stage(moto)
    play = [
        {
            "name": "Deploy",
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "module_defaults": {
                "group/immutable.delivery.aws": {
                    "endpoint_url": moto.url,
                    "region": REGION,
                    "access_key": "test",
                    "secret_key": "test",
                }
            },
            "tasks": [
                {
                    "name": "Stage",
                    "immutable.delivery.alb_switch": {
                        "listener_arn": at.listener,
                        "target_group": at.groups["v2"],
                        "state": "staged",
                    },
                },
                {
                    "name": "Promote",
                    "immutable.delivery.alb_switch": {
                        "listener_arn": at.listener,
                        "state": "promoted",
                        "verify_url": moto.front(at.listener),
                        "verify_fields": {"version": at.groups["v2"].split("/")[-2]},
                    },
                },
                {
                    "name": "Ask with a module of amazon.aws",
                    "amazon.aws.elb_application_lb_info": {"names": [at.name]},
                },
            ],
        }
    ]
    result = run_play(play).ok()
    assert at.routes() == PROMOTED
    assert result.task("Promote")["proved"] is True
    found = result.task("Ask with a module of amazon.aws")["load_balancers"]
    assert [item["load_balancer_name"] for item in found] == [at.name]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"header_name": "x mode"}, "no header to choose by"),
        ({"header_name": "Host"}, "no header to choose by"),
        ({"live_value": "b*"}, "wildcards"),
        ({"candidate_value": "BLUE"}, "must differ"),
        ({"live_value": ""}, "1 to 128"),
        ({"weight": 0}, "weight must be from 1 to 99"),
        ({"weight": 100}, "weight must be from 1 to 99"),
        ({"stickiness": 604801}, "stickiness must be"),
        ({"first_priority": 50001}, "first_priority must be"),
        ({"min_healthy": -1}, "min_healthy must not"),
        ({"timeout": -1}, "timeout must not"),
        ({"verify_timeout": float("inf")}, "verify_timeout must not"),
        ({"verify_fields": {"version": 1}}, "needs verify_url"),
        ({"verify_url": "ftp://x"}, "not an http or https address"),
        ({"verify_url": "http://127.0.0.1/", "verify_count": 0}, "verify_count must be"),
        ({"load_balancer": "x"}, "mutually exclusive"),
    ],
)
def test_options_that_cannot_be_used(moto: Moto, options: dict[str, Any], text: str) -> None:
    arn = f"arn:aws:elasticloadbalancing:{REGION}:1:listener/app/a/1/2"
    result = run(arguments(moto, listener_arn=arn, state="promoted", **options))
    assert result["failed"]
    assert text in result["msg"]
    assert moto.calls == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"load_balancer": "nobody", "port": 80}, "DescribeLoadBalancers was refused"),
        ({"load_balancer": None, "port": 81}, "has no listener at port 81, only at 80"),
        ({"target_group": "nobody"}, "DescribeTargetGroups was refused: TargetGroupNotFound"),
        ({"state": "canary"}, "Name the candidate with target_group"),
        ({"endpoint_url": ""}, "elasticloadbalancing:DescribeRules could not be asked"),
    ],
)
def test_what_is_not_there_is_said(moto: Moto, options: dict[str, Any], text: str) -> None:
    at = stage(moto)
    options = {"state": "staged", "listener_arn": at.listener, **options}
    if "endpoint_url" in options:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            options["endpoint_url"] = f"http://127.0.0.1:{closed.getsockname()[1]}"
    if "port" in options:
        del options["listener_arn"]
        options["load_balancer"] = options["load_balancer"] or at.name
    result = run(arguments(moto, **options))
    assert result["failed"]
    assert text in result["msg"]
    assert "Nothing was changed." in result["msg"]
    assert moto.written == []
