# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans for a listener: what each state comes to, and that no step on the way harms anybody."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.alb.plan import (
    CANARY,
    PROMOTED,
    RETIRED,
    ROLLED_BACK,
    STAGED,
    NotHealthy,
    Wanted,
    plan,
    shortcoming,
)
from ansible_collections.immutable.delivery.plugins.module_utils.alb.roles import (
    CANDIDATE,
    LIVE,
    Listener,
    Target,
    Unclear,
    name_of,
    roles_of,
)
from ansible_collections.immutable.delivery.plugins.module_utils.alb.rules import (
    Forward,
    Other,
    Rule,
    header_condition,
)

from .world import CLIENTS, GROUPS, World, group, listener


def wanted(state: str, name: str | None = None, **options: object) -> Wanted:
    return Wanted(state, group(name) if name else None, **options)  # type: ignore[arg-type]


def run(world: World, want: Wanted) -> None:
    for step in world.plan(want):
        world.apply(step)
        assert world.unserved() == "", step.summary


def roles(world: World) -> tuple[str, ...]:
    found = roles_of(world.listener)
    return tuple(name_of(arn) for arn in (found.live, found.candidate, found.previous))


def fresh(*states: Wanted, foreign: tuple[int, ...] = ()) -> World:
    world = World(listener(foreign=foreign), healthy="a")
    for want in states:
        run(world, want)
    return world


def routes(world: World) -> dict[str, set[str]]:
    return {client: world.routed(client) for client in CLIENTS}


def test_the_states_of_the_seed() -> None:
    world = fresh()
    assert routes(world) == {"blue": {"a"}, "green": {"a"}, "none": {"a"}}
    run(world, wanted(STAGED, "b"))
    assert routes(world) == {"blue": {"a"}, "green": {"b"}, "none": {"a"}}
    assert roles(world) == ("a", "b", "nobody")
    run(world, wanted(CANARY, weight=20))
    assert routes(world) == {"blue": {"a"}, "green": {"b"}, "none": {"a", "b"}}
    assert world.listener.default.action == Forward.to({group("a"): 80, group("b"): 20})
    run(world, wanted(PROMOTED))
    assert routes(world) == {"blue": {"b"}, "green": {"404"}, "none": {"b"}}
    assert roles(world) == ("b", "nobody", "a")
    run(world, wanted(ROLLED_BACK))
    assert routes(world) == {"blue": {"a"}, "green": {"404"}, "none": {"a"}}
    assert roles(world) == ("a", "nobody", "nobody")


@pytest.mark.parametrize("state", [STAGED, CANARY])
def test_a_rollback_before_the_promotion_withdraws_the_candidate(state: str) -> None:
    world = fresh(wanted(state, "b"), wanted(ROLLED_BACK))
    assert routes(world) == {"blue": {"a"}, "green": {"404"}, "none": {"a"}}
    assert roles(world) == ("a", "nobody", "nobody")


def test_a_second_rollback_does_not_go_back_and_forth() -> None:
    world = fresh(wanted(STAGED, "b"), wanted(PROMOTED), wanted(ROLLED_BACK))
    assert world.plan(wanted(ROLLED_BACK)) == []


def test_a_retired_group_is_named_no_more_and_cannot_be_gone_back_to() -> None:
    world = fresh(wanted(STAGED, "b"), wanted(PROMOTED), wanted(RETIRED))
    assert roles(world) == ("b", "nobody", "nobody")
    assert group("a") not in str(world.listener.rules)
    assert world.plan(wanted(ROLLED_BACK)) == []


def test_a_promotion_of_what_is_staged_makes_three_changes_whatever_the_rules() -> None:
    world = fresh(wanted(STAGED, "b"), foreign=tuple(range(1, 90)))
    assert len(world.plan(wanted(PROMOTED))) == 3


