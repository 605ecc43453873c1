# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans for a project's containers: what each state comes to, and that no step goes too far."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.compose.decision import (
    RECREATE,
    ROLLING,
    State,
    decide,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.diff import (
    describe,
    expected,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.engine_state import (
    Instance,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.plan import (
    CREATE,
    FILL,
    POLICY,
    REMOVE,
    RENAME,
    REPLACE,
    RETIRE,
    ROUTE,
    SOAK,
    START,
    plan,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.strategies import How
from ansible_collections.immutable.delivery.plugins.module_utils.compose.suitable import (
    Unsuitable,
)

from .world import World, instance, service, wanted

WEB = service("web")
STATIC = service("static", static=True)
API = service("api", volumes_from=["static"], depends_on={"static": {"restart": False}})
SIDE = service("side", network_mode="service:api", depends_on={"api": {"restart": True}})
NAMED = service("named", container_name="fixed")


def reason(one: Instance) -> str:
    (found,) = decide(wanted(WEB), State({"web": [one]}))["web"].olds or ((None, ""),)
    return found[1]


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (instance(WEB), ""),
        (instance(WEB, health="healthy"), ""),
        (instance(WEB, health="starting"), ""),
        (instance(WEB, health="unhealthy"), "it is unhealthy"),
        (instance(WEB, status="exited", exit_code=3), "it is exited (exit code 3)"),
        (instance(WEB, status="exited"), "it is exited (exit code 0)"),
        (instance(WEB, status="created"), "it was never started"),
        (instance(WEB, status="restarting", exit_code=1), "it is restarting (exit code 1)"),
        (instance(WEB, image="sha256:old"), "its image changed"),
        (instance(WEB, hash_="old"), "its configuration changed"),
    ],
)
def test_why_a_container_is_replaced(one: Instance, why: str) -> None:
    assert reason(one) == why
    assert bool(plan(wanted(WEB), State({"web": [one]}))) == bool(why)


def actions(*args: object, **named: object) -> list[str]:
    return [step.action for step in plan(*args, **named)]  # type: ignore[arg-type]


def test_the_first_deployment_has_nothing_to_remove() -> None:
    assert actions(wanted(STATIC, API, WEB), State()) == [CREATE, FILL, REPLACE]
    assert actions(wanted(WEB, strategy=ROLLING), State()) == [CREATE, START]


def test_what_uses_a_container_is_replaced_with_it_and_nothing_else() -> None:
    want = wanted(STATIC, API, SIDE, WEB)
    static = instance(STATIC, status="exited", image="sha256:old")
    api = instance(API, refers={"static": static.id})
    side = instance(SIDE, refers={"api": api.id})
    world = World(want, {"static": [static], "api": [api], "side": [side], "web": [instance(WEB)]})
    steps = world.run()
    assert [step.action for step in steps] == [CREATE, FILL, REPLACE, REPLACE, REMOVE]
    assert steps[0].detail["waves"] == [{"static": 1}, {"api": 1}, {"side": 1}]
    assert "web-1" not in world.touched
    (new,) = world.all["side"]
    assert new.shares == {"network_mode": world.all["api"][0].id}
    assert [one.name for ones in world.all.values() for one in ones] == [
        *("p-static-1", "p-api-1", "p-side-1", "p-web-1"),
    ]
    assert plan(want, world.state) == []


def test_a_reference_to_a_container_that_is_gone_is_mended() -> None:
    static = instance(STATIC, 2, status="exited")
    api = instance(API, refers={"static": "static-1"})
    decisions = decide(wanted(STATIC, API), State({"static": [static], "api": [api]}))
    assert decisions["api"].olds[0][1] == "it uses static, which is replaced"
    assert not decisions["static"].changed


@pytest.mark.parametrize(
    ("refers", "outdated", "replaced"),
    [
        ("data-1", None, False),
        ("data-1", 2, False),
        # Compose would take the first one.
        ("data-2", None, True),
        ("data-2", 1, True),
        ("data-1", 1, True),
    ],
)
def test_who_refers_to_a_scaled_service_has_its_first_container(
    refers: str, outdated: int | None, replaced: bool
) -> None:
    data, api = service("data", scale=2), service("api", volumes_from=["data"])
    datas = [instance(data, n, hash_="old" if n == outdated else "") for n in (1, 2)]
    state = State({"data": datas, "api": [instance(api, refers={"data": refers})]})
    decisions = decide(wanted(data, api), state)
    assert bool(decisions["api"].news) is replaced
    assert decisions["data"].first == ("" if outdated == 1 else "data-1")


def test_a_dependency_with_restart_takes_its_dependants_along() -> None:
    for restart, names in ((True, {"web", "db"}), (False, {"db"})):
        web = service("web", depends_on={"db": {"restart": restart}})
        db = service("db")
        state = State({"web": [instance(web)], "db": [instance(db, image="sha256:old")]})
        decisions = decide(wanted(web, db), state)
        assert {name for name, one in decisions.items() if one.changed} == names
    # What was replaced when it was started does not restart it once more, whatever is left.
    web = service("web", depends_on={"db": {"restart": True}})
    for created, replaced in ((5, False), (15, True)):
        dbs = [instance(db, 1, status="exited", hash_="old"), instance(db, 2, created=created)]
        state = State({"web": [instance(web, started=10)], "db": dbs})
        assert bool(decide(wanted(web, db), state)["web"].news) is replaced


def test_a_fixed_name_goes_over_and_is_mended_where_a_run_was_killed() -> None:
    world = World(wanted(NAMED), {"named": [instance(NAMED, image="sha256:old")]})
    world.run()
    (new,) = world.all["named"]
    assert (new.number, new.name) == (1, "fixed")
    assert plan(world.want, world.state) == []
    left = replace(new, container=replace(new.container, name="fixed_0123456789ab"))
    (step,) = plan(world.want, State({"named": [left]}))
    assert (step.action, step.detail["name"]) == (RENAME, "fixed")


def test_the_router_is_told_only_where_it_is_astray() -> None:
    want = wanted(WEB, routed=frozenset({"web"}))
    there = {"web": [instance(WEB)]}
    assert actions(want, State(there)) == []
    assert actions(want, State(there, frozenset({"web"}))) == [ROUTE]
    old = {"web": [instance(WEB, hash_="old")]}
    assert actions(want, State(old)) == [CREATE, REPLACE, ROUTE, REMOVE]
    rolling = replace(want, strategy=ROLLING)
    assert actions(rolling, State(old)) == [CREATE, START, ROUTE, RETIRE, REMOVE]
    watched = replace(rolling, soak=10.0)
    assert actions(watched, State(old)) == [CREATE, START, ROUTE, SOAK, RETIRE, REMOVE]
    watched = replace(want, soak=10.0)
    assert actions(watched, State(old)) == [CREATE, REPLACE, ROUTE, SOAK, REMOVE]


def test_new_containers_are_watched_before_a_former_one_is_stopped_if_both_can_run() -> None:
    job = service("job", scale=1)
    job = replace(job, ends=True)
    two, one = service("two", scale=2), service("one")
    old = {
        "two": [instance(two, number, hash_="old") for number in (1, 2)],
        "one": [instance(one, hash_="old")],
        "job": [instance(job, status="exited", hash_="old")],
    }
    want = wanted(two, one, job, strategy=ROLLING, routed=frozenset({"two"}), soak=10.0)
    steps = plan(want, State(old))
    assert [step.action for step in steps if step.action != START] == [
        CREATE,
        *[RETIRE, ROUTE],
        SOAK,
        *[RETIRE, RETIRE, REMOVE],
    ]
    (watch,) = [step for step in steps if step.action == SOAK]
    assert watch.detail == {"services": {"one": [], "two": []}, "back": {}}
    # A service that loses containers has no new ones.
    fewer = wanted(service("two"), strategy=ROLLING, soak=10.0)
    assert actions(fewer, State({"two": [instance(two, number) for number in (1, 2)]})) == [
        RETIRE,
        REMOVE,
    ]


def test_what_a_killed_run_had_not_watched_is_watched_and_can_go_back() -> None:
    web = service("web", restart="always")
    old = instance(web, 1, status="exited", hash_="old", finished=2)
    older = instance(web, 2, status="exited", hash_="older", finished=1)
    new = instance(web, 3, restart="always")
    steps = plan(wanted(web, soak=10.0), State({"web": [older, old, new]}))
    assert [step.action for step in steps] == [SOAK, REMOVE]
    assert steps[0].detail == {"services": {"web": ["web-3"]}, "back": {"web": ["web-1"]}}
    # In lock-step the former one may still run.
    runs = instance(web, 1, hash_="old", restart="always")
    rolling = wanted(web, strategy=ROLLING, routed=frozenset({"web"}), soak=10.0)
    steps = plan(rolling, State({"web": [runs, new]}))
    assert [step.action for step in steps] == [ROUTE, SOAK, RETIRE, REMOVE]
    assert steps[1].detail["back"] == {"web": ["web-1"]}


# The moments of a run that was killed: it created its containers at 10, and stopped former ones.
BEFORE = {"hash_": "old", "created": 1, "started": 2}
STOPPED = {**BEFORE, "status": "exited", "finished": 11}
NEVER_STARTED = {"hash_": "new", "status": "created", "created": 10}
STARTED = {"hash_": "new", "created": 10, "started": 12}


@pytest.mark.parametrize("restart", ["no", "always"])
@pytest.mark.parametrize(
    ("seen", "again"),
    [
        ([STOPPED, BEFORE, BEFORE, NEVER_STARTED, NEVER_STARTED, NEVER_STARTED], [1]),
        ([STOPPED, STOPPED, STOPPED, NEVER_STARTED], [1, 2, 3]),
        # The engine ended what it had been told to stop; nobody took its policy away.
        ([{**STOPPED, "restart": "always"}, STOPPED, BEFORE, NEVER_STARTED], [1, 2]),
        ([STOPPED, STOPPED, STARTED, NEVER_STARTED], [1, 2]),
        # All new ones had been started: they serve, or it was killed in its undo.
        ([STOPPED, STOPPED, STARTED, STARTED], []),
        ([STOPPED, BEFORE, {**STARTED, "status": "exited", "finished": 13}], [1]),
        # It had been stopped before on purpose, or was started and has failed.
        ([{**STOPPED, "finished": 9}, BEFORE, NEVER_STARTED], []),
        ([{**STARTED, "status": "exited", "finished": 13}, BEFORE, NEVER_STARTED], []),
        ([STOPPED, BEFORE, BEFORE], []),
    ],
)
def test_what_a_killed_run_stopped_and_did_not_replace(
    restart: str, seen: list[dict[str, Any]], again: list[int]
) -> None:
    web = service("web", scale=3, restart=restart)
    ones = [instance(web, number, **one) for number, one in enumerate(seen, 1)]
    decision = decide(wanted(web), State({"web": ones}))["web"]
    found = decision.stopped_midway(web)
    assert [one.number for one in found] == again
    job = replace(web, ends=True)
    assert decide(wanted(job), State({"web": ones}))["web"].stopped_midway(job) == ()


@pytest.mark.parametrize(
    ("seen", "unproved"),
    [
        # The second run was killed while it stopped the first release, the third in its soak.
        ([STOPPED, STOPPED, NEVER_STARTED, {"hash_": "newer", "created": 20, "started": 21}], [4]),
        ([STOPPED, STOPPED, NEVER_STARTED, {**STOPPED, "status": "running", "started": 30}], []),
        ([STOPPED, BEFORE, NEVER_STARTED], []),
        ([STOPPED, STOPPED, STARTED, NEVER_STARTED], [3]),
    ],
)
def test_what_runs_in_the_place_of_those_that_a_killed_run_stopped(
    seen: list[dict[str, Any]], unproved: list[int]
) -> None:
    web = service("web", scale=3, restart="always")
    ones = [instance(web, number, **one) for number, one in enumerate(seen, 1)]
    decision = decide(wanted(web), State({"web": ones}))["web"]
    found = decision.replacing(decision.stopped_midway(web))
    assert found == {f"web-{number}" for number in unproved}


def test_a_restart_policy_that_a_killed_run_has_taken_away_is_given_back() -> None:
    web = service("web", deploy={"restart_policy": {"condition": "on-failure", "max_attempts": 3}})
    (step,) = plan(wanted(web), State({"web": [instance(web)]}))
    assert (step.action, step.detail) == (POLICY, {"policies": {"web-1": "on-failure:3"}})
    assert plan(wanted(web), State({"web": [instance(web, restart="on-failure:3")]})) == []
    assert service("web", deploy={"restart_policy": {}}).restart == "always"
    assert service("web").restart == "no"


def test_a_service_without_containers_keeps_its_route() -> None:
    none = service("web", scale=0)
    for strategy in (RECREATE, ROLLING):
        with pytest.raises(Unsuitable, match="service web is scaled to 0"):
            plan(wanted(none, strategy=strategy, routed=frozenset({"web"})), State())
    assert actions(wanted(none), State({"web": [instance(WEB)]})) == [REPLACE, REMOVE]


def test_diff_shows_what_is_new_and_why_and_no_value() -> None:
    web = service("web", environment={"KEY": "secret-value"})
    want = wanted(web)
    state = State({"web": [instance(web, hash_="0123456789abcdef")]})
    assert describe(state) == "web: p-web-1 (running) image new container web-1\n"
    assert expected(want, state) == (
        "web: new, image new, environment KEY (its configuration changed; replaced in turn)\n"
    )
    built = replace(want, images={"web": frozenset()})
    assert "image web as it will be" in expected(built, state)


SICK = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["running", "running", "exited", "created"]),
        "image": st.sampled_from(["sha256:new", "sha256:old"]),
        "hash_": st.sampled_from(["", "old"]),
        "health": st.sampled_from(["", "healthy", "unhealthy"]),
    }
)


