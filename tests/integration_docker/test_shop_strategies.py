# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No acknowledged order of the shop is lost under any strategy, nor by a deploy that is killed.

``make matrix`` kills a deploy at every change; here it is one, chosen by MATRIX_SEED or the day.
"""

from __future__ import annotations

from random import Random

import pytest
from docker import DockerClient

from tests.matrix.conftest import matrix_seed
from tests.support.shop_runs import STRATEGIES, shop_runs


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_order_is_lost(engine: DockerClient, prefix: str, strategy: str) -> None:
    name = f"{prefix}-{strategy.replace('_', '-')}"
    with shop_runs(engine, strategy, name) as runs:
        # A new version, and a new image of the database.
        orders = runs.deploy()
        assert (orders.lost, set(orders.versions)) == (0, {"1", "2"})
        assert strategy == "recreate" or orders.failed == 0
        number = Random(matrix_seed()).randint(1, runs.changes)
        faults = runs.deploy_killed(number)
        assert not faults, f"MATRIX_SEED={matrix_seed()}, change {number} of {runs.changes}"
        assert runs.version() == "1"
