# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans for a service: from whatever stands, and wherever they were cut off, they end well."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.service import plan as steps
from ansible_collections.immutable.delivery.plugins.module_utils.service.model import (
    REHEARSAL,
    SPARE,
    Member,
    Observed,
    Wanted,
    live,
)

from .world import OWN, World, release, wanted

PORT = 8000

deploys = st.tuples(
    st.just("deploy"), st.sampled_from("abc"), st.integers(1, 3), st.integers(0, 12)
)
mishaps = st.tuples(
    st.sampled_from(["stop", "sicken", "restart", "crash"]),
    st.integers(0, 5),
    st.just(0),
    st.just(0),
)
histories = st.lists(st.one_of(deploys, mishaps), max_size=6)


def lived(history: list[tuple[str, object, int, int]], routed: bool, port: int | None) -> World:
    """A world after deploys killed at some step, and containers that ended or fell ill."""
    world = World(routed)
    for what, which, count, end in history:
        if what == "deploy":
            world.deploy(str(which), wanted(1 if port else count, port=port), end)
            continue
        running = sorted(one.id for one in world.members.values() if one.running)
        if not running or not isinstance(which, int):
            continue
        one = running[which % len(running)]
        if what == "restart":
            world.stop(one)
            world.start(one, port)
        else:
            getattr(world, what)(one)
    return world


@given(histories, st.booleans(), st.sampled_from([None, PORT]), st.integers(0, 2))
def test_every_deploy_comes_to_its_end(
    history: list[tuple[str, object, int, int]], routed: bool, port: int | None, keep: int
) -> None:
    world = lived(history, routed, port)
    what = wanted(1 if port else 2, keep, port)
    world.deploy("a", what)
    own = [one for one in world.members.values() if one.release == release("a").id]
    assert len([one for one in own if one.running and one.well]) == what.instances
    assert len(own) == what.instances
    assert not any(one.unproved for one in world.members.values())
    others = {one.release for one in world.members.values()} - {release("a").id}
    assert len(others) <= keep
    assert not any(one.running for one in world.members.values() if one.release in others)
    assert all(one.restart == (OWN if one in own else "no") for one in world.members.values())
    if routed:
        assert sorted(world.route or ()) == sorted(one.url or "" for one in own)
    planned = world.plan("a", what)
    assert not planned.steps and not planned.after
    assert {one.release for one in live(world.observed("a"))} == {release("a").id}


@given(histories, st.booleans(), st.integers(0, 14))
def test_who_serves_serves_until_the_switch(
    history: list[tuple[str, object, int, int]], routed: bool, end: int
) -> None:
    world = lived(history, routed, None)
    served = world.served()
    planned = world.plan("b", wanted(2))
    done = world.deploy("b", wanted(2), min(end, len(planned.steps)))
    switched = any(step.action == steps.ROUTE for step in done)
    if served and not switched:
        assert served <= world.served()
    running = {one.release for one in world.members.values() if one.running and one.well}
    if served and not any(step.action == steps.APPROVE for step in done):
        assert served <= running
    if switched:
        assert world.served() == {release("b").id}


@given(histories, st.booleans(), st.sampled_from([None, PORT]), st.integers(0, 18))
def test_a_killed_deploy_is_completed_by_the_next(
    history: list[tuple[str, object, int, int]], routed: bool, port: int | None, end: int
) -> None:
    one, other = lived(history, routed, port), lived(history, routed, port)
    what = wanted(port=port)
    one.deploy("b", what)
    other.deploy("b", what, end)
    other.deploy("b", what)
    assert one.served() == other.served() == {release("b").id}
    assert {m.release for m in one.members.values()} == {m.release for m in other.members.values()}


@given(histories, st.booleans(), st.sampled_from([None, PORT]), st.integers(0, 16))
def test_what_was_proved_last_is_removed_only_once_something_proved_is_live(
    history: list[tuple[str, object, int, int]], routed: bool, port: int | None, end: int
) -> None:
    world = lived(history, routed, port)
    proved, had = world.proved, {one.release for one in world.members.values()}
    world.deploy("b", wanted(keep=0, port=port), end)
    if proved in had - {one.release for one in world.members.values()}:
        having = live(world.observed("b"))
        assert having and not any(one.unproved for one in having)


@given(histories, st.booleans(), st.sampled_from([None, PORT]), st.integers(0, 16))
def test_what_was_proved_is_kept_and_not_what_failed_in_its_soak(
    history: list[tuple[str, object, int, int]], routed: bool, port: int | None, end: int
) -> None:
    world = lived(history, routed, port)
    what = wanted(port=port)
    world.deploy("a", what)
    unwatched = world.plan("b", what).steps
    soaks = [number for number, step in enumerate(unwatched) if step.action == steps.SOAK]
    world.deploy("b", what, min(end, *soaks))
    for one in [one.id for one in world.members.values() if one.release == release("b").id]:
        world.crash(one)
    world.deploy("c", what)
    having = {one.release for one in world.members.values()}
    assert having == {release("a").id, release("c").id} if soaks else having


def killed_in_its_soak(routed: bool, what: Wanted) -> World:
    """A world in which "a" is proved, and the deploy of "b" was killed while it watched that."""
    world = World(routed)
    world.deploy("a", what)
    up = [step.action for step in world.plan("b", what).steps]
    world.deploy("b", what, up.index(steps.SOAK) + 1)
    return world


