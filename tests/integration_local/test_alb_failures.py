# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""alb_switch where things go wrong: ill targets, a busy API, lost answers, refusals, rivals."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.alb import arguments, good, switch
from tests.support.modules import run_module, start_module
from tests.support.moto_server import (
    BROKEN,
    DENIED,
    THROTTLED,
    Fault,
    Moto,
    Stage,
    moto_server,
    stage,
)
from tests.support.plays import eventually

PROMOTED = ("v2", "404", "v2")
# As many as the module sends before it gives up.
TRIES = 4
# What a run asks for, by what it is called here: an earlier state, and the state wanted.
RUNS = {
    "first stage": ((), ("staged", "v2")),
    "canary": ((("staged", "v2"),), ("canary", None)),
    "promotion": ((("staged", "v2"),), ("promoted", None)),
    "rollback": ((("staged", "v2"), ("promoted", None)), ("rolled_back", None)),
}


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


_calls: dict[str, int] = {}


def prepared(moto: Moto, name: str) -> tuple[Stage, tuple[str, str | None], int]:
    """A listener before a run, the run, and how many calls it takes when all goes well."""
    earlier, wanted = RUNS[name]

    def made() -> Stage:
        at = stage(moto)
        for state, group in earlier:
            good(switch(at, state, group))
        moto.reset_calls()
        return at

    if name not in _calls:
        good(switch(made(), *wanted))
        _calls[name] = len(moto.calls)
    return made(), wanted, _calls[name]


def test_an_ill_candidate_gets_no_traffic_and_each_of_its_targets_is_named(moto: Moto) -> None:
    at = stage(moto)
    before = moto.rules(at.listener)
    moto.health[at.groups["v2"]] = [
        [
            ("10.0.0.1", "healthy", ""),
            ("10.0.0.2", "unhealthy", "Target.Timeout"),
            ("10.0.0.3", "initial", "Elb.InitialHealthChecking"),
            ("10.0.0.4", "draining", "Target.DeregistrationInProgress"),
        ]
    ]
    result = switch(at, "promoted", "v2", timeout=0.2)
    assert result["kind"] == "not_healthy"
    assert "1 of 3 targets are healthy, 3 must be" in result["msg"]
    for reason in ("Target.Timeout", "Elb.InitialHealthChecking", "10.0.0.4:80 is draining"):
        assert reason in result["msg"]
    assert moto.rules(at.listener) == before
    # It is not even attached, where it is not to be waited for.
    moto.reset_calls()
    result = switch(at, "promoted", "v2", wait_healthy=False)
    assert result["kind"] == "not_healthy"
    assert moto.written == []
    assert good(switch(at, "promoted", "v2", min_healthy=1))["live"] == at.groups["v2"]


def test_a_candidate_that_nobody_checks_yet_is_attached_without_traffic_and_waited_for(
    moto: Moto,
) -> None:
    at = stage(moto)
    unused = [("10.0.0.2", "unused", "Target.NotInUse")]
    initial = [("10.0.0.2", "initial", "Elb.RegistrationInProgress")]
    moto.health[at.groups["v2"]] = [unused, initial, [("10.0.0.2", "healthy", "")]]
    seen: list[tuple[str, ...]] = []
    moto.before["CreateRule"] = lambda: seen.append(at.routes())
    result = good(switch(at, "staged", "v2"))
    assert seen == [("v1", "v1", "v1")]
    assert at.routes() == ("v1", "v2", "v1")
    assert result["steps"][0]["step"].startswith("have the health of v2")
    default = moto.rules(at.listener)[0].actions[0]
    assert at.groups["v2"] not in str(default)


def test_a_wait_that_is_interrupted_takes_the_attachment_back(moto: Moto, tmp_path: Path) -> None:
    at = stage(moto)
    before = moto.rules(at.listener)
    moto.health[at.groups["v2"]] = [[("10.0.0.2", "unused", "Target.NotInUse")]]
    options = arguments(
        moto,
        listener_arn=at.listener,
        state="promoted",
        target_group=at.groups["v2"],
        timeout=300,
    )
    with start_module(tmp_path, "alb_switch", options) as running:
        eventually(lambda: moto.calls.count("DescribeTargetHealth") > 1, "the wait")
        running.process.send_signal(signal.SIGTERM)
        ended = running.end()
    assert ended.result["kind"] == "interrupted"
    assert "Restored all others to v1" in ended.result["state"]
    assert moto.rules(at.listener) == before


