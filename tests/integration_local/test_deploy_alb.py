# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The portal behind a load balancer of AWS: moto's API, a stand-in that forwards, real portals."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.alb_portal import DELAY, Cloud, cloud_at
from tests.support.modules import Ended
from tests.support.moto_server import BROKEN, THROTTLED, Fault
from tests.support.plays import PlayResult, run_play
from tests.support.portal import KEY
from tests.support.portal_harness import HOST, unlock
from tests.support.waiting import eventually

# As many as a call is sent before it is given up.
TRIES = 4
READING = (
    "DescribeRules",
    "DescribeTags",
    "DescribeTargetGroups",
    "DescribeTargetHealth",
    "DescribeTargetGroupAttributes",
)
WRITING = ("CreateRule", "ModifyListener", "ModifyRule")
# What docs/portal_alb.md asks for, where the listener's ARN and the entrance are given.
RIGHTS = {f"elasticloadbalancing:{action}" for action in (*READING, *WRITING, "DeleteRule")}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cloud_at(tmp_path_factory.mktemp("cloud")) as cloud:
        yield cloud


@pytest.fixture
def cloud(running: Cloud, tmp_path: Path) -> Cloud:
    """The traffic at v23, nobody locked, and a listener that was never ours."""
    running.folder = tmp_path
    running.reset()
    for portal in (running.live, running.candidate):
        unlock(portal)
        portal.faults()
        eventually(lambda portal=portal: not portal.locked(), "an unlocked portal")
    return running


def failed(ended: Ended, kind: str) -> str:
    """The message of a failure of that kind."""
    assert ended.code == 1, ended.output
    assert ended.result["kind"] == kind, ended.output
    return str(ended.result["msg"])


def good(ended: Ended) -> dict[str, Any]:
    assert ended.code == 0, ended.output
    return ended.result


def routes(cloud: Cloud) -> tuple[Any, ...]:
    """Who answers those who ask for blue, for green, and for nothing."""
    return tuple(cloud.moto.routed(cloud.moto.listener, mode) for mode in ("blue", "green", ""))


def deploy(cloud: Cloud, *, check: bool = False, **more: Any) -> PlayResult:
    """Deploy v24 by the role."""
    alb = cloud.alb
    variables = {
        "portal_blue_green_version": "v24",
        "portal_blue_green_deployment_key": KEY,
        "portal_blue_green_host_header": HOST,
        "portal_blue_green_work_dir": str(cloud.folder),
        "portal_blue_green_slots": [cloud.live.url, cloud.candidate.url],
        "portal_blue_green_router": "alb",
        "portal_blue_green_router_url": cloud.front.url,
        "portal_blue_green_router_alb_listener_arn": alb["listener_arn"],
        "portal_blue_green_router_alb_target_groups": alb["target_groups"],
        "portal_blue_green_router_alb_options": cloud.connection,
        **more,
    }
    role = {
        "name": "Deploy",
        "ansible.builtin.include_role": {"name": "immutable.delivery.portal_blue_green"},
    }
    result = run_play([role], extra_vars=variables, check=check, diff=True, timeout=240)
    assert KEY not in result.stdout + result.stderr
    assert "test-secret" not in result.stdout + result.stderr
    return result


def test_the_role_replaces_the_portal_under_load_and_loses_nothing(cloud: Cloud) -> None:
    before = cloud.look()
    deploy(cloud, check=True).ok()
    assert cloud.look() == before
    assert cloud.moto.written == []
    early = cloud.live.sign_up("early-bird-alb").json()["id"]

    user = {"firstName": "P", "lastName": "{n}", "email": "probe-{run}-{n}@example.org"}
    writes = {"path": "/users", "body": user}
    result = deploy(cloud, portal_blue_green_probe=True, portal_blue_green_probe_writes=writes).ok()

    assert cloud.health() == {"status": "ok", "version": "v24", "release": "v24", "locked": False}
    report = result.task("End the load and read back every acknowledged write")["report"]
    assert (report["failed"], report["writes"]["lost"]) == (0, 0), report
    assert report["writes"]["acknowledged"] > 0
    assert [entry["version"] for entry in report["versions"]] == ["v23", "v24"]
    # The load went through the listener, and both groups had their share of it.
    assert all(cloud.front.answered[arn] > 0 for arn in cloud.arns)
    answer = requests.get(f"{cloud.front.url}/users/{early}", headers={"Host": HOST}, timeout=30)
    assert answer.json()["email"] == "early-bird-alb@example.org"
    summary = (cloud.folder / "last-deploy.txt").read_text()
    assert f"{cloud.front.url} (Host {HOST})" in summary

    cloud.moto.reset_calls()
    assert not deploy(cloud).ok().changed
    assert cloud.moto.written == []