ROUTES = pytest.mark.parametrize(("routed", "port"), [(True, None), (True, PORT), (False, PORT)])


@ROUTES
@pytest.mark.parametrize("coming", ["b", "c"])
def test_who_was_proved_gets_the_traffic_from_what_crashes_without_being_proved(
    routed: bool, port: int | None, coming: str
) -> None:
    what = wanted(port=port)
    world = killed_in_its_soak(routed, what)
    # What is well is not sent away by another release that fails.
    assert not world.plan("c", what).intent.back
    # Unless the engine has started it again already: it may crash at any moment.
    (live_now,) = [one for one in world.members.values() if one.release == release("b").id]
    world.members[live_now.id] = replace(live_now, restarts=1)
    assert {one.release for one in world.plan("c", what).intent.back} == {release("a").id}
    for one in [one.id for one in world.members.values() if one.release == release("b").id]:
        world.crash(one)
    intent = world.plan(coming, what).intent
    assert {one.release for one in intent.unsafe} == {release("b").id}
    assert {one.release for one in intent.back} == {release("a").id}


@ROUTES
def test_who_was_proved_gets_the_traffic_back_from_what_was_killed_in_its_soak(
    routed: bool, port: int | None
) -> None:
    what = wanted(port=port)
    world = killed_in_its_soak(routed, what)
    planned = world.plan("b", what)
    assert [step.action for step in planned.steps] == [steps.HEALTH, steps.SOAK, steps.APPROVE]
    assert [one.release for one in planned.intent.back] == [release("a").id]
    world.deploy("b", what)
    assert not world.plan("b", what).intent.back


@given(histories, st.booleans(), st.sampled_from([None, PORT]))
def test_nothing_is_left_of_what_is_removed(
    history: list[tuple[str, object, int, int]], routed: bool, port: int | None
) -> None:
    world = lived(history, routed, port)
    world.deploy(None, wanted(port=port))
    assert not world.members and not world.route
    planned = world.plan(None, wanted(port=port))
    assert not planned.steps and not planned.after


def actions(world: World, name: str, **options: object) -> list[str]:
    """The actions of a plan, in their order."""
    planned = world.plan(name, wanted(**options))  # type: ignore[arg-type]
    return [step.action for step in (*planned.steps, *planned.after)]


UP = [steps.PULL, steps.CREATE, steps.START, steps.HEALTH, steps.TEST, steps.POLICY]
LIVE = [steps.ROUTE, steps.SOAK, steps.APPROVE]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("a", {}, []),
        ("a", {"count": 2}, [*UP, *LIVE]),
        ("b", {}, [*UP, *LIVE, steps.DRAIN, steps.STOP]),
        ("b", {"keep": 0}, [*UP, *LIVE, steps.DRAIN, steps.REMOVE]),
        (
            "b",
            {"port": PORT},
            [
                steps.PULL,
                steps.REHEARSE,
                steps.TEST,
                steps.CREATE,
                steps.REPLACE,
                *LIVE,
                steps.DRAIN,
                steps.STOP,
            ],
        ),
    ],
)
def test_plans_after_a_first_deploy(
    name: str, options: dict[str, object], expected: list[str]
) -> None:
    world = World(routed=True)
    assert actions(world, "a") == [*UP, *LIVE]
    world.deploy("a", wanted())
    assert actions(world, name, **options) == expected


def test_a_kept_release_is_started_and_not_created() -> None:
    world = World(routed=True)
    world.deploy("a", wanted())
    world.deploy("b", wanted())
    planned = world.plan("a", wanted())
    assert not planned.intent.create and len(planned.intent.start) == 1
    assert steps.CREATE not in [step.action for step in planned.steps]


def test_a_fixed_port_that_nobody_holds_is_given_back_meanwhile() -> None:
    world = World(routed=False)
    world.deploy("a", wanted(port=PORT))
    one = next(iter(world.members))
    world.stop(one)
    assert actions(world, "b", port=PORT)[0] == steps.REVIVE


def test_helpers_that_were_left_are_cleared_away() -> None:
    left = Member(
        "r", "demo-x.rehearsal", release("a").id, helps=REHEARSAL, running=True, well=True
    )
    world = World(routed=False)
    world.members["r"] = left
    assert live(world.observed("a")) == []
    assert actions(world, "a")[0] == steps.CLEAR


def test_what_a_repair_has_put_by_goes_with_its_release() -> None:
    world = World(routed=True)
    world.deploy("a", wanted())
    world.members["s"] = Member("s", "demo-a.spare", release("a").id, helps=SPARE)
    assert actions(world, "a") == []
    world.deploy("b", wanted())
    assert "s" not in world.members


def test_who_is_live_without_a_router_is_who_was_started_last() -> None:
    old = Member("1", "demo-1", "old", running=True, well=True, started=1, url="http://h:1")
    new = replace(old, id="2", name="demo-2", release="new", started=2, url="http://h:2")
    left = replace(old, id="3", name="demo-3.candidate", release="left", started=3, url=None)
    assert live(Observed((old, new, left))) == [new]
    assert live(Observed((old, new, left), route=("http://h:1",))) == [old]
    assert live(Observed((old, new, left), route=())) == []
