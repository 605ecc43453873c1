# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print as JSON what stands at a router and would have no place in the wanted configuration.

Read from the files that each switch writes, which is what a reload would start from.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

LETTERS = "abcdefghijklmnopqrstuvwxyz"
MARK = "# state: "
# A server's fields in HAProxy's state file.
BACKEND, ADMIN, FIELDS = 1, 6, 7
# Forced, inherited, and for a name that has no address: see haproxy_parse.py.
MAINTENANCE = 0x01 | 0x02 | 0x20


def in_service(state: Path) -> dict[str, int]:
    """Count the servers of each backend that are not out of service."""
    counts: dict[str, int] = {}
    for line in state.read_text().splitlines() if state.exists() else []:
        fields = line.split()
        if len(fields) > FIELDS and fields[0].isdecimal() and not int(fields[ADMIN]) & MAINTENANCE:
            counts[fields[BACKEND]] = counts.get(fields[BACKEND], 0) + 1
    return counts


def of_haproxy(folder: Path, wanted: dict[str, Any]) -> list[str]:
    """Return a sentence for each live version or candidate that would be lost."""
    lost = []
    table = folder / "services.map"
    counts = in_service(folder / "servers.state")
    for line in table.read_text().splitlines() if table.exists() else []:
        if not line.strip() or line.startswith("#"):
            continue
        key, _space, backend = line.partition(" ")
        service, _colon, what = key.partition(":")
        if what == "weight":
            continue
        if service not in wanted:
            lost.append(f"{service} has a version that gets its requests, and would be gone")
            continue
        letters = LETTERS[: wanted[service]["backends"]]
        if backend not in [f"{service}-{letter}" for letter in letters]:
            lost.append(f"{service} is in {backend}, and would have {len(letters)} backends only")
        elif counts.get(backend, 0) > wanted[service]["servers"]:
            lost.append(
                f"{service} has {counts[backend]} instances, and would have room for "
                f"{wanted[service]['servers']} only"
            )
    return lost


def of_nginx(folder: Path, wanted: dict[str, Any]) -> list[str]:
    """Return a sentence for each service that would be lost."""
    lost = []
    for file in sorted(folder.glob("*.conf")):
        marks = [line for line in file.read_text().splitlines() if line.startswith(MARK)]
        state = json.loads(marks[0][len(MARK) :]) if marks else {}
        if state.get("version", {}).get("live") and file.stem not in wanted:
            lost.append(f"{file.stem} has a version that gets its requests, and would be gone")
    return lost


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=["haproxy", "nginx"], required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--services", type=json.loads, required=True)
    options = parser.parse_args()
    lose = of_haproxy if options.kind == "haproxy" else of_nginx
    try:
        lost = lose(options.folder, options.services)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{options.folder} cannot be read: {error}\n")
        return 1
    sys.stdout.write(f"{json.dumps(lost)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