@given(
    scale=st.integers(0, 4),
    kinds=st.lists(SICK, max_size=5),
    strategy=st.sampled_from([RECREATE, ROLLING]),
)
def test_every_state_comes_to_what_is_wanted(
    scale: int, kinds: list[dict[str, str]], strategy: str
) -> None:
    web = service("web", scale=scale)
    want = wanted(web, strategy=strategy)
    ones = [instance(web, number, **kind) for number, kind in enumerate(kinds, 1)]  # type: ignore[arg-type]
    world = World(want, {"web": ones})
    kept = {one.id for one in decide(want, world.start)["web"].keep}
    least = min(scale, world.serving("web"))
    for step in plan(want, world.start):
        world.apply(step)
        if strategy == ROLLING:
            # Somebody who serves leaves only after another has come.
            assert world.serving("web") >= least, step.summary
    assert plan(want, world.state) == []
    assert len(world.all.get("web", ())) == scale
    names = [one.name for one in world.all.get("web", ())]
    assert sorted(names) == sorted(f"p-web-{one.number}" for one in world.all.get("web", ()))
    assert kept.isdisjoint(world.touched)
    assert kept <= {one.id for one in world.all.get("web", ())}


@given(
    kinds=st.lists(st.lists(SICK, max_size=2), min_size=3, max_size=3),
    rolled=st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_each_service_is_replaced_in_its_own_way(
    kinds: list[list[dict[str, str]]], rolled: list[bool]
) -> None:
    names = ("db", "api", "web")
    chain = [
        service(name, depends_on={before: {}} if before else {})
        for name, before in zip(names, ("", *names), strict=False)
    ]
    ways = dict(zip(names, rolled, strict=True))
    hows = {name: How(ROLLING if ways[name] else RECREATE) for name in names}
    want = wanted(*chain, strategy=ROLLING, hows=hows)
    there = {
        one.name: [instance(one, number, **kind) for number, kind in enumerate(ones, 1)]  # type: ignore[arg-type]
        for one, ones in zip(chain, kinds, strict=True)
    }
    world = World(want, there)
    most = {name: max(1, world.serving(name)) for name in names}
    least = {name: min(1, world.serving(name)) for name in names}
    for step in plan(want, world.start):
        world.apply(step)
        for name in names:
            if ways[name]:
                assert world.serving(name) >= least[name], (name, step.summary)
            else:
                assert world.serving(name) <= most[name], (name, step.summary)
    assert plan(want, world.state) == []