def test_a_previous_version_that_is_gone_is_not_gone_back_to(moto: Moto) -> None:
    at = stage(moto)
    for state, group in (("staged", "v2"), ("promoted", None)):
        good(switch(at, state, group))
    moto.health[at.groups["v1"]] = [[]]
    result = switch(at, "rolled_back", timeout=0)
    assert "no target is registered" in result["msg"]
    assert at.routes() == PROMOTED


@pytest.mark.parametrize("name", ["first stage", "promotion"])
def test_a_call_that_is_throttled_is_repeated(moto: Moto, name: str) -> None:
    at, wanted, calls = prepared(moto, name)
    # Each second one of them, and so each call once.
    moto.reset_calls(*(Fault(number, **THROTTLED) for number in range(1, 2 * calls, 2)))
    result = good(switch(at, *wanted))
    assert result["api_calls"] == len(moto.calls) == 2 * calls
    moto.reset_calls()
    assert good(switch(at, *wanted))["changed"] is False


@pytest.mark.parametrize("name", RUNS)
def test_a_failure_at_any_call_restores_what_stood(moto: Moto, name: str) -> None:
    at, wanted, calls = prepared(moto, name)
    before = moto.rules(at.listener)
    for number in range(1, calls + 1):
        moto.reset_calls(Fault(number))
        result = switch(at, *wanted)
        failed = moto.calls[number - 1]
        assert result["kind"] == "api", (number, result)
        assert f"elasticloadbalancing:{failed} was refused: ValidationError" in result["msg"]
        assert result["state"], result
        assert moto.rules(at.listener) == before, (number, failed, result)
    moto.reset_calls()
    good(switch(at, *wanted))


def test_a_promotion_that_is_throttled_for_good_restores_what_stood(moto: Moto) -> None:
    at, wanted, calls = prepared(moto, "promotion")
    before = moto.rules(at.listener)
    moto.reset_calls(Fault(calls, times=TRIES, **THROTTLED))
    result = switch(at, *wanted)
    assert "throttled until no try was left" in result["msg"]
    assert "estored all others to v1" in result["state"]
    assert moto.rules(at.listener) == before


@pytest.mark.parametrize("name", ["first stage", "promotion"])
def test_an_answer_that_is_lost_at_any_call_makes_no_difference(moto: Moto, name: str) -> None:
    at, wanted, calls = prepared(moto, name)
    rules = moto.rules(at.listener)
    moto.reset_calls(*(Fault(number, **BROKEN) for number in range(1, 4 * calls, 2)))
    good(switch(at, *wanted))
    moto.reset_calls()
    assert good(switch(at, *wanted))["changed"] is False
    assert len(moto.rules(at.listener)) == len(rules) + (2 if name == "first stage" else 0)


def test_a_new_rule_whose_answer_never_comes_is_found_and_removed(moto: Moto) -> None:
    at, wanted, _calls = prepared(moto, "first stage")
    before = moto.rules(at.listener)
    # The fourth call makes the first rule; each repeat of it finds the priority taken.
    moto.reset_calls(Fault(4, **{**BROKEN, "code": "ValidationError", "status": 400}))
    assert switch(at, *wanted)["failed"]
    assert moto.calls[3] == "CreateRule"
    assert moto.rules(at.listener) == before


@pytest.mark.parametrize("name", ["first stage", "promotion"])
def test_a_right_that_is_missing_is_named(moto: Moto, name: str) -> None:
    at, wanted, calls = prepared(moto, name)
    before = moto.rules(at.listener)
    for number in range(1, calls + 1):
        moto.reset_calls(Fault(number, **DENIED))
        result = switch(at, *wanted)
        action = moto.calls[number - 1]
        assert result["kind"] == "access_denied"
        assert f"may not call elasticloadbalancing:{action}" in result["msg"]
        assert f"Allow elasticloadbalancing:{action}" in result["next_step"]
        assert moto.rules(at.listener) == before


