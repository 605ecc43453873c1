# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the matrices came to, for people: each row as it comes, and the tables of whole runs."""

from __future__ import annotations

from tests.matrix.bench import Row
from tests.matrix.crash import ObservedCrash
from tests.matrix.kill import ObservedKill, shape
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
