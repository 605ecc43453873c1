# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A candidate's plans: whoever asks is answered, and each state is reached from anywhere."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.service.canary import (
    CandidateIll,
    NoCandidate,
    release_of,
)
from ansible_collections.immutable.delivery.plugins.module_utils.service.model import (
    CANARY,
    PRESENT,
    PROMOTED,
    ROLLED_BACK,
    SPARE,
    STAGED,
    Member,
    Wanted,
    live,
)

from .world import World, release, wanted

CUT = 1000
runs = st.tuples(
    st.sampled_from([PRESENT, STAGED, CANARY, PROMOTED, ROLLED_BACK]),
    st.sampled_from("abc"),
    st.integers(1, 2),
    st.integers(0, 12) | st.just(CUT),
)
mishaps = st.tuples(
    st.sampled_from(["stop", "sicken", "restart", "crash"]),
    st.just("a"),
    st.integers(0, 5),
    st.just(0),
)
histories = st.lists(st.one_of(runs, mishaps), max_size=7)


def to(state: str, count: int = 1, weight: int = 10) -> Wanted:
    """What a run in that state wants."""
    return replace(wanted(count), state=state, weight=weight)


def go(world: World, state: str, name: str = "b", count: int = 1, end: int = CUT) -> list[str]:
    """Run to that state, killed before the step of number *end*; return the steps."""
    named = name if state in (PRESENT, STAGED) else None
    return [step.action for step in world.deploy(named, to(state, count), end)]


def lived(history: list[tuple[str, str, int, int]]) -> World:
    """A world after runs killed at some step, and containers that ended or fell ill."""
    world = World(True)
    for what, name, count, end in history:
        if what in (PRESENT, STAGED, CANARY, PROMOTED, ROLLED_BACK):
            with suppress(NoCandidate, CandidateIll):
                go(world, what, name, count, end)
            continue
        running = sorted(one.id for one in world.members.values() if one.running)
        if not running:
            continue
        one = running[count % len(running)]
        if what == "restart":
            world.stop(one)
            world.start(one)
        else:
            getattr(world, what)(one)
    return world


def releases(world: World) -> set[str]:
    """What is live."""
    return {member.release for member in live(world.observed(None))}


def ids(*names: str) -> set[str]:
    return {release(name).id for name in names}


class Watched(World):
    """A world in which nobody may ask in vain at any time."""

    def watch(self) -> None:
        well = {one.url for one in self.members.values() if one.running and one.well}
        for header in ("green", "blue", ""):
            asked = self.asking(header)
            assert asked and well.issuperset(asked), header


def watched(*names: str) -> Watched:
    """One in which these were live, one after the other."""
    world = Watched(True)
    world.watch = lambda: None  # type: ignore[method-assign]
    for name in names:
        world.deploy(name, wanted(2))
    del world.watch
    world.watch()
    return world


@given(histories, runs)
def test_a_run_that_comes_again_has_nothing_left_to_do(
    history: list[tuple[str, str, int, int]], last: tuple[str, str, int, int]
) -> None:
    world = lived(history)
    state, name, count, _end = last
    try:
        go(world, state, name, count)
    except (NoCandidate, CandidateIll):
        assert state in (CANARY, PROMOTED)
        return
    before = (dict(world.members), world.route, world.candidate)
    assert go(world, state, name, count) == []
    assert (dict(world.members), world.route, world.candidate) == before


@given(histories)
def test_who_is_refused_is_nowhere_and_stays_refused(
    history: list[tuple[str, str, int, int]],
) -> None:
    world = lived(history)
    go(world, ROLLED_BACK)
    having = releases(world)
    assert world.candidate is None
    go(world, ROLLED_BACK)
    assert releases(world) == having
    tried = [one for one in world.members.values() if one.unproved and not one.helps]
    assert not any(one.running and not one.among(world.route or ()) for one in tried)


@given(st.lists(st.tuples(st.sampled_from([STAGED, CANARY]), st.integers(0, 12)), max_size=4))
def test_whatever_was_broken_off_a_rollback_leaves_the_live_one_alone(
    broken: list[tuple[str, int]],
) -> None:
    world = watched("a", "b")
    go(world, STAGED, "c", 2, 2)
    for state, end in broken:
        with suppress(DeliveryError):
            go(world, state, "c", 2, end)
    go(world, ROLLED_BACK)
    assert releases(world) == ids("b")
    assert {one.release for one in world.members.values() if one.running} == ids("b")
    # The one before it is kept all the same.
    assert ids("a") <= {one.release for one in world.members.values()}