def test_the_first_group_of_a_listener_is_promoted_at_once() -> None:
    world = World(listener(None))
    with pytest.raises(Unclear, match="state=promoted"):
        world.plan(wanted(STAGED, "a"))
    for step in world.plan(wanted(PROMOTED, "a")):
        world.apply(step)
        assert world.routed("none") in ({"503"}, {"a"})
    assert routes(world) == {"blue": {"a"}, "green": {"404"}, "none": {"a"}}
    assert world.plan(wanted(PROMOTED)) == []


def test_what_is_live_already_is_not_staged() -> None:
    world = fresh(wanted(STAGED, "b"), wanted(PROMOTED))
    assert world.plan(wanted(STAGED, "b")) == []
    assert world.plan(wanted(CANARY, "b")) == []


def test_rules_get_the_first_free_priorities() -> None:
    world = fresh(wanted(STAGED, "b"), foreign=(1, 2, 4, 7))
    ours = [world.listener.rule(role) for role in (LIVE, CANDIDATE)]
    assert [rule.priority for rule in ours if rule] == [3, 5]


def test_no_free_priority_is_said() -> None:
    want = wanted(STAGED, "b", first_priority=50000)
    with pytest.raises(Unclear, match="no priority from 50001"):
        World(listener(), healthy="ab").plan(want)


def test_a_rule_of_others_that_would_hide_ours_is_refused() -> None:
    have = listener()
    theirs = Rule("x", 1, (header_condition("X-Client-Mode", "Green"),), have.default.actions)
    world = World(replace(have, rules=(*have.rules, theirs)), healthy="a")
    with pytest.raises(Unclear, match="rule 1 of the listener"):
        world.plan(wanted(STAGED, "b"))


def test_another_header_is_given_to_the_rules_that_there_are() -> None:
    world = fresh(wanted(STAGED, "b"))
    count = len(world.listener.rules)
    run(world, wanted(STAGED, header_name="x-mode"))
    assert len(world.listener.rules) == count
    assert {rule.conditions[0].name for rule in world.listener.rules if rule.conditions} == {
        "x-mode"
    }


def test_a_surplus_rule_of_ours_is_deleted_last() -> None:
    world = fresh(wanted(STAGED, "b"))
    rule = world.listener.rule(CANDIDATE)
    assert rule is not None
    double = replace(rule, arn="double", priority=40)
    world.listener = replace(
        world.listener, rules=(*world.listener.rules, double), surplus=("double",)
    )
    assert world.plan(wanted(PROMOTED))[-1].summary == "delete rule 40, one too many"
    run(world, wanted(PROMOTED))
    assert world.plan(wanted(PROMOTED)) == []


@pytest.mark.parametrize("kind", ["redirect", "authenticate-oidc"])
def test_a_default_action_that_is_none_of_ours_is_refused(kind: str) -> None:
    have = listener()
    default = replace(have.default, actions=(Other(kind, "{}"),))
    with pytest.raises(Unclear, match=kind):
        plan(have.with_rule(default), wanted(STAGED, "b"))


def test_a_divided_default_action_that_nothing_explains_is_refused() -> None:
    have = listener()
    forward = Forward.to({group("a"): 1, group("b"): 1})
    with pytest.raises(Unclear, match="nothing says which is live"):
        plan(have.with_rule(replace(have.default, actions=(forward,))), wanted(PROMOTED))


@pytest.mark.parametrize("state", [STAGED, CANARY])
def test_no_candidate_is_made_up(state: str) -> None:
    with pytest.raises(Unclear, match="target_group"):
        plan(listener(), wanted(state))


def test_a_group_that_is_not_healthy_is_waited_for_or_refused() -> None:
    world = fresh()
    with pytest.raises(NotHealthy, match=r"b cannot be given traffic: .* i-1:80 is unused"):
        world.plan(wanted(STAGED, "b", wait_healthy=False))
    steps = [step.action for step in world.plan(wanted(STAGED, "b"))]
    assert steps == ["attach", "wait", "create", "create", "default"]
    assert "wait" not in [step.action for step in world.plan(wanted(STAGED, "b", min_healthy=0))]


