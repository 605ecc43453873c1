# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Export and import of a large archive against curl with sha256sum, in one run."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import harness

HERE = Path(__file__).resolve().parent
MIB = 1024 * 1024
RIVAL = "curl + sha256sum"
PIPED = "curl | tee | sha256sum"
AUTHORIZATION = "Authorization: benchmark"


def make_archive(path: Path, size: int) -> str:
    """Write *size* bytes that do not compress; return their SHA-256."""
    digest = hashlib.sha256()
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for _number in range(size // MIB):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def run_module(name: str, options: dict[str, Any]) -> tuple[float, float]:
    """Run a module; return its seconds and its peak of resident memory in MiB."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, HERE / "run_module.py", name],
        input=json.dumps(options),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    seconds = time.monotonic() - started
    if done.returncode or json.loads(done.stdout).get("failed"):
        raise RuntimeError(f"{name} failed: {done.stdout} {done.stderr}")
    return seconds, float(done.stderr.split()[-1])


def run_commands(*commands: list[str]) -> float:
    """Run commands one after the other; return their seconds."""
    started = time.monotonic()
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)
    return time.monotonic() - started


def seconds_of_start() -> float:
    """What Python and the module's imports take before the first byte is moved."""
    modules = "ansible_collections.immutable.delivery.plugins.modules"
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", f"import {modules}.portal_export, {modules}.portal_import"],
        check=True,
        timeout=60,
    )
    return time.monotonic() - started


def run(quick: bool) -> harness.Table:
    """Move the archive both ways with both, in turn; compare the best: a busy disk only adds."""
    size, rounds = (64 * MIB, 1) if quick else (1024 * MIB, 5)
    table = harness.Table(f"Archive of {size // MIB} MiB over loopback, best of {rounds}")
    ours: dict[str, list[float]] = {"export": [], "import": []}
    theirs: dict[str, list[float]] = {"export": [], "import": []}
    piped: list[float] = []
    peaks: dict[str, float] = {"export": 0.0, "import": 0.0}
    starts: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, dest = folder / "archive", folder / "copy"
        sha256 = make_archive(source, size)
        with harness.process(HERE / "archive_server.py", source, sha256) as server:
            url = harness.first_line(server)
            common = {"api_url": url, "deployment_key": "benchmark"}
            curl = ["curl", "-sS", "--fail", "-H", AUTHORIZATION]
            for _round in range(rounds):
                starts.append(seconds_of_start())
                seconds, peak = run_module(
                    "portal_export", {**common, "dest": str(dest), "verify_archive": False}
                )
                ours["export"].append(seconds)
                peaks["export"] = max(peaks["export"], peak)
                theirs["export"].append(
                    run_commands(
                        [*curl, "-o", str(dest), f"{url}/deploy/v1/export/e1/data"],
                        ["sync", str(dest)],
                        ["sha256sum", str(dest)],
                    )
                )
                pipe = f"curl -sS --fail {url}/deploy/v1/export/e1/data | tee {dest} | sha256sum"
                piped.append(run_commands(["sh", "-c", f"{pipe} && sync {dest}"]))
                seconds, peak = run_module("portal_import", {**common, "src": str(source)})
                ours["import"].append(seconds)
                peaks["import"] = max(peaks["import"], peak)
                theirs["import"].append(
                    run_commands(
                        ["sha256sum", str(source)],
                        [*curl, "-X", "POST", "-T", str(source), f"{url}/deploy/v1/import"],
                    )
                )
    # Ours has to make a process ready and to wait for a first look at the job, a fixed cost that a
    # gigabyte dwarfs; it is in the seconds.
    for job in ("export", "import"):
        mine, rival = min(ours[job]), min(theirs[job])
        rivals = {RIVAL: size / MIB / rival}
        if job == "export":
            rivals[PIPED] = size / MIB / min(piped)
        table.rows.append(
            harness.Row(
                f"{job}, MiB/s",
                "MiB/s",
                harness.HIGHER,
                size / MIB / mine,
                rivals,
                None if quick else 0.9 * size / MIB / rival,
            )
        )
        table.rows.append(
            harness.Row(f"{job}, peak memory", "MiB", harness.LOWER, peaks[job], {}, 100.0)
        )
    table.note = (
        "Both sync the file to the disk and hash it. Ours includes "
        f"{min(starts):.1f} s to start Python and the wait for the first look."
    )
    return table


if __name__ == "__main__":
    sys.exit(harness.main(run("--quick" in sys.argv)))