@given(st.integers(0, 12), st.sampled_from([PROMOTED, ROLLED_BACK]))
def test_a_promotion_broken_off_goes_either_way(end: int, then: str) -> None:
    world = watched("a")
    go(world, STAGED, "b", 2)
    go(world, CANARY)
    go(world, PROMOTED, end=end)
    go(world, then)
    go(world, then)
    assert releases(world) == ids("b" if then == PROMOTED else "a")
    assert world.candidate is None
    assert {one.release for one in world.members.values() if one.running} == releases(world)


@given(st.integers(0, 12))
def test_a_rollback_broken_off_after_a_promotion_is_finished_by_the_next(end: int) -> None:
    world = watched("a")
    go(world, STAGED, "b")
    go(world, PROMOTED)
    assert releases(world) == ids("b")
    go(world, ROLLED_BACK, end=end)
    go(world, ROLLED_BACK)
    assert releases(world) == ids("a")
    assert go(world, ROLLED_BACK) == []
    # The one that was refused makes room for the next try of the same release.
    go(world, STAGED, "b")
    assert world.candidate is not None
    go(world, PROMOTED)
    assert releases(world) == ids("b")


@pytest.mark.parametrize("watched_to_the_end", [True, False])
def test_a_rollback_from_what_crashes_goes_back_to_what_was_proved_last(
    watched_to_the_end: bool,
) -> None:
    world = watched("a", "b")
    world.watch = lambda: None  # type: ignore[method-assign]
    up = [step.action for step in world.plan("c", to(PRESENT)).steps]
    go(world, PRESENT, "c", end=CUT if watched_to_the_end else up.index("soak"))
    for one in [one.id for one in world.members.values() if one.release == release("c").id]:
        world.crash(one)
    assert not releases(world)
    assert "route" in go(world, ROLLED_BACK)
    assert releases(world) == ids("b")
    # Once is enough.
    assert go(world, ROLLED_BACK) == []
    assert releases(world) == ids("b")


def test_a_rollback_of_a_route_that_leads_to_nobody_leads_to_what_was_proved() -> None:
    world = watched("a")
    world.watch = lambda: None  # type: ignore[method-assign]
    world.route = ("http://127.0.0.1:1",)
    assert "route" in go(world, ROLLED_BACK)
    assert releases(world) == ids("a")


def test_a_rollback_to_one_with_the_same_port_is_refused_unless_that_is_free() -> None:
    world = World(True)
    for name in "ab":
        world.deploy(name, wanted(port=8080))
    with pytest.raises(DeliveryError, match=r"cannot be started beside .*: both have port 8080"):
        world.plan(None, to(ROLLED_BACK))
    for one in [one.id for one in world.members.values() if one.running]:
        world.stop(one)
    assert "start" in [step.action for step in world.plan(None, to(ROLLED_BACK)).steps]


def test_housekeeping_removes_what_crashes_and_not_what_was_proved_before() -> None:
    world = watched("a", "b")
    world.watch = lambda: None  # type: ignore[method-assign]
    for one in [one.id for one in world.members.values() if one.release == release("b").id]:
        world.crash(one)
    go(world, STAGED, "c")
    go(world, PROMOTED)
    assert releases(world) == ids("c")
    assert {one.release for one in world.members.values()} == ids("a", "c")


def test_the_walk_of_a_canary_step_by_step() -> None:
    world = watched("a")
    assert go(world, STAGED) == ["pull", "create", "start", "health", "test", "stage"]
    assert world.candidate is not None and world.candidate.weight == 0
    assert go(world, CANARY) == ["stage"]
    assert world.candidate is not None and world.candidate.weight == 10
    assert go(world, STAGED) == ["stage"]
    assert go(world, PROMOTED) == ["health", "policy", "route", "soak", "approve", "drain", "stop"]
    assert go(world, ROLLED_BACK) == [
        *("mark", "start", "health", "policy", "route", "soak", "drain", "stop")
    ]
    assert go(world, STAGED, "c") == ["pull", "create", "clear", "start", "health", "test", "stage"]
    assert go(world, ROLLED_BACK) == ["unstage", "drain", "stop"]