def test_the_way_back_is_a_pass_like_any_other(cloud: Cloud) -> None:
    # By the balancer's name, as somebody has the listener who did not make it.
    named = {**cloud.alb, "listener_arn": "", "load_balancer": "portal", "port": 80}
    result = good(cloud.run(alb=named))
    assert (result["url"], result["previous_url"]) == (cloud.candidate.url, cloud.live.url)
    assert routes(cloud) == ({"portal-green": 100}, 404, {"portal-green": 100})
    assert (cloud.live.locked(), cloud.candidate.locked()) == (True, False)
    late = cloud.candidate.sign_up("late-bird-alb").json()["id"]
    unlock(cloud.live)
    cloud.live.faults()
    swapped = {"api_url": cloud.candidate.url, "candidate_url": cloud.live.url}
    good(cloud.run(**swapped, prove_fields={"version": "v23"}))
    assert routes(cloud) == ({"portal-blue": 100}, 404, {"portal-blue": 100})
    assert cloud.live.call("GET", f"/users/{late}").status_code == 200
    assert cloud.candidate.locked()


def test_a_candidate_that_the_load_balancer_finds_ill_makes_nobody_wait(cloud: Cloud) -> None:
    before, exports = cloud.look(), cloud.live.log().count("began; read-only")
    cloud.moto.ill.add(cloud.arns[1])
    text = failed(cloud.run(alb={**cloud.alb, "health_timeout": 1}), "not_healthy")
    assert "portal-green did not become healthy within 1 s" in text
    assert "is unhealthy (Target.FailedHealthChecks)" in text
    assert "Restored all others to portal-blue" in text
    assert cloud.look() == before
    assert cloud.live.log().count("began; read-only") == exports


def test_check_mode_tells_what_would_be_and_changes_nothing(cloud: Cloud) -> None:
    before = cloud.look()
    result = good(cloud.run(check=True))
    assert result["changed"] is True
    assert f"portal goes to {cloud.candidate.url}" in result["diff"]["after"]
    assert cloud.look() == before
    assert cloud.moto.written == []


def test_a_proof_that_fails_restores_the_listener_to_the_letter(cloud: Cloud) -> None:
    before = cloud.look()
    text = failed(cloud.run(prove_fields={"version": "v99"}, prove_timeout=1), "unproved")
    assert "version is v24, not v99" in text
    assert f"portal goes to {cloud.live.url}. The candidate's lock is given back" in text
    assert cloud.look() == before
    assert cloud.live.sign_up("after-failed-proof").status_code == 201


def test_requests_that_may_outlast_the_candidates_lock_are_told(cloud: Cloud) -> None:
    # Blue's group gives them 300 s, and the candidate, which is left again, gives them as many.
    set_delay(cloud, 300)
    try:
        ended = cloud.run(prove_fields={"version": "v99"}, prove_timeout=1, drain_timeout=1)
    finally:
        set_delay(cloud, DELAY)
    text = failed(ended, "unproved")
    assert "requests that are or were under way at the candidate may outlast its lock" in text
    assert "the candidate stays read-only until its lock lapses by itself" in text
    assert (cloud.live.locked(), cloud.candidate.locked()) == (False, True)
    assert routes(cloud)[2] == {"portal-blue": 100}


def set_delay(cloud: Cloud, seconds: int) -> None:
    for arn in cloud.arns:
        cloud.elb.modify_target_group_attributes(
            TargetGroupArn=arn,
            Attributes=[
                {"Key": "deregistration_delay.timeout_seconds", "Value": str(seconds)},
            ],
        )