def test_an_undo_that_fails_too_is_not_passed_over(moto: Moto) -> None:
    at, wanted, calls = prepared(moto, "promotion")
    moto.reset_calls(Fault(calls, times=3))
    result = switch(at, *wanted)
    assert "Could not be rolled back" in result["state"]
    # Whoever runs it again gets on from there.
    moto.reset_calls()
    good(switch(at, *wanted))
    assert at.routes() == PROMOTED


def proof(at: Stage, group: str) -> dict[str, Any]:
    name = at.groups[group].split("/")[-2]
    return {
        "verify_url": f"{at.moto.front(at.listener)}?probe=1",
        "verify_fields": {"version": name},
        "verify_headers": {"X-Version": name},
    }


def test_a_promotion_is_proved_through_the_listener(moto: Moto) -> None:
    at = stage(moto)
    # The candidate is asked for as one who wants it would.
    assert good(switch(at, "staged", "v2", **proof(at, "v2")))["proved"] is True
    moto.reset_calls()
    result = good(switch(at, "promoted", **proof(at, "v2")))
    assert result["proved"] is True
    assert result["api_calls"] == 7
    assert good(switch(at, "promoted", **proof(at, "v2")))["proved"] is True


@pytest.mark.parametrize("name", ["canary", "promotion", "rollback"])
def test_what_cannot_be_proved_is_undone(moto: Moto, name: str) -> None:
    at, wanted, _calls = prepared(moto, name)
    before = moto.rules(at.listener)
    result = switch(at, *wanted, **proof(at, "v3"), verify_timeout=0)
    assert result["kind"] == "unproved"
    assert re.search(r"header X-Version is v[12]-\d+, not v3", result["msg"])
    assert moto.rules(at.listener) == before


def test_a_proof_that_fails_where_nothing_was_changed_changes_nothing(moto: Moto) -> None:
    at = stage(moto)
    good(switch(at, "staged", "v2"))
    before = moto.rules(at.listener)
    result = switch(at, "staged", "v2", **proof(at, "v3"), verify_timeout=0)
    assert "Nothing was changed." in result["msg"]
    assert moto.rules(at.listener) == before


def rival(at: Stage, folder: Path, state: str, group: str, results: list[Any]) -> None:
    """A second caller, in a process of its own."""
    options = arguments(
        at.moto, listener_arn=at.listener, state=state, target_group=at.groups[group]
    )
    results.append(run_module(folder, "alb_switch", options).result)


def test_two_callers_who_want_the_same_both_get_it(moto: Moto, tmp_path: Path) -> None:
    at = stage(moto)
    good(switch(at, "staged", "v2"))
    others: list[Any] = []
    moto.before["ModifyRule"] = lambda: rival(at, tmp_path, "promoted", "v2", others)
    good(switch(at, "promoted", "v2"))
    good(others[0])
    assert at.routes() == PROMOTED


@pytest.mark.parametrize("moment", ["ModifyRule", "ModifyListener"])
def test_the_second_of_two_callers_is_noticed_and_stays(
    moto: Moto, tmp_path: Path, moment: str
) -> None:
    at = stage(moto)
    good(switch(at, "staged", "v2"))
    others: list[Any] = []

    # From its call on, the first one overwrites a part of what the second one did.
    moto.before[moment] = lambda: rival(at, tmp_path, "promoted", "v3", others)
    result = switch(at, "promoted", "v2", **proof(at, "v2"))
    good(others[0])
    assert at.routes() == PROMOTED or result["kind"] == "overtaken"
    # Nobody is sent to nobody, and one more run settles it.
    assert set(at.routes()) <= {"v1", "v2", "v3", "404"}
    assert at.route() != "404"
    moto.reset_calls()
    good(switch(at, "promoted", "v3"))
    assert at.routes() == ("v3", "404", "v3")


def test_two_who_stage_for_the_first_time_do_not_both_think_they_won(
    moto: Moto, tmp_path: Path
) -> None:
    at = stage(moto)
    others: list[Any] = []
    moto.before["CreateRule"] = lambda: rival(at, tmp_path, "staged", "v3", others)
    result = switch(at, "staged", "v2")
    good(others[0])
    assert result["kind"] == "overtaken"
    assert "there is a second rule" in result["msg"]
    assert at.routes() == ("v1", "v3", "v1")
    assert len(moto.rules(at.listener)) == 3
