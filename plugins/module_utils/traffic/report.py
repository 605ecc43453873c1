# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was lost, and when: counts kept while the probe runs, and the report made of them.

Pure: times come in as seconds since the first request was due, and nothing here asks a clock.
Memory does not grow with the number of requests.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

SAMPLES = 10
WINDOWS = 50
VERSIONS = 100

ACKNOWLEDGED = "acknowledged"
REFUSED = "refused"
FAILED = "failed"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Result:
    """What became of one request.

    :param due: when it was to be sent. Latency counts from here, so that a request which had to
        wait for the prober or for a connection does not look quicker than it was.
    :param done: when that was known.
    :param failure: the kind of failure; empty where it was answered as it should be.
    :param write: ``acknowledged``, ``refused``, ``failed`` or ``unknown``; empty for no write.
    :param version: what the version header said.
    """

    due: float
    done: float
    method: str
    path: str
    failure: str = ""
    write: str = ""
    version: str = ""


class Latencies:
    """Percentiles from buckets that are 1 % wide: constant memory, and at most 1 % too high."""

    _GROWTH = math.log(1.01)
    _FLOOR = 1e-5

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._count = 0
        self.highest = 0.0

    def add(self, seconds: float) -> None:
        """Count one latency."""
        seconds = max(seconds, self._FLOOR)
        self._buckets[math.ceil(math.log(seconds / self._FLOOR) / self._GROWTH)] += 1
        self._count += 1
        self.highest = max(self.highest, seconds)

    def percentile(self, percent: float) -> float:
        """Return the seconds within which *percent* of all lie (nearest rank); 0 without any."""
        rank = math.ceil(self._count * percent / 100)
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= rank:
                return min(self.highest, self._FLOOR * math.exp(bucket * self._GROWTH))
        return 0.0


@dataclass
class _Window:
    """A time in which writes were refused; open until one is acknowledged again."""

    begin: float
    end: float | None = None
    refused: int = 1


@dataclass
class _Version:
    first: float
    last: float
    answers: int = 1


