# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A front before a real server that spoils its answers as a test case asks, and takes notes.

One play can try many faults in a row: each case has an address of its own, ``URL/CASE``, and when
the next case begins (or the front ends) the front notes what then stood behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from ssl import SSLContext
from typing import Any

import requests

from tests.unit.plugins.module_utils.loopback import Answer, Seen, serving

# What a client asked for, without the case; and a way to ask the real server for it.
Forward = Callable[[], Answer]
Spoil = Callable[[Seen, Forward], "Answer | None"]

# These belong to one connection, or are made anew.
HOP = ("connection", "content-length", "keep-alive", "server", "date", "transfer-encoding")


def passing(seen: Seen, forward: Forward) -> Answer:
    """Spoil nothing."""
    return forward()


def on(method: str, ending: str, spoiled: Answer | Spoil | None, times: int = 10**6) -> Spoil:
    """Spoil the first *times* requests of that method whose path ends so; pass on all others."""
    left = times

    def spoil(seen: Seen, forward: Forward) -> Answer | None:
        nonlocal left
        if seen.method != method or not seen.path.endswith(ending) or not left:
            return forward()
        left -= 1
        return spoiled(seen, forward) if callable(spoiled) else spoiled

    return spoil


def after(spoiled: Callable[[Answer], Answer | None]) -> Spoil:
    """Let the real server answer, and spoil what it said."""
    return lambda seen, forward: spoiled(forward())


class Front:
    """Where the cases are reached, and what was noted of each."""

    def __init__(
        self, upstream: str, cases: Mapping[str, Spoil], look: Callable[[str], Any] | None
    ) -> None:
        self.url = ""
        self.upstream = upstream
        self.cases = cases
        self.calls: dict[str, list[str]] = {}
        self.stood: dict[str, Any] = {}
        self._look = look
        self._current = ""

    def of(self, case: str) -> str:
        """Return the address of a case; one without a fault need not be declared."""
        return f"{self.url}/{case}"

    def begin(self, case: str) -> None:
        """Note what stands after the case before."""
        if case == self._current:
            return
        if self._current and self._look is not None:
            self.stood[self._current] = self._look(self._current)
        self._current = case

    def handle(self, seen: Seen) -> Answer | None:
        """Answer one request."""
        _empty, case, path = seen.path.split("/", 2)
        self.begin(case)
        bare = replace(seen, path=f"/{path}")
        self.calls.setdefault(case, []).append(f"{bare.method} {bare.path}")
        return self.cases.get(case, passing)(bare, lambda: self._forward(bare))

    def _forward(self, seen: Seen) -> Answer:
        response = requests.request(
            seen.method,
            self.upstream + seen.path,
            headers=dict(seen.headers),
            data=seen.body,
            allow_redirects=False,
            timeout=60,
        )
        kept = {name: text for name, text in response.headers.items() if name.lower() not in HOP}
        return Answer(response.status_code, kept, response.content)


@contextmanager
def front_of(
    upstream: str,
    cases: Mapping[str, Spoil] | None = None,
    *,
    look: Callable[[str], Any] | None = None,
    context: SSLContext | None = None,
) -> Iterator[Front]:
    """Run a front before *upstream*.

    :param look: called with its name after each case; what it returns is noted in ``stood``.
    :param context: the front speaks TLS with it.
    """
    front = Front(upstream, cases or {}, look)
    with serving(front.handle, context=context) as server:
        front.url = server.url
        try:
            yield front
        finally:
            front.begin("")