@pytest.mark.parametrize(
    ("states", "needed", "lacks"),
    [
        (["healthy"], None, ""),
        (["healthy", "draining"], None, ""),
        (["healthy", "initial"], 1, ""),
        (["healthy", "initial"], None, "1 of 2 targets are healthy, 2 must be: t1 is initial (R)"),
        (["draining"], None, "no target is registered, 1 must be healthy"),
        ([], 2, "no target is registered, 2 must be healthy"),
        ([], 0, ""),
        (["unhealthy"], 1, "0 of 1 targets are healthy, 1 must be: t0 is unhealthy (R)"),
        (["healthy"], 2, "1 of 1 targets are healthy, 2 must be"),
    ],
)
def test_what_a_group_lacks(states: list[str], needed: int | None, lacks: str) -> None:
    targets = [Target(f"t{number}", state, "R") for number, state in enumerate(states)]
    assert shortcoming(targets, needed) == lacks


WANTS = st.builds(
    wanted,
    st.sampled_from([STAGED, CANARY, PROMOTED, ROLLED_BACK, RETIRED]),
    st.one_of(st.none(), st.sampled_from(GROUPS)),
    weight=st.integers(1, 99),
    sticky=st.one_of(st.none(), st.integers(1, 604800)),
)
# What was asked for earlier, and after how many steps each of these runs was killed.
PAST = st.lists(st.tuples(WANTS, st.integers(0, 8)), max_size=5)
FOREIGN = st.frozensets(st.integers(1, 8), max_size=5)


def reached(past: list[tuple[Wanted, int]], foreign: frozenset[int]) -> World:
    """A listener as earlier runs left it, each of them perhaps killed half-way."""
    world = World(listener(foreign=sorted(foreign)), healthy="a")
    for want, steps in past:
        try:
            planned = world.plan(want)
        except Unclear:
            continue
        for step in planned[:steps]:
            world.apply(step)
            assert world.unserved() == "", (step.summary, world.listener)
    return world


def foreign_rules(have: Listener) -> list[Rule]:
    return [rule for rule in have.rules if rule.arn.startswith("foreign")]


@given(PAST, WANTS, FOREIGN)
def test_every_prefix_of_every_plan_serves_everybody(
    past: list[tuple[Wanted, int]], want: Wanted, foreign: frozenset[int]
) -> None:
    world = reached(past, foreign)
    before = foreign_rules(world.listener)
    try:
        steps = world.plan(want)
    except Unclear:
        return
    for step in steps:
        world.apply(step)
        assert world.unserved() == "", step.summary
        assert foreign_rules(world.listener) == before
        for number in foreign:
            assert world.routed("none", f"/foreign/{number}") == {"foreign"}
    assert world.plan(want) == []
    assert len({rule.priority for rule in world.listener.rules}) == len(world.listener.rules)


@given(PAST, WANTS, FOREIGN, st.integers(0, 8))
def test_a_run_after_one_that_was_killed_comes_to_the_same(
    past: list[tuple[Wanted, int]], want: Wanted, foreign: frozenset[int], killed: int
) -> None:
    whole, broken = reached(past, foreign), reached(past, foreign)
    try:
        steps = whole.plan(want)
    except Unclear:
        return
    for step in steps:
        whole.apply(step)
    for step in steps[:killed]:
        broken.apply(step)
    run(broken, want)
    assert routes(broken) == routes(whole)
    assert roles(broken)[:2] == roles(whole)[:2]


@given(PAST, WANTS)
def test_a_plan_undone_in_reverse_serves_everybody_too(
    past: list[tuple[Wanted, int]], want: Wanted
) -> None:
    world = reached(past, frozenset())
    try:
        steps = world.plan(want)
    except Unclear:
        return
    states = [world.listener]
    served = {arn for arn, state in world.states.items() if state == "healthy"}
    for step in steps:
        world.apply(step)
        states.append(world.listener)
        served |= {arn for arn, state in world.states.items() if state == "healthy"}
    # Undo goes through the same states. A group that was let go of and comes back is asked before
    # it was checked again: the load balancer sends requests to it while it knows of none better.
    world.states.update(dict.fromkeys(served, "healthy"))
    for state in reversed(states):
        world.listener = state
        assert world.unserved() == ""
