# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the matrices came to, for people: each row as it comes, and the tables of whole runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.matrix.bench import Row
from tests.matrix.cells import ROUTERS
from tests.matrix.crash import ObservedCrash
from tests.matrix.kill import ObservedKill, shape
from tests.matrix.kills import SIGNALS, TARGETS, Kill
from tests.matrix.truth import first_sentence


def told(row: Row) -> str:
    """Return a row as several lines."""
    lines = [f"{'FAULT' if row.faults else 'good '} {row.cell.name}"]
    seen = row.seen
    if isinstance(seen, ObservedCrash):
        lines += [
            f"{'/'.join(seen.versions)} serves; {seen.lost} of {seen.requests} requests failed"
            f" within {seen.window} s; {seen.kept}",
            f"{seen.result.get('kind')}: {first_sentence(seen.result)}",
            f"state: {seen.result.get('state')}",
            f"next: {seen.result.get('next_step')}",
        ]
    elif isinstance(seen, ObservedKill):
        first = seen.interrupted
        lines += [
            f"{'/'.join(seen.between)} then {seen.version} serves; {seen.lost} of {seen.requests}"
            f" requests failed; {', '.join(shape(seen.containers))}",
            f"interrupted: code {first.code} after {first.seconds} s, {first.result.get('kind')}:"
            f" {first_sentence(first.result)}; again: {seen.again.seconds} s,"
            f" a third time: {seen.third.seconds} s",
            f"state: {first.result.get('state')}",
        ]
    return "\n      ".join([*lines, *(f"- {fault}" for fault in row.faults)])


@dataclass(frozen=True)
class Grid:
    """The table of one matrix: a line for a flow and a moment, a column for each of the rest."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    note: str

    def text(self) -> str:
        """For a terminal, and for RESULTS.md."""
        widths = [max(map(len, column)) for column in zip(self.head, *self.lines, strict=True)]
        rule = ["-" * width for width in widths]
        shown = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in (self.head, rule, *self.lines)
        ]
        return "\n".join([self.title, *shown, *self.note.splitlines()])


def crash_grid(rows: Sequence[Row]) -> Grid:
    """Return the table of the crash matrix."""
    lines = []
    for (flow, moment), found in _grouped(rows).items():
        by_router = {row.cell.router: row for row in found}
        seen = [row.seen for row in found if isinstance(row.seen, ObservedCrash)]
        lines.append(
            [
                flow,
                moment,
                *(_crash_cell(by_router.get(router)) for router in ROUTERS),
                _each(", ".join(_kept(one)) or "nobody" for one in seen),
                _each(str(one.result.get("kind", "")) for one in seen),
            ]
        )
    return Grid(
        _title("Crash matrix", rows),
        ["flow", "the new release crashes", *ROUTERS, "kept", "kind"],
        lines,
        "who serves afterwards, requests that failed, and within how many seconds; the former\n"
        "release is v2, an earlier one v1, the one that crashes v3; kept: who is stopped, and\n"
        "its restart policy; requests may fail once the new release had the traffic, or if both\n"
        "cannot run at a time",
    )


def kill_grid(rows: Sequence[Row]) -> Grid:
    """Return the table of the kill matrix."""
    columns = [(number, target) for target in TARGETS for number in SIGNALS]
    lines = []
    for (flow, moment), found in _grouped(rows).items():
        cells = {
            (row.cell.signal, row.cell.target): row for row in found if isinstance(row.cell, Kill)
        }
        lines.append([flow, moment, *(_kill_cell(cells.get(column)) for column in columns)])
    return Grid(
        _title("Kill matrix", rows),
        ["flow", "while", *(f"{number.name} {target}" for number, target in columns)],
        lines,
        "who serves before the same command is run again (of a play it follows at once), and\n"
        "requests that failed; each command again converged, and changed nothing a third time",
    )


def _grouped(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        moment = row.cell.moment
        name = moment if isinstance(moment, str) else moment.name
        found.setdefault((row.cell.flow, name), []).append(row)
    return found


def _title(name: str, rows: Sequence[Row]) -> str:
    faulty = sum(1 for row in rows if row.faults)
    return f"{name}: {len(rows)} cells, {faulty} not as they must be"


def _each(texts: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(texts))


def _kept(seen: ObservedCrash) -> list[str]:
    return [f"{one.version} ({one.restart})" for one in seen.containers if not one.running]


def _crash_cell(row: Row | None) -> str:
    if row is None or not isinstance(row.seen, ObservedCrash):
        return "-"
    seen = row.seen
    lost = f"{seen.lost} in {seen.window} s" if seen.lost else "0"
    return f"{_each(seen.versions)}, {lost}{' FAULT' if row.faults else ''}"


def _kill_cell(row: Row | None) -> str:
    if row is None or not isinstance(row.seen, ObservedKill):
        return "-"
    before = f"{_each(row.seen.between)}, " if row.seen.between else ""
    return f"{before}{row.seen.lost}{' FAULT' if row.faults else ''}"