def iso(epoch: float) -> str:
    """Return seconds since the epoch as ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds")


@dataclass
class Tally:
    """The counts of one run. :meth:`add` takes the results in the order in which they came in.

    :param epoch: the wall clock's time at which the first request was due.
    """

    epoch: float
    sent: int = 0
    answered: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)
    lag: float = 0.0
    _latencies: Latencies = field(default_factory=Latencies)
    _last_good: float = 0.0
    _last_seen: float = 0.0
    _last_acknowledged: float = 0.0
    _last_write_seen: float = 0.0
    _gap: float = 0.0
    _gap_at: float = 0.0
    _write_gap: float = 0.0
    _windows: list[_Window] = field(default_factory=list)
    _versions: dict[str, _Version] = field(default_factory=dict)
    _samples: list[Result] = field(default_factory=list)

    @property
    def in_flight(self) -> int:
        """Requests whose result is still out."""
        return self.sent - self.answered - sum(self.failures.values())

    def offer(self, lag: float) -> None:
        """Count a request that is sent now, *lag* seconds after it was due."""
        self.sent += 1
        self.lag = max(self.lag, lag)

    def add(self, result: Result) -> None:
        """Count a result."""
        if result.version:
            self._add_version(result)
        self._last_seen = max(self._last_seen, result.done)
        if result.failure:
            self.failures[result.failure] += 1
            if len(self._samples) < SAMPLES:
                self._samples.append(result)
        else:
            self.answered += 1
            self._latencies.add(result.done - result.due)
            if result.done - self._last_good > self._gap:
                self._gap, self._gap_at = result.done - self._last_good, self._last_good
            self._last_good = max(self._last_good, result.done)
        if result.write:
            self._add_write(result)

    def _add_version(self, result: Result) -> None:
        known = self._versions.get(result.version)
        if known is not None:
            known.last = max(known.last, result.done)
            known.answers += 1
        elif len(self._versions) < VERSIONS:
            self._versions[result.version] = _Version(result.done, result.done)

    def _add_write(self, result: Result) -> None:
        self.writes[result.write] += 1
        self._last_write_seen = max(self._last_write_seen, result.done)
        window = self._windows[-1] if self._windows and self._windows[-1].end is None else None
        if result.write == REFUSED:
            if window is not None:
                window.refused += 1
            elif len(self._windows) < WINDOWS:
                self._windows.append(_Window(result.done))
        elif result.write == ACKNOWLEDGED:
            self._write_gap = max(self._write_gap, result.done - self._last_acknowledged)
            self._last_acknowledged = max(self._last_acknowledged, result.done)
            # A write that was under way when the lock fell is acknowledged after the first
            # refusal, and does not end the window.
            if window is not None and result.due >= window.begin:
                window.end = result.done

    def report(self, now: float, offered: float | None = None) -> dict[str, Any]:
        """Return the report as of *now*.

        :param offered: when load was offered last, where it no longer is.

        A gap that has not ended counts up to now while a request is under way, else up to the last
        result: after the load has ended nobody could have been answered.
        """
        until = now if self.in_flight else self._last_seen
        gap, gap_at = self._gap, self._gap_at
        if until - self._last_good > gap:
            gap, gap_at = until - self._last_good, self._last_good
        write_gap = self._write_gap
        if self.writes:
            write_gap = max(write_gap, self._last_write_seen - self._last_acknowledged)
        windows = [self._window(window, now) for window in self._windows]
        seconds = max(now if offered is None else offered, 0.0)
        return {
            "started": iso(self.epoch),
            "seconds": round(seconds, 3),
            "rate_offered": round(self.sent / seconds, 2) if seconds else 0.0,
            "sent": self.sent,
            "answered": self.answered,
            "in_flight": self.in_flight,
            "failed": sum(self.failures.values()),
            "failures": dict(sorted(self.failures.items())),
            "refused": self.writes[REFUSED],
            "longest_gap_seconds": round(gap, 3),
            "longest_gap_at": iso(self.epoch + gap_at),
            "longest_write_gap_seconds": round(write_gap, 3),
            "read_only_seconds": max((window["seconds"] for window in windows), default=0.0),
            "read_only_windows": windows,
            "p50_ms": round(self._latencies.percentile(50) * 1000, 2),
            "p99_ms": round(self._latencies.percentile(99) * 1000, 2),
            "max_ms": round(self._latencies.highest * 1000, 2),
            "probe_lag_ms": round(self.lag * 1000, 2),
            "writes": {
                name: self.writes[name] for name in (ACKNOWLEDGED, REFUSED, FAILED, UNKNOWN)
            },
            "versions": [
                {
                    "version": name,
                    "first": iso(self.epoch + seen.first),
                    "last": iso(self.epoch + seen.last),
                    "answers": seen.answers,
                }
                for name, seen in sorted(self._versions.items(), key=lambda item: item[1].first)
            ],
            "samples_of_failures": [
                {
                    "time": iso(self.epoch + sample.done),
                    "method": sample.method,
                    "path": sample.path,
                    "kind": sample.failure,
                }
                for sample in self._samples
            ],
        }

    def _window(self, window: _Window, now: float) -> dict[str, Any]:
        end = now if window.end is None else window.end
        return {
            "first": iso(self.epoch + window.begin),
            "seconds": round(max(0.0, end - window.begin), 3),
            "refused": window.refused,
            "ended": window.end is not None,
        }


def verdict(
    report: dict[str, Any], max_failed: int | None, max_lost_writes: int | None
) -> str | None:
    """Return what a gate has against *report*, in one sentence, or None.

    Numbers that are not complete pass no gate: a probe that was killed, or that ended by itself
    before it was stopped, has not seen everything that it was to vouch for.
    """
    if max_failed is None and max_lost_writes is None:
        return None
    if report["ended"] not in ("running", "stopped"):
        return f"the traffic probe's report is incomplete: {report['ended_because']}"
    if not report["sent"]:
        return "the traffic probe has not sent a request yet, so there is nothing to judge"
    if max_failed is not None and report["failed"] > max_failed:
        kinds = ", ".join(f"{count} {kind}" for kind, count in report["failures"].items())
        return (
            f"{report['failed']} of {report['sent']} requests failed ({kinds}), "
            f"and at most {max_failed} may"
        )
    if max_lost_writes is not None:
        writes = report["writes"]
        lost, unchecked = writes["lost"], writes["unchecked"]
        if lost + unchecked > max_lost_writes:
            doubt = f", and {unchecked} could not be read back" if unchecked else ""
            return (
                f"{lost} of {writes['acknowledged']} acknowledged writes are lost{doubt}; "
                f"at most {max_lost_writes} may"
            )
    return None