@pytest.fixture(scope="module")
def calls_of_a_pass(running: Cloud, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The calls of a pass that goes well."""
    running.folder = tmp_path_factory.mktemp("counted")
    running.reset()
    for portal in (running.live, running.candidate):
        unlock(portal)
        portal.faults()
    good(running.run())
    return list(running.moto.calls)


def switching(calls: list[str]) -> int:
    """The number of the call that sends the traffic to the candidate: the last ModifyListener."""
    return len(calls) - calls[::-1].index("ModifyListener")


@pytest.mark.parametrize("fault", ["throttled", "lost"])
def test_a_switch_that_the_api_does_not_confirm_is_taken_back(
    cloud: Cloud, calls_of_a_pass: list[str], fault: str
) -> None:
    before = cloud.look()
    kind = THROTTLED if fault == "throttled" else BROKEN
    cloud.moto.reset_calls(Fault(switching(calls_of_a_pass), times=TRIES, **kind))
    text = failed(cloud.run(), "api")
    assert "elasticloadbalancing:ModifyListener" in text
    assert "Restored all others to portal-blue" in text
    assert "The live portal's lock is given back" in text
    assert cloud.look() == before


def test_a_switch_that_is_throttled_once_goes_on(cloud: Cloud, calls_of_a_pass: list[str]) -> None:
    cloud.moto.reset_calls(Fault(switching(calls_of_a_pass), times=2, **THROTTLED))
    good(cloud.run())
    assert routes(cloud)[2] == {"portal-green": 100}


def test_what_could_not_be_restored_is_said(cloud: Cloud, calls_of_a_pass: list[str]) -> None:
    at = switching(calls_of_a_pass)
    # The call itself, and then all that would take it and its forerunner back.
    cloud.moto.reset_calls(Fault(at), Fault(at + 1, times=8))
    text = failed(cloud.run(), "api")
    assert "not all of the listener was restored" in text
    # Users are where they were, and the next deploy gets on from there.
    assert routes(cloud)[2] == {"portal-blue": 100}
    cloud.moto.reset_calls()
    unlock(cloud.live)
    unlock(cloud.candidate)
    for portal in (cloud.live, cloud.candidate):
        portal.faults()
    good(cloud.run())


def test_the_rights_that_are_documented_do_and_one_that_is_missing_is_named(cloud: Cloud) -> None:
    before = cloud.look()
    for action in ("ModifyListener", "CreateRule"):
        cloud.moto.allowed = RIGHTS - {f"elasticloadbalancing:{action}"}
        text = failed(cloud.run(), "access_denied")
        assert f"Allow elasticloadbalancing:{action} in the policy" in text
        assert cloud.look() == before
    cloud.moto.allowed = RIGHTS
    good(cloud.run())
    good(cloud.register(url=cloud.candidate.url, drain_required=True))


def test_a_lock_that_lapses_under_the_switch_is_switched_back(cloud: Cloud) -> None:
    before = cloud.moto.rules(cloud.moto.listener)
    signed_up: list[str] = []

    def lapse() -> None:
        unlock(cloud.live)
        cloud.live.faults()
        signed_up.append(cloud.live.sign_up("in-between-alb").json()["id"])

    cloud.moto.before["CreateRule"] = lapse
    text = failed(cloud.run(rounds=1), "lapsed")
    assert "the lock has lapsed" in text
    assert cloud.moto.rules(cloud.moto.listener) == before
    # The write is not lost: those who read go to where it is.
    answer = requests.get(
        f"{cloud.front.url}/users/{signed_up[0]}", headers={"Host": HOST}, timeout=30
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("moment", ["DescribeTargetHealth", "CreateRule"])
def test_a_pass_that_is_told_to_end_takes_itself_back(cloud: Cloud, moment: str) -> None:
    before = cloud.look()
    processes: list[Any] = []
    if moment == "DescribeTargetHealth":
        cloud.moto.ill.add(cloud.arns[1])
    cloud.moto.before[moment] = lambda: processes[0].send_signal(signal.SIGTERM)
    with cloud.start() as running:
        processes.append(running.process)
        text = failed(cloud.end(running), "interrupted")
    assert text.startswith("interrupted by SIGTERM")
    assert cloud.look() == before


def test_a_listener_that_no_switch_could_take_along_is_refused(cloud: Cloud) -> None:
    blue, green = cloud.arns
    rule = cloud.elb.create_rule(
        ListenerArn=cloud.moto.listener,
        Priority=7,
        Conditions=[{"Field": "path-pattern", "Values": ["/kong/*"]}],
        Actions=[{"Type": "forward", "TargetGroupArn": blue}],
    )["Rules"][0]["RuleArn"]
    text = failed(cloud.run(), "router")
    assert (
        "rule 7 of the listener, which is not of our making, sends requests to portal-blue" in text
    )
    cloud.elb.delete_rule(RuleArn=rule)
    weights = [{"TargetGroupArn": arn, "Weight": 1} for arn in (blue, green)]
    cloud.elb.modify_listener(
        ListenerArn=cloud.moto.listener,
        DefaultActions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": weights}}],
    )
    text = failed(cloud.run(), "unclear")
    assert "is divided among" in text
    assert cloud.moto.written == []


def test_an_address_that_no_group_has_is_refused_before_users_wait(cloud: Cloud) -> None:
    before = cloud.look()
    given = {
        **cloud.alb,
        "target_groups": {"portal-green": "http://127.0.0.1:9", "portal-grey": ""},
    }
    text = failed(cloud.run(alb=given), "router")
    assert f"no target group is known that {cloud.candidate.url} stands behind" in text
    assert "portal-grey does not exist" in text
    assert "portal-green is at http://127.0.0.1:9" in text
    assert cloud.look() == before


def test_a_service_is_taken_out_and_registered_again(cloud: Cloud) -> None:
    result = good(cloud.register(state="absent"))
    assert (result["url"], result["previous_url"]) == (None, cloud.live.url)
    assert routes(cloud)[2] == 503
    assert not good(cloud.register(state="absent"))["changed"]
    result = good(cloud.register(url=cloud.live.url, prove_path="/health"))
    assert (result["url"], result["previous_url"]) == (cloud.live.url, None)
    assert routes(cloud) == ({"portal-blue": 100}, 404, {"portal-blue": 100})


def test_a_drain_gives_requests_the_time_that_the_group_gives_them(cloud: Cloud) -> None:
    result = good(cloud.register(url=cloud.candidate.url, drain_required=True))
    assert (result["drained"], result["in_flight"]) == (True, None)
    set_delay(cloud, 300)
    try:
        again = {"url": cloud.candidate.url, "drain_timeout": 1}
        text = failed(cloud.register(**again, drain_required=True), "not_drained")
        assert "s to end, after the drain_timeout of 1 s" in text
        warned = good(cloud.register(**again))
        assert warned["drained"] is None
    finally:
        set_delay(cloud, DELAY)
    # Whoever has left has no requests.
    blue = cloud.arns[0]
    targets = [{"Id": "127.0.0.1"}]
    cloud.elb.deregister_targets(TargetGroupArn=blue, Targets=targets)
    try:
        result = good(cloud.register(url=cloud.candidate.url, drain_required=True))
        assert (result["drained"], result["in_flight"]) == (True, 0)
    finally:
        port = int(cloud.live.url.rpartition(":")[2])
        cloud.elb.register_targets(TargetGroupArn=blue, Targets=[{**targets[0], "Port": port}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"listener_arn": "", "load_balancer": "portal", "port": 81}, "no listener at port 81"),
        ({"profile": "work"}, "profile"),
    ],
)
def test_options_that_cannot_be_used(cloud: Cloud, change: dict[str, Any], message: str) -> None:
    ended = cloud.register(url=cloud.candidate.url, alb={**cloud.alb, **change})
    assert ended.code == 1
    assert message in ended.result["msg"], json.dumps(ended.result)
    assert cloud.moto.written == []
