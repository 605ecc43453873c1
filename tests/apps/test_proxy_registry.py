# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The count of requests on each target, for every order of claims, releases and switches."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from tests.support.proxy import PROXY

sys.path.insert(0, str(PROXY.parent))

from proxy_service.registry import Service, Target

URLS = [f"http://127.0.0.1:{port}" for port in (1, 2, 3)]


@given(
    st.lists(
        st.one_of(
            st.just(("claim", 0)),
            st.tuples(st.just("release"), st.integers(0, 20)),
            st.tuples(st.just("switch"), st.integers(0, 3)),
        ),
        max_size=60,
    )
)
def test_what_drains_is_what_was_claimed_before_the_switch(steps: list[tuple[str, int]]) -> None:
    service = Service("demo")
    claims: list[Target] = []
    for step, number in steps:
        if step == "claim":
            target = service.claim()
            assert target is service.current
            if target is not None:
                claims.append(target)
        elif step == "release" and claims:
            service.release(claims.pop(number % len(claims)))
        elif step == "switch" and number < len(URLS):
            known = [t for t in [*service.draining, service.current] if t is not None]
            url = URLS[number]
            service.switch(next((t for t in known if t.url == url), None) or Target(url))
        elif step == "switch":
            service.switch(None)
        old = [target for target in claims if target is not service.current]
        assert service.in_flight == len(old)
        assert {id(t) for t in service.draining} == {id(t) for t in old}
        if service.current is not None:
            assert service.current.in_flight == len(claims) - len(old)
            assert not service.current.retired
        assert all(target.retired for target in service.draining)
