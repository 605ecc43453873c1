# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What chooses the samples of `make test`; `make matrix` tries all that there is."""

from __future__ import annotations

import os
from datetime import UTC, datetime


def matrix_seed() -> str:
    """What chooses the sample: the variable MATRIX_SEED, or the day, so that a rerun repeats it."""
    return os.environ.get("MATRIX_SEED") or f"{datetime.now(UTC):%Y-%m-%d}"
