# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a switch, as a table and as properties."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import (
    Route,
    normal,
    same_address,
    same_targets,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.plan import Wanted, plan

BLUE = "http://10.0.0.5:3001"
GREEN = "http://10.0.0.6:3001"


def route(url: str | None) -> Route:
    return Route("demo", () if url is None else (url,))


@pytest.mark.parametrize(
    ("before", "wanted", "actions"),
    [
        (None, Wanted("demo", (BLUE,)), ["switch"]),
        (BLUE, Wanted("demo", (GREEN,)), ["switch"]),
        (BLUE, Wanted("demo", (GREEN,), prove=True), ["switch", "prove"]),
        (BLUE, Wanted("demo", (BLUE,)), []),
        (BLUE, Wanted("demo", (BLUE + "/",), prove=True), []),
        (BLUE, Wanted("demo", ()), ["remove"]),
        (BLUE, Wanted("demo", (), prove=True), ["remove"]),
        (None, Wanted("demo", ()), []),
    ],
)
def test_plan(before: str | None, wanted: Wanted, actions: list[str]) -> None:
    steps = plan(route(before), wanted)
    assert [step.action for step in steps] == actions


def test_the_plan_says_what_goes_where() -> None:
    (step,) = plan(Route("demo", (BLUE,)), Wanted("demo", (GREEN,)))
    assert step.summary == f"send demo to {GREEN} instead of {BLUE}"


def test_several_targets_are_compared_whatever_their_order() -> None:
    before = Route("demo", (BLUE, GREEN))
    assert plan(before, Wanted("demo", (GREEN + "/", BLUE))) == []
    (step,) = plan(before, Wanted("demo", (GREEN,)))
    assert step.summary == f"send demo to {GREEN} instead of {BLUE} and {GREEN}"
    (step,) = plan(route(BLUE), Wanted("demo", (BLUE, GREEN)))
    assert step.action == "switch"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (None, None, True),
        (None, BLUE, False),
        (BLUE, None, False),
        (BLUE, GREEN, False),
        ("http://HOST/", "http://host", True),
        ("HTTP://host:80", "http://host", True),
        ("https://host:443/a/", "https://host/a", True),
        ("http://host:443", "http://host", False),
        ("http://host/a", "http://host/A", False),
        ("https://host", "http://host", False),
        ("http://[::1]:8080/", "http://[0::1]:8080", False),
        ("http://[::1]:80/", "http://[::1]", True),
        ("http://host:port", "http://host", False),
        ("", "", True),
    ],
)
def test_addresses(one: str | None, other: str | None, same: bool) -> None:
    assert same_address(one, other) is same


addresses = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "https", "HTTP"]),
    st.sampled_from(["a", "B.example", "[::1]", "127.0.0.1"]),
    st.sampled_from(["", ":80", ":443", ":8080", ":x"]),
    st.sampled_from(["", "/", "/a", "/a/", "/a//"]),
)


@given(st.one_of(st.text(), addresses))
def test_a_normal_address_stays_as_it_is(url: str) -> None:
    assert normal(normal(url)) == normal(url)


some_addresses = st.lists(addresses, max_size=3, unique_by=normal)


@given(some_addresses, some_addresses, st.randoms(use_true_random=False), st.booleans())
def test_once_the_plan_for_several_is_carried_out_the_next_is_empty(
    before: list[str], after: list[str], random: Random, prove: bool
) -> None:
    wanted = Wanted("demo", tuple(after), prove=prove)
    steps = plan(Route("demo", tuple(before)), wanted)
    shuffled = random.sample(after, len(after))
    assert plan(Route("demo", tuple(shuffled)), wanted) == []
    routing = [step.action for step in steps if step.action in ("switch", "remove")]
    assert len(routing) == (0 if same_targets(before, after) else 1)


@given(st.one_of(st.none(), addresses), st.one_of(st.none(), addresses), st.booleans())
def test_once_the_plan_is_carried_out_the_next_is_empty(
    before: str | None, after: str | None, prove: bool
) -> None:
    wanted = Wanted("demo", route(after).urls, prove=prove)
    steps = plan(route(before), wanted)
    assert plan(route(after), wanted) == []
    # Never two ways at once, and nothing at all where nothing differs.
    routing = [step.action for step in steps if step.action in ("switch", "remove")]
    assert len(routing) == (0 if same_address(before, after) else 1)
