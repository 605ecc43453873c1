# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RESULTS.md: one section a benchmark or matrix, each from one whole run of it.

A section begins with a comment that names what it is of: a run of some replaces theirs only.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"
BENCHMARKS = (
    "bench_archive",
    "bench_proxy",
    "bench_switch",
    "bench_window",
    "bench_deploys",
    "bench_alb",
    "bench_service",
    "bench_routers",
    "bench_compose",
    "bench_shop",
)
MATRICES = ("crash_matrix", "kill_matrix")
HEADER = """# Benchmarks

Written by `make bench`, and the matrices by `make matrix`. Each table is of one whole run, on the
day it gives. The machine is shared and noisy, so read the ratios, which were taken side by side in
that run, and not the absolute values.
"""
SECTION = re.compile(r"^<!-- (\w+) -->\n", re.MULTILINE)


class Printed(Protocol):
    """What a section shows."""

    def text(self) -> str:
        """Return the title, and the lines of the table."""


def write(new: Mapping[str, Printed]) -> None:
    """Put the sections of *new* in place of their former ones."""
    page = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    RESULTS.write_text(merged(page, new, (*BENCHMARKS, *MATRICES)), encoding="utf-8")


def section(table: Printed) -> str:
    """Return a table as a section of the page."""
    title, _newline, body = table.text().partition("\n")
    taken = (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, "
        f"Python {platform.python_version()}"
    )
    return f"## {title}\n\n{taken}\n\n```text\n{body}\n```\n"


def sections(page: str) -> dict[str, str]:
    """Return the sections that a page has, by the names of their benchmarks."""
    _head, *rest = SECTION.split(page)
    return {name: text.strip() + "\n" for name, text in zip(rest[::2], rest[1::2], strict=True)}


def merged(page: str, new: Mapping[str, Printed], order: Sequence[str]) -> str:
    """Return the page with the sections of *new* in place of their former ones, in that order."""
    known = {**sections(page), **{name: section(table) for name, table in new.items()}}
    parts = [f"<!-- {name} -->\n{known[name]}" for name in order if name in known]
    return "\n".join([HEADER, *parts])
