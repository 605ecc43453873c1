# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The choice of a target and its count of requests, for every order of what can happen."""

from __future__ import annotations

import sys
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.support.proxy import PROXY

sys.path.insert(0, str(PROXY.parent))

from proxy_service.registry import Service
from proxy_service.target import Target

URLS = [f"http://127.0.0.1:{port}" for port in (1, 2, 3, 4)]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("claim"), st.lists(st.integers(0, 3), max_size=4)),
            st.tuples(st.just("release"), st.lists(st.integers(0, 20), min_size=1, max_size=1)),
            st.tuples(st.just("switch"), st.lists(st.integers(0, 3), max_size=4, unique=True)),
        ),
        max_size=60,
    )
)
def test_what_drains_is_what_was_claimed_before_the_switch(
    steps: list[tuple[str, list[int]]],
) -> None:
    service = Service("demo")
    claims: list[Target] = []
    for step, numbers in steps:
        if step == "claim":
            avoid = [t for t in service.targets if t.url in {URLS[n] for n in numbers}]
            fewest = min((t.in_flight for t in service.targets if t not in avoid), default=None)
            target = service.claim(avoid)
            if target is None:
                assert fewest is None
            else:
                assert target in service.targets and target not in avoid
                assert target.in_flight - 1 == fewest
                claims.append(target)
        elif step == "release" and claims:
            service.release(claims.pop(numbers[0] % len(claims)))
        elif step == "switch":
            known = {t.url: t for t in (*service.draining, *service.targets)}
            before, wanted = service.targets, [URLS[number] for number in numbers]
            left = service.switch([known.get(url) or Target(url) for url in wanted])
            assert service.urls == wanted
            assert left == [target for target in before if target.url not in wanted]
        old = [target for target in claims if target not in service.targets]
        assert service.in_flight == len(old)
        assert {id(t) for t in service.draining} == {id(t) for t in old}
        assert service.current_in_flight == len(claims) - len(old)
        assert not any(target.retired for target in service.targets)
        assert all(target.retired for target in service.draining)


@given(st.integers(1, 8), st.integers(1, 5))
def test_idle_targets_take_turns(count: int, rounds: int) -> None:
    service = Service("demo")
    service.switch([Target(f"http://127.0.0.1:{port}") for port in range(1, count + 1)])
    seen: Counter[str] = Counter()
    for _time in range(count * rounds):
        target = service.claim()
        assert target is not None
        seen[target.url] += 1
        service.release(target)
    assert set(seen.values()) == {rounds} and len(seen) == count


def test_a_target_that_refused_a_connection_comes_last_for_a_while() -> None:
    service = Service("demo")
    bad, good = Target(URLS[0]), Target(URLS[1])
    service.switch([bad, good])
    bad.rest()
    assert [service.claim() for _time in range(4)] == [good] * 4
    assert service.claim(avoid=[good]) is bad
    bad.rests_until = 0.0
    assert service.claim() is bad
