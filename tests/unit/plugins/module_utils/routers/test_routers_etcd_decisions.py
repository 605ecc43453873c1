# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions in a registry, whoever follows them, and which instances live."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.errors import Interrupted
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import (
    Candidate,
    Overtaken,
    Route,
    RouterError,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.canary import CanaryRouter
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_model import (
    Applied,
    Decision,
    Health,
    Keys,
    Liveness,
    parse,
    parse_applied,
    parse_decision,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_router import (
    KvRouter,
    NotFollowed,
    forget_node,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_store import (
    Entry,
    StoreAway,
)

from .memory_store import KEYS, MemoryStore

BLUE, GREEN, RED = (f"http://10.0.0.{number}:8080" for number in (5, 6, 7))
SERVICE = KEYS.of("services", "demo")


def router(store: MemoryStore, follow_timeout: float = 0.05) -> KvRouter:
    return KvRouter(
        store, KEYS, "http://front", health=Health("/health"), follow_timeout=follow_timeout
    )


def standing(store: MemoryStore) -> tuple[str, ...]:
    return parse(KEYS, store.entries).decision("demo").urls


def note(undo: object, state: str = "") -> None:
    """Take no note."""


def test_there_and_back() -> None:
    store = MemoryStore("one", "two")
    it = router(store)
    assert it.observe("demo") == Route("demo")
    it.switch("demo", [BLUE])
    assert it.observe("demo").urls == (BLUE,)
    it.switch("demo", [GREEN, RED])
    it.switch("demo", [BLUE])
    assert it.observe("demo").urls == (BLUE,)
    it.remove("demo")
    assert it.observe("demo").urls == ()
    assert it.entrance("demo") == "http://front"
    with pytest.raises(RouterError, match="at least one address"):
        it.switch("demo", [])


@pytest.mark.parametrize("name", ["", "a/b", "a b", "ä"])
def test_a_name_that_no_key_can_have(name: str) -> None:
    store = MemoryStore("one")
    for call in (
        lambda: router(store).observe(name),
        lambda: router(store).switch(name, [BLUE]),
        lambda: router(store).prepare(name, [BLUE], note),
    ):
        with pytest.raises(RouterError, match="cannot be the name of a service"):
            call()


def test_only_who_has_seen_what_stands_may_change_it() -> None:
    store = MemoryStore("one")
    slow = router(store)
    slow.observe("demo")
    router(store).switch("demo", [BLUE])
    with pytest.raises(Overtaken, match=f"somebody else was first: demo goes to {BLUE}"):
        slow.switch("demo", [GREEN])
    assert standing(store) == (BLUE,)


def test_a_switch_whose_answer_was_lost_is_known_again() -> None:
    store = MemoryStore("one")
    store.lost = lambda key: "repeated"
    router(store).switch("demo", [BLUE])
    assert standing(store) == (BLUE,)


@pytest.mark.parametrize(
    ("when", "state"), [("before", "registered nowhere"), ("after", "as it was before")]
)
def test_a_switch_that_nobody_confirmed_is_taken_back(when: str, state: str) -> None:
    store = MemoryStore("one")
    lost = iter([when])
    store.lost = lambda key: next(lost, "")
    with pytest.raises(StoreAway, match=state):
        router(store).switch("demo", [BLUE])
    assert standing(store) == ()


def test_a_router_that_refuses_has_all_of_them_keep_what_stood() -> None:
    store = MemoryStore("one", "two")
    router(store).switch("demo", [BLUE])
    store.errors["two"] = "no room"
    with pytest.raises(NotFollowed) as caught:
        router(store).switch("demo", [GREEN])
    text = str(caught.value)
    assert "the router of two does not follow: no room" in text
    assert f"The registration is as it was before: demo goes to {BLUE}" in text
    assert standing(store) == (BLUE,)
    with pytest.raises(NotFollowed, match="the router of two does not prepare: no room"):
        router(store).prepare("demo", [GREEN], note)


def test_a_registrar_that_says_nothing() -> None:
    store = MemoryStore("one", "two")
    router(store).switch("demo", [BLUE])
    store.silent.add("two")
    with pytest.raises(NotFollowed, match=r"the registrar of two did not follow within 0\.05 s"):
        router(store).switch("demo", [GREEN])
    assert standing(store) == (BLUE,)
    # It has not said that it is back, so where the traffic goes is what it said last.
    assert router(store).observe("demo").urls == (BLUE,)
    running = KEYS.of("running", "two")
    store.delete(running, store.entries[running].revision)
    with pytest.raises(NotFollowed, match="the registrar of two does not run"):
        router(store).observe("demo")
    with pytest.raises(NotFollowed, match="the registrar of two does not run"):
        router(store).switch("demo", [GREEN])
    forget_node(store, KEYS, "two")
    router(store).switch("demo", [GREEN])
    assert router(store).observe("demo").urls == (GREEN,)
    assert not [key for key in store.entries if key.endswith("/two")]


def test_an_interruption_takes_the_decision_back() -> None:
    store = MemoryStore("one")
    router(store).switch("demo", [BLUE])

    def interrupted(key: str) -> str:
        store.silent.add("one")
        return ""

    store.lost = interrupted
    it = router(store, follow_timeout=30)
    read, reads = store.read, iter(range(100))

    def then_a_signal(prefix: str) -> dict[str, Entry]:
        if next(reads) == 2:
            raise KeyboardInterrupt
        return read(prefix)

    store.read = then_a_signal  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        it.switch("demo", [GREEN])
    assert standing(store) == (BLUE,)


def test_a_candidate_is_prepared_and_given_up() -> None:
    store = MemoryStore("one")
    undos = []
    it = router(store)
    it.prepare("demo", [GREEN], lambda undo, state="": undos.append(undo))
    assert parse(KEYS, store.entries).candidates["demo"].urls == (GREEN,)
    (undo,) = undos
    # Not that of somebody else.
    other = router(store)
    other.prepare("demo", [RED], note)
    undo()
    assert parse(KEYS, store.entries).candidates["demo"].urls == (RED,)
    # A switch leaves none behind.
    other.switch("demo", [RED])
    assert parse(KEYS, store.entries).candidates == {}


def test_requests_of_all_routers_count() -> None:
    store = MemoryStore("one", "two")
    assert router(store).in_flight("demo") == 0
    store.in_flight = {"one": 2, "two": 3}
    router(store).switch("demo", [BLUE])
    assert router(store).in_flight("demo") == 5
    store.in_flight = {"one": 2, "two": None}
    router(store).switch("demo", [GREEN])
    assert router(store).in_flight("demo") is None
    # What was counted before the switch says nothing.
    store.swap(SERVICE, Decision((RED,)).text(), store.entries[SERVICE].revision)
    store.put(KEYS.of("applied", "demo", "one"), Applied(1, (BLUE,), (BLUE,), 0).text())
    with pytest.raises(NotFollowed, match="one has not counted"):
        router(store).in_flight("demo")


def test_nobody_has_ever_reported() -> None:
    store = MemoryStore()
    with pytest.raises(RouterError, match="no registrar has ever reported"):
        router(store).switch("demo", [BLUE])
    assert store.entries == {}


@pytest.mark.parametrize(
    "value",
    [
        *("", "[]", "5", '{"urls": "x"}', '{"urls": [5]}', "[" * 99999),
        '{"urls": [], "tried": 5}',
        '{"urls": [], "tried": {"urls": []}}',
        '{"urls": [], "tried": {"urls": [], "weight": 100}}',
    ],
)
def test_a_registration_that_cannot_be_read_is_left_alone(value: str) -> None:
    store = MemoryStore("one")
    store.put(SERVICE, value)
    with pytest.raises(RouterError, match="the registration of demo cannot be read"):
        router(store).observe("demo")
    with pytest.raises(RouterError, match="the registration of demo cannot be read"):
        router(store).switch("demo", [BLUE])
    assert store.entries[SERVICE].value == value
    # What others wrote of another kind is passed over.
    store.put(KEYS.of("applied", "other", "one"), value)
    store.entries[KEYS.of("candidates", "other")] = Entry(value, 9)
    store.put(KEYS.of("unknown", "other"), value)
    router(store).switch("other", [BLUE])


def test_who_is_tried_comes_and_goes_with_the_decision() -> None:
    store = MemoryStore("one", "two")
    it = router(store)
    assert isinstance(it, CanaryRouter)
    with pytest.raises(RouterError, match="has no live version that a candidate could"):
        it.stage("demo", [GREEN])
    it.switch("demo", [BLUE])
    assert it.observe("demo").candidate is None
    for urls, weight, words in (
        ([BLUE], 5, "is live, and so cannot be the candidate"),
        ([GREEN], 100, "must be 0 to 99 percent"),
        ([], 5, "needs at least one address"),
    ):
        with pytest.raises(RouterError, match=words):
            it.stage("demo", urls, weight)
    it.stage("demo", [GREEN], 5)
    assert it.observe("demo").urls == (BLUE,)
    assert it.observe("demo").candidate == Candidate((GREEN,), 5)
    # Whoever has seen what stood before may not switch behind the trial's back.
    late = router(store)
    late.observe("demo")
    it.stage("demo", [GREEN], 50)
    with pytest.raises(Overtaken):
        late.switch("demo", [RED])
    # One router refuses: all of them go on with the trial that was.
    store.errors["two"] = "it is down"
    with pytest.raises(NotFollowed, match="two does not follow: it is down"):
        it.stage("demo", [RED], 1)
    store.errors.clear()
    assert parse(KEYS, store.entries).decision("demo").tried == Candidate((GREEN,), 50)
    # A registrar that knows of no trials says that it follows, and does not try anybody.
    key = KEYS.of("applied", "demo", "two")
    said = parse_applied(store.entries[key].value)
    store.put(key, replace(said, tried=None).text())
    assert router(store).observe("demo").candidate is None
    router(store).unstage("demo")
    again = router(store)
    again.unstage("demo")
    assert (again.observe("demo").candidate, again.observe("demo").urls) == (None, (BLUE,))
    again.stage("demo", [GREEN])
    again.switch("demo", [GREEN])
    assert (again.observe("demo").candidate, again.observe("demo").urls) == (None, (GREEN,))


# What is stored is what is read.

names = st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True)
urls = st.lists(st.sampled_from([BLUE, GREEN, RED]), unique=True).map(tuple)


candidates = st.none() | st.builds(Candidate, urls, st.integers(0, 99))


@given(urls, st.text(max_size=9), st.text(max_size=9), st.integers(1, 2**62), candidates)
def test_decisions_are_read_as_written(
    some: tuple[str, ...], path: str, host: str, revision: int, tried: Candidate | None
) -> None:
    decision = Decision(some, Health(path, host), "token", revision, tried)
    assert parse_decision(Entry(decision.text(), revision)) == decision


@given(
    st.builds(
        Applied,
        st.integers(0, 2**62),
        urls,
        urls,
        st.none() | st.integers(0, 9),
        st.text(max_size=20),
        candidates,
    )
)
def test_what_nodes_say_is_read_as_written(said: Applied) -> None:
    assert parse_applied(said.text()) == said


@given(names, st.sampled_from([BLUE, "http://[::1]:8080/a/b", "http://x/%2F"]), names)
def test_keys_have_the_parts_that_they_are_made_of(service: str, url: str, node: str) -> None:
    keys = Keys("/a/b")
    key = keys.of("instances", service, url, node)
    assert key.startswith("/a/b/instances/")
    assert keys.parts(key) == ("instances", service, url, node)


# Liveness.


def test_an_instance_gets_no_traffic_once_its_registration_has_gone() -> None:
    it = Liveness()
    # A deploy found them healthy, and nobody has come round to registering them.
    assert it.targets((BLUE, GREEN), set()) == (BLUE, GREEN)
    assert it.targets((BLUE, GREEN), {BLUE}) == (BLUE, GREEN)
    assert it.targets((BLUE, GREEN), {BLUE, GREEN}) == (BLUE, GREEN)
    assert it.targets((BLUE, GREEN), {BLUE}) == (BLUE,)
    # All gone: what was is kept.
    assert it.targets((BLUE, GREEN), set()) == (BLUE,)
    assert it.targets((BLUE, GREEN), {GREEN}) == (GREEN,)
    assert it.targets((RED,), set()) == (RED,)
    # Known from before a restart.
    assert Liveness([GREEN]).targets((BLUE, GREEN), {BLUE}) == (BLUE,)


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from([BLUE, GREEN, RED]), unique=True, min_size=1),
            st.sets(st.sampled_from([BLUE, GREEN, RED])),
        ),
        min_size=1,
    )
)
def test_there_is_always_a_target_and_only_of_those_decided(
    steps: list[tuple[list[str], set[str]]],
) -> None:
    it = Liveness()
    for decided, alive in steps:
        targets = it.targets(tuple(decided), alive)
        assert targets
        assert set(targets) <= set(decided)
        # Whoever is known to live is never left out.
        assert set(decided) & alive <= set(targets)
