# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as tables and properties, and the gates."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.traffic.report import (
    ACKNOWLEDGED,
    FAILED,
    REFUSED,
    UNKNOWN,
    Latencies,
    Result,
    Tally,
    verdict,
)

FAILURES = ("", "connect", "timeout", "reset")


def tally_of(*results: Result, extra: int = 0) -> Tally:
    """A tally of *results*, and of *extra* requests that are under way."""
    tally = Tally(1_000_000_000.0)
    for result in results:
        tally.offer(0.001)
        tally.add(result)
    for _turn in range(extra):
        tally.offer(0.0)
    return tally


def good(due: float, done: float | None = None, **more: Any) -> Result:
    return Result(due, due + 0.01 if done is None else done, "GET", "/health", **more)


def bad(due: float, done: float | None = None, kind: str = "connect") -> Result:
    return Result(due, due + 0.01 if done is None else done, "GET", "/health", failure=kind)


def write(due: float, outcome: str, done: float | None = None) -> Result:
    failure = "reset" if outcome in (FAILED, UNKNOWN) else ""
    done = due + 0.01 if done is None else done
    return Result(due, done, "POST", "/users", failure=failure, write=outcome)


@pytest.mark.parametrize(
    ("results", "extra", "now", "gap"),
    [
        ([], 0, 0.0, 0.0),
        ([good(0), good(1), good(2)], 0, 2.01, 1.0),
        ([good(0), bad(1), bad(2), good(3)], 0, 3.01, 3.0),
        # Nothing was answered from the first request on.
        ([bad(0), bad(1), good(2)], 0, 2.01, 2.01),
        ([bad(0), bad(1)], 0, 5.0, 1.01),
        # It ended in the middle of a gap.
        ([good(0), bad(1), bad(4)], 0, 9.0, 4.0),
        # Nobody was asked after the last good answer.
        ([good(0), good(1)], 0, 9.0, 1.0),
        # Somebody was, and waits.
        ([good(0), good(1)], 1, 9.01, 8.0),
    ],
)
def test_longest_gap(results: list[Result], extra: int, now: float, gap: float) -> None:
    report = tally_of(*results, extra=extra).report(now)
    assert report["longest_gap_seconds"] == pytest.approx(gap)


def test_when_the_longest_gap_was() -> None:
    report = tally_of(good(0), good(1), good(4), good(5)).report(6)
    assert report["longest_gap_at"] == "2001-09-09T01:46:41.010+00:00"


def test_a_refused_write_is_answered_and_no_failure() -> None:
    report = tally_of(write(0, ACKNOWLEDGED), write(1, REFUSED), write(2, UNKNOWN)).report(3)
    assert (report["sent"], report["answered"], report["failed"]) == (3, 2, 1)
    assert report["refused"] == 1
    assert report["failures"] == {"reset": 1}
    assert report["writes"] == {"acknowledged": 1, "refused": 1, "failed": 0, "unknown": 1}


@pytest.mark.parametrize(
    ("results", "windows"),
    [
        ([write(0, ACKNOWLEDGED)], []),
        ([write(0, REFUSED), write(1, REFUSED), write(3, ACKNOWLEDGED)], [(3.0, 2, True)]),
        # One that was under way when the lock fell does not end the window.
        (
            [write(1, REFUSED), write(0.9, ACKNOWLEDGED, 1.5), write(3, ACKNOWLEDGED)],
            [(2.0, 1, True)],
        ),
        # Nor does one that failed.
        ([write(1, REFUSED), write(2, FAILED), write(4, ACKNOWLEDGED)], [(3.0, 1, True)]),
        (
            [
                write(0, REFUSED),
                write(1, ACKNOWLEDGED),
                write(2, REFUSED),
                write(2.5, REFUSED),
                write(5, ACKNOWLEDGED),
            ],
            [(1.0, 1, True), (3.0, 2, True)],
        ),
        ([write(0, ACKNOWLEDGED), write(9, REFUSED)], [(0.99, 1, False)]),
    ],
)
def test_read_only_windows(results: list[Result], windows: list[tuple[float, int, bool]]) -> None:
    report = tally_of(*results).report(10.0)
    seen = [
        (window["seconds"], window["refused"], window["ended"])
        for window in report["read_only_windows"]
    ]
    assert seen == [(pytest.approx(seconds), *rest) for seconds, *rest in windows]
    longest = max((seconds for seconds, *_rest in windows), default=0)
    assert report["read_only_seconds"] == pytest.approx(longest)


def test_the_longest_time_without_an_acknowledged_write() -> None:
    acknowledged = [write(0, ACKNOWLEDGED), write(1, ACKNOWLEDGED)]
    assert tally_of(*acknowledged).report(2)["longest_write_gap_seconds"] == 1.0
    refused = [*acknowledged, write(4, REFUSED)]
    assert tally_of(*refused).report(9)["longest_write_gap_seconds"] == 3.0
    assert tally_of(good(0), good(9)).report(10)["longest_write_gap_seconds"] == 0.0