def test_what_a_repair_has_put_by_stays_with_the_live_release_only() -> None:
    world = watched("a", "b")
    world.members["s"] = Member("s", "demo-b.spare", release("b").id, helps=SPARE)
    go(world, STAGED, "c", 2)
    go(world, ROLLED_BACK)
    assert "s" in world.members
    go(world, ROLLED_BACK)
    assert "s" in world.members and releases(world) == ids("b")

    back = watched("a", "b")
    back.members["s"] = Member("s", "demo-b.spare", release("b").id, helps=SPARE)
    go(back, ROLLED_BACK)
    assert "s" not in back.members and releases(back) == ids("a")


def test_a_second_candidate_takes_the_place_of_the_first() -> None:
    world = watched("a")
    go(world, STAGED, "b")
    go(world, CANARY)
    assert go(world, STAGED, "c")[-3:] == ["stage", "drain", "remove"]
    assert {one.release for one in world.members.values()} == ids("a", "c")


def test_what_was_kept_can_be_the_candidate_and_is_not_kept_any_more_once_refused() -> None:
    world = watched("a", "b")
    assert go(world, STAGED, "a", 2)[:1] == ["mark"]
    assert "create" not in go(world, STAGED, "a", 2)
    go(world, ROLLED_BACK)
    assert releases(world) == ids("b")
    assert go(world, ROLLED_BACK) == []


def test_to_stage_what_is_live_changes_nothing_and_the_first_version_is_live_at_once() -> None:
    world = watched("a")
    assert go(world, STAGED, "a") == []
    first = World(True)
    assert go(first, STAGED, "a")[-3:] == ["route", "soak", "approve"]
    assert releases(first) == ids("a") and first.candidate is None


def test_to_repair_and_scale_what_is_live_leaves_its_candidate_alone() -> None:
    world = watched("a")
    go(world, STAGED, "b")
    go(world, CANARY)
    having = world.candidate
    assert go(world, PRESENT, "a", 2) == []
    assert "route" in go(world, PRESENT, "a", 3)
    assert world.candidate == having
    # Another release ends it, and it is not what the next rollback would go back to.
    go(world, PRESENT, "c")
    assert world.candidate is None
    assert {one.release for one in world.members.values()} == ids("a", "c")


def test_to_deploy_the_candidate_promotes_it_untested_since_it_has_been() -> None:
    world = watched("a")
    go(world, STAGED, "b")
    assert go(world, PRESENT, "b") == [
        "health",
        "policy",
        "route",
        "soak",
        "approve",
        "drain",
        "stop",
    ]


def test_a_candidate_that_is_gone_is_taken_from_the_router() -> None:
    world = World(True)
    go(world, PRESENT, "a")
    go(world, STAGED, "b")
    (one,) = (member.id for member in world.members.values() if member.unproved)
    world.stop(one)
    assert go(world, PRESENT, "a") == ["clear", "unstage"]


@pytest.mark.parametrize("state", [CANARY, PROMOTED])
def test_who_is_ill_gets_no_more_but_may_get_less(state: str) -> None:
    world = World(True)
    go(world, PRESENT, "a")
    go(world, STAGED, "b")
    go(world, CANARY)
    (one,) = (member.id for member in world.members.values() if member.unproved)
    world.sicken(one)
    more = replace(to(state), weight=20)
    with pytest.raises(CandidateIll, match="is not well: demo-b"):
        world.deploy(None, more)
    assert [step.action for step in world.deploy(None, replace(to(CANARY), weight=0))] == ["stage"]
    assert world.candidate is not None and world.candidate.weight == 0
    assert world.deploy(None, replace(to(CANARY), weight=0)) == []


def test_another_than_was_meant_is_not_promoted() -> None:
    world = watched("a")
    meant = replace(to(PROMOTED), digest=release("c").digest)
    with pytest.raises(NoCandidate, match="there is no candidate of demo"):
        go(world, CANARY)
    go(world, STAGED, "b")
    with pytest.raises(NoCandidate, match="not sha256:ccc"):
        world.deploy(None, meant)
    go(world, PROMOTED)
    assert go(world, PROMOTED) == []
    with pytest.raises(NoCandidate):
        world.deploy(None, meant)


def test_the_release_that_a_rollback_is_about_is_the_one_that_has_the_traffic_then() -> None:
    world = watched("a", "b")
    go(world, STAGED, "c")
    seen = []
    for _time in range(2):
        seen.append(release_of(world.observed(None), to(ROLLED_BACK)))
        go(world, ROLLED_BACK)
    assert seen == [release("b"), release("b")] and releases(world) == ids("b")
    world = watched("a", "b")
    assert release_of(world.observed(None), to(ROLLED_BACK)) == release("a")
