# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long users cannot write in a deploy, beside the portal's own share of that time.

The floor is what the portals themselves take to export and to import the same data, asked as fast
as they answer, with no client's work between: no deploy over this API can be shorter.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import requests

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import harness
from tests.support.archives import tar_of, user_files
from tests.support.lab import HOST, KEY, Lab, lab_at
from tests.support.made_archives import encrypted

FLOOR = "the portals' own work"
HEADERS = {"Host": HOST, "Authorization": KEY}
GIVE_UP = 120.0
SWITCH = "Carry the data, switch, and prove the candidate through the router"


def seconds_until_done(url: str) -> float:
    """Ask for a status without a pause until it is done."""
    started = time.monotonic()
    while requests.get(url, headers=HEADERS, timeout=30).status_code == 204:
        if time.monotonic() - started > GIVE_UP:
            raise RuntimeError(f"{url} is not done after {GIVE_UP} s")
    return time.monotonic() - started


def floor(lab: Lab) -> float:
    """Seconds that the live portal takes to export, and then to import the same again."""
    api = f"{lab.live_url}/deploy/v1"
    begun = time.monotonic()
    export = requests.post(f"{api}/export", headers=HEADERS, timeout=30).json()["exportId"]
    seconds_until_done(f"{api}/export/{export}/status")
    exported = time.monotonic() - begun
    data = requests.get(f"{api}/export/{export}/data", headers=HEADERS, timeout=60)
    requests.delete(f"{api}/export/{export}", headers=HEADERS, timeout=30)
    headers = {**HEADERS, "X-SHA256-Hash": data.headers["X-SHA256-Hash"]}
    begun = time.monotonic()
    answer = requests.post(f"{api}/import", data=data.content, headers=headers, timeout=60)
    seconds_until_done(f"{api}/import/{answer.json()['importId']}/status")
    return exported + time.monotonic() - begun


def run(quick: bool) -> harness.Table:
    """Deploy portals of growing size, a few times each."""
    sizes, deploys = ((100,), 1) if quick else ((100, 1000, 10000), 3)
    table = harness.Table("Read-only window of a deploy, by number of users")
    for count in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            archive = folder / "archive.tgz.enc"
            archive.write_bytes(encrypted(tar_of(user_files(count)), KEY))
            settings: dict[str, Any] = {
                "portal_lab_archive": str(archive),
                "portal_lab_extra_args": ["--rate=0"],
                "portal_blue_green_smoke_checks": [{"path": "/users/user1"}],
            }
            with lab_at(folder, **settings) as lab:
                windows, floors = [], []
                for number in range(deploys):
                    floors.append(floor(lab))
                    result = lab.deploy(f"v{24 + number}").ok()
                    windows.append(float(result.task(SWITCH)["read_only_seconds"]))
        table.rows.append(
            harness.Row(
                f"{count} users",
                "s",
                harness.LOWER,
                statistics.median(windows),
                {FLOOR: statistics.median(floors)},
            )
        )
    table.note = (
        "Beyond the portals' work the window holds the looks at the two jobs, after 0.25 s, then "
        "0.5, 1 and 2 s more, the switch and its proof, and two questions for the lock."
    )
    return table


if __name__ == "__main__":
    sys.exit(harness.main(run("--quick" in sys.argv)))