def test_versions_in_the_order_in_which_they_came() -> None:
    report = tally_of(
        good(0, version="v23"),
        good(1, version="v9"),
        good(2, version="v23"),
        bad(3),
        good(4),
    ).report(5)
    assert report["versions"] == [
        {
            "version": "v23",
            "first": "2001-09-09T01:46:40.010+00:00",
            "last": "2001-09-09T01:46:42.010+00:00",
            "answers": 2,
        },
        {
            "version": "v9",
            "first": "2001-09-09T01:46:41.010+00:00",
            "last": "2001-09-09T01:46:41.010+00:00",
            "answers": 1,
        },
    ]


def test_the_first_failures_are_shown() -> None:
    report = tally_of(*(bad(number, kind="timeout") for number in range(30))).report(31)
    samples = report["samples_of_failures"]
    assert len(samples) == 10
    assert samples[0] == {
        "time": "2001-09-09T01:46:40.010+00:00",
        "method": "GET",
        "path": "/health",
        "kind": "timeout",
    }


def test_rate_is_counted_over_the_time_in_which_load_was_offered() -> None:
    report = tally_of(good(0), good(1), good(2), good(3)).report(10.0, offered=4.0)
    assert report["seconds"] == 4.0
    assert report["rate_offered"] == 1.0


RESULTS = st.lists(
    st.builds(
        lambda due, took, failure, outcome, version: Result(
            due,
            due + took,
            "POST" if outcome else "GET",
            "/x",
            failure if outcome not in (ACKNOWLEDGED, REFUSED) else "",
            outcome,
            version,
        ),
        st.floats(0, 50),
        st.floats(0, 20),
        st.sampled_from(FAILURES),
        st.sampled_from(("", ACKNOWLEDGED, REFUSED, FAILED, UNKNOWN)),
        st.sampled_from(("", "v1", "v2")),
    ),
    max_size=40,
).map(lambda results: sorted(results, key=lambda result: result.done))


@given(RESULTS, st.integers(0, 3))
def test_the_counts_add_up(results: list[Result], extra: int) -> None:
    report = tally_of(*results, extra=extra).report(100.0)
    assert report["sent"] == report["answered"] + report["failed"] + report["in_flight"]
    assert report["in_flight"] == extra
    assert report["failed"] == sum(report["failures"].values())
    assert report["writes"]["refused"] == report["refused"]
    assert sum(report["writes"].values()) == sum(1 for result in results if result.write)
    assert 0 <= report["p50_ms"] <= report["p99_ms"] <= report["max_ms"]
    assert 0 <= report["longest_gap_seconds"] <= 100
    assert sum(window["refused"] for window in report["read_only_windows"]) == report["refused"]


@given(RESULTS)
def test_the_longest_gap_is_the_one_found_by_looking_at_all(results: list[Result]) -> None:
    moments = [0.0, *(result.done for result in results if not result.failure)]
    if results:
        moments.append(results[-1].done)
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    report = tally_of(*results).report(100.0)
    assert report["longest_gap_seconds"] == pytest.approx(max(gaps, default=0.0), abs=0.001)


@given(st.lists(st.floats(0.0001, 100), min_size=1, max_size=60), st.integers(1, 100))
def test_percentiles_are_at_most_one_in_a_hundred_too_high(
    seconds: list[float], percent: int
) -> None:
    latencies = Latencies()
    for value in seconds:
        latencies.add(value)
    exact = sorted(seconds)[-(-len(seconds) * percent // 100) - 1]
    assert exact * 0.9999 <= latencies.percentile(percent) <= exact * 1.0101
    assert latencies.highest == max(seconds)


def complete(**changes: Any) -> dict[str, Any]:
    report: dict[str, Any] = {
        "ended": "stopped",
        "ended_because": "it was stopped",
        "sent": 10,
        "failed": 0,
        "failures": {},
    }
    report["writes"] = {"acknowledged": 5, "lost": 0, "unchecked": 0, **changes.pop("writes", {})}
    return {**report, **changes}


@pytest.mark.parametrize(
    ("report", "max_failed", "max_lost", "words"),
    [
        (complete(), 0, 0, None),
        (complete(ended="running"), 0, 0, None),
        (complete(failed=3), None, None, None),
        (complete(ended="killed"), None, None, None),
        (complete(failed=3, failures={"reset": 3}), 3, None, None),
        (complete(failed=3, failures={"reset": 3}), 2, None, "3 of 10 requests failed (3 reset)"),
        (complete(failed=3), None, 0, None),
        (complete(writes={"lost": 1}), 0, 0, "1 of 5 acknowledged writes are lost; at most 0 may"),
        (complete(writes={"lost": 1}), 0, 1, None),
        (complete(writes={"lost": 1}), 0, None, None),
        (complete(writes={"unchecked": 2}), 0, 1, "2 could not be read back"),
        (complete(ended="killed", ended_because="gone"), 0, None, "incomplete: gone"),
        (complete(ended="expired", ended_because="over"), None, 9, "incomplete: over"),
        (complete(sent=0), 0, None, "not sent a request"),
    ],
)
def test_gates(
    report: dict[str, Any], max_failed: int | None, max_lost: int | None, words: str | None
) -> None:
    objection = verdict(report, max_failed, max_lost)
    if words is None:
        assert objection is None
    else:
        assert objection is not None
        assert words in objection
