# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.deadline import (
    Deadline,
    Pace,
    wait_for,
)
from ansible_collections.immutable.delivery.plugins.module_utils.errors import TimeoutExceeded


class Clock:
    """A clock that only moves when somebody sleeps or works; remembers every sleep."""

    def __init__(self, start: float = 1000.0) -> None:
        self.start = start
        self.now = start
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.now += seconds

    def deadline(self, seconds: float) -> Deadline:
        return Deadline(seconds, clock=self, sleep=self.sleep)

    @property
    def spent(self) -> float:
        return self.now - self.start


def looks(
    clock: Clock, takes: float = 0.0, until: float = float("inf")
) -> tuple[list[float], Callable[[], str | None]]:
    """Return the moments of the looks, and a look of *takes* seconds that succeeds from *until*."""
    moments: list[float] = []

    def look() -> str | None:
        moments.append(clock.spent)
        clock.now += takes
        return "there" if moments[-1] >= until else None

    return moments, look


def test_a_deadline_counts_down_and_never_below_nothing() -> None:
    clock = Clock()
    deadline = clock.deadline(10)
    assert (deadline.remaining, deadline.elapsed, deadline.passed) == (10, 0, False)
    clock.now += 4
    assert (deadline.remaining, deadline.elapsed, deadline.passed) == (6, 4, False)
    clock.now += 60
    assert (deadline.remaining, deadline.elapsed, deadline.passed) == (0, 64, True)


@pytest.mark.parametrize(("wanted", "expected"), [(3, 3), (10, 6), (0, 0)])
def test_a_part_of_a_deadline_never_outlasts_it(wanted: float, expected: float) -> None:
    clock = Clock()
    deadline = clock.deadline(10)
    clock.now += 4
    part = deadline.within(wanted)
    assert part.remaining == expected
    part.sleep(1)
    assert clock.slept == [1]


def test_a_pause_that_fits_is_slept() -> None:
    clock = Clock()
    clock.deadline(10).pause(10, "the server")
    assert clock.slept == [10]


def test_a_pause_that_does_not_fit_fails_at_once() -> None:
    clock = Clock()
    with pytest.raises(
        TimeoutExceeded, match=r"^gave up waiting for the server: 11 s more"
    ) as raised:
        clock.deadline(10).pause(11, "the server")
    assert clock.slept == []
    assert "10 s were left of 10 s" in str(raised.value)


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        (Pace(2), [2, 2, 2, 2, 2]),
        (Pace(2, first=0.25), [0.25, 0.5, 1, 2, 2]),
        (Pace(2, first=0), [0, 0.25, 0.5, 1, 2]),
        (Pace(2, first=5), [2, 2, 2, 2, 2]),
        (Pace(9, first=1, growth=3), [1, 3, 9, 9, 9]),
        (Pace(8, first=4, growth=1), [4, 4, 4, 4, 4]),
    ],
)
def test_waits_grow_up_to_the_interval(pace: Pace, expected: list[float]) -> None:
    assert list(islice(pace.waits(), 5)) == expected


@given(
    interval=st.floats(0.01, 60),
    first=st.none() | st.floats(0, 90),
    growth=st.floats(1.1, 10),
    jitter=st.floats(0, 1),
)
def test_no_wait_is_shorter_than_asked_for_nor_longer_than_its_jitter(
    interval: float, first: float | None, growth: float, jitter: float
) -> None:
    plain = list(islice(Pace(interval, first, growth).waits(), 60))
    spread = list(islice(Pace(interval, first, growth, jitter).waits(), 60))
    assert all(later >= earlier for earlier, later in pairwise(plain))
    assert plain[-1] == pytest.approx(interval)
    for wait, bare in zip(spread, plain, strict=True):
        assert bare <= wait <= bare * (1 + jitter) * (1 + 1e-9)


def test_what_is_seen_ends_the_wait() -> None:
    clock = Clock()
    moments, look = looks(clock, until=3)
    found = wait_for(look, deadline=clock.deadline(60), pace=Pace(2, first=0.25), what="it")
    assert found == "there"
    assert moments == [0.25, 0.75, 1.75, 3.75]


def test_anything_but_none_is_an_answer() -> None:
    clock = Clock()
    assert wait_for(lambda: 0, deadline=clock.deadline(1), pace=Pace(1), what="it") == 0
    assert wait_for(lambda: "", deadline=clock.deadline(1), pace=Pace(1), what="it") == ""


def test_there_is_one_last_look_at_the_deadline() -> None:
    clock = Clock()
    moments, look = looks(clock)
    with pytest.raises(TimeoutExceeded):
        wait_for(look, deadline=clock.deadline(5), pace=Pace(2), what="it")
    assert moments == [2, 4, 5]


def test_no_time_at_all_still_means_one_look() -> None:
    clock = Clock()
    moments, look = looks(clock)
    with pytest.raises(TimeoutExceeded):
        wait_for(look, deadline=clock.deadline(0), pace=Pace(2), what="it")
    assert moments == [0]


def test_a_state_reached_in_time_is_found_by_a_slow_machine() -> None:
    """A look that began before the deadline and outlasted it is followed by one that sees it."""
    clock = Clock()
    moments, look = looks(clock, takes=30, until=4.5)
    assert wait_for(look, deadline=clock.deadline(5), pace=Pace(1), what="it") == "there"
    assert moments == [1, 31]


def test_the_error_says_what_was_awaited_and_what_was_seen_last() -> None:
    clock = Clock()
    _moments, look = looks(clock)
    with pytest.raises(TimeoutExceeded) as raised:
        wait_for(
            look,
            deadline=clock.deadline(5),
            pace=Pace(2),
            what="the export to finish",
            last_seen=lambda: "still processing",
        )
    assert str(raised.value) == (
        "gave up waiting for the export to finish after 5 s; last seen: still processing."
    )


def test_an_error_of_a_look_ends_the_wait() -> None:
    clock = Clock()

    def look() -> None:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        wait_for(look, deadline=clock.deadline(5), pace=Pace(2), what="it")
    assert clock.slept == [2]


@given(
    seconds=st.floats(0, 120),
    interval=st.floats(0.5, 20),
    first=st.none() | st.floats(0, 30),
    takes=st.floats(0, 10),
    jitter=st.floats(0, 0.5),
)
def test_no_wait_sleeps_past_its_deadline_nor_looks_more_often_than_allowed(
    seconds: float, interval: float, first: float | None, takes: float, jitter: float
) -> None:
    clock = Clock()
    moments, look = looks(clock, takes=takes)
    with pytest.raises(TimeoutExceeded):
        wait_for(
            look,
            deadline=clock.deadline(seconds),
            pace=Pace(interval, first, jitter=jitter),
            what="it",
        )
    # Floats: a sum of sleeps may miss the deadline by its last bits.
    slack = 1e-6
    assert moments[-1] >= seconds - slack, "there was no last look at the deadline"
    assert all(moment <= seconds + takes + slack for moment in moments)
    assert len([moment for moment in moments if moment >= seconds - slack]) <= 2
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    # Growth doubles from an eighth of the interval at least; the last wait is cut to the deadline.
    assert all(gap >= interval - slack for gap in gaps[4:-2])
