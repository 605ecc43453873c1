# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What whole deploys lose under load: requests and acknowledged writes, over twenty switches."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import harness
from tests.support.lab import lab_at

SWITCH = "Carry the data, switch, and prove the candidate through the router"


def run(quick: bool) -> harness.Table:
    """Deploy again and again under load, and add up what each deploy's probe counted."""
    # A new lab after every other deploy: 250 sign-ups a second make a portal of another size.
    labs, each, rate = (1, 1, 50) if quick else (10, 2, 500)
    settings: dict[str, Any] = {
        "portal_lab_extra_args": ["--rate=0"],
        "portal_blue_green_probe": True,
        "portal_blue_green_probe_rate": rate,
        # The sum is what counts here, and one loss must not end the run.
        "portal_blue_green_max_failed": 1_000_000,
        "portal_blue_green_max_lost_writes": 1_000_000,
        "portal_blue_green_job_timeout": 60,
    }
    sent = failed = acknowledged = refused = lost = 0
    gap = 0.0
    windows = []
    for _lab in range(labs):
        with tempfile.TemporaryDirectory() as name, lab_at(Path(name), **settings) as lab:
            for number in range(each):
                result = lab.deploy(f"v{24 + number}").ok()
                task = result.task("End the load and read back every acknowledged write")
                report = task["report"]
                sent += report["sent"]
                failed += report["failed"]
                gap = max(gap, report["longest_gap_seconds"])
                acknowledged += report["writes"]["acknowledged"]
                refused += report["writes"]["refused"]
                lost += report["writes"]["lost"] + report["writes"]["unchecked"]
                windows.append(float(result.task(SWITCH)["read_only_seconds"]))
    table = harness.Table(
        f"{labs * each} whole deploys at {rate} requests/s, half of them sign-ups"
    )
    table.rows += [
        harness.Row("requests sent", "", harness.HIGHER, sent),
        harness.Row("requests failed", "", harness.LOWER, failed, {}, 0),
        harness.Row("writes acknowledged", "", harness.HIGHER, acknowledged),
        harness.Row("writes refused while read-only", "", harness.LOWER, refused),
        harness.Row("acknowledged writes lost", "", harness.LOWER, lost, {}, 0),
        harness.Row("longest time without an answer", "s", harness.LOWER, gap),
        harness.Row("longest read-only window", "s", harness.LOWER, max(windows)),
    ]
    return table


if __name__ == "__main__":
    sys.exit(harness.main(run("--quick" in sys.argv)))
