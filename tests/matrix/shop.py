# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills a deploy of the shop at every change that it asks the engine for, under each strategy.

PYTHONPATH=.build/collections:. python -m tests.matrix.shop [STRATEGY ...]
"""

from __future__ import annotations

import argparse
import signal
import sys

from tests.support.engine import connect, new_prefix
from tests.support.shop_runs import STRATEGIES, shop_runs


def main() -> int:
    """Return 1 if an order is lost, or a killed deploy is not finished by the next one."""
    # Containers and routers are ended on the way out, also if the run is ended.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    parser = argparse.ArgumentParser(description="Kill deploys of the shop at every change.")
    parser.add_argument("strategies", nargs="*", choices=[*STRATEGIES, []])
    engine, prefix, bad = connect(), new_prefix(), 0
    for strategy in parser.parse_args().strategies or STRATEGIES:
        with shop_runs(engine, strategy, f"{prefix}-{strategy.replace('_', '-')}") as runs:
            runs.deploy()
            for number in range(1, runs.changes + 1):
                faults = runs.deploy_killed(number)
                bad += bool(faults)
                said = "; ".join(faults) or "no order lost, and finished by the next run"
                print(f"shop, {strategy}, killed at change {number}: {said}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
