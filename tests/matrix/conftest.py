# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The seed that chooses the sample, and the bench that its cells share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.matrix.bench import Bench, open_bench
from tests.support.seed import matrix_seed


def pytest_report_header() -> str:
    return f"MATRIX_SEED={matrix_seed()}"


@pytest.fixture(scope="session")
def seed() -> str:
    return matrix_seed()


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with open_bench() as opened:
        yield opened
