# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have HAProxy or nginx reload where its files are newer than what it runs with.

Prints as JSON what was done: ``nothing``, ``reload``, or ``restart`` where it has no master
process that could reload, which is left to the caller.

Neither tells what it runs with. But a worker reads nothing after it was started, so one that is
younger than a file runs with that file. A reload is over when a new worker is there; nginx's old
ones say in their title that they leave, and HAProxy's leave as soon as there is a new one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
LOOK_EVERY = 0.05
SIGNALS = {"haproxy": signal.SIGUSR2, "nginx": signal.SIGHUP}


class Failed(Exception):
    """What the user is told."""


@dataclass(frozen=True)
class Worker:
    """A process that serves; ``started`` in seconds since 1970."""

    pid: int
    started: float


def title(pid: int) -> str:
    """Return what a process calls itself; empty where it has ended."""
    try:
        return (
            (PROC / str(pid) / "cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode("utf-8", "replace")
        )
    except OSError:
        return ""


def started(pid: int) -> float:
    """Return when a process was started; ``OSError`` where it has ended."""
    ticks = os.sysconf("SC_CLK_TCK")
    # Behind the name, which may hold anything; the 22nd field.
    text = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2]
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + int(text.split()[19]) / ticks


def master(options: argparse.Namespace) -> int:
    """Return the process id of the first process.

    :raises Failed: it does not run.
    """
    if options.container:
        argv = ["docker", "inspect", "--format", "{{.State.Pid}}", options.container]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        text, where = done.stdout.strip(), f"the container {options.container}"
    else:
        where = options.pid_file
        try:
            # An init script's HAProxy without a master may have left more than one.
            text = Path(options.pid_file).read_text().split()[0]
        except (OSError, IndexError):
            text = ""
    pid = int(text) if text.isdecimal() else 0
    if not pid or options.kind not in title(pid):
        raise Failed(f"{options.kind} does not run, by {where}")
    return pid


def workers(pid: int, kind: str) -> list[Worker]:
    """Return those that take new connections."""
    found = []
    for child in (PROC / f"{pid}/task/{pid}/children").read_text().split():
        name = title(int(child))
        of_nginx = name.startswith("nginx: worker process") and "shutting down" not in name
        if of_nginx if kind == "nginx" else "haproxy" in name.split(" ")[0]:
            try:
                found.append(Worker(int(child), started(int(child))))
            except OSError:
                continue
    newest = max((worker.started for worker in found), default=0.0)
    return [worker for worker in found if kind == "nginx" or worker.started == newest]


def newest_of(files: list[str]) -> float:
    """Return when the last of *files* was put in its place."""
    return max((Path(file).stat().st_ctime for file in files if Path(file).exists()), default=0.0)


def reload(options: argparse.Namespace) -> str:
    """Return what was done, or has to be.

    :raises Failed: it does not run, or keeps its old workers.
    """
    pid = master(options)
    before = workers(pid, options.kind)
    if not before:
        return "restart"
    if not options.always and all(each.started > newest_of(options.file) for each in before):
        return "nothing"
    if options.dry_run:
        return "reload"
    os.kill(pid, SIGNALS[options.kind])
    old = {worker.pid for worker in before}
    deadline = time.monotonic() + options.timeout
    while time.monotonic() < deadline:
        now = {worker.pid for worker in workers(pid, options.kind)}
        if now and not now & old:
            return "reload"
        time.sleep(LOOK_EVERY)
    raise Failed(
        f"{options.kind} still serves with its old configuration {options.timeout:g} s after it "
        "was told to reload; its log says why"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=sorted(SIGNALS), required=True)
    parser.add_argument("--pid-file", default="")
    parser.add_argument("--container", default="")
    parser.add_argument("--timeout", type=float, required=True)
    parser.add_argument("--always", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("file", nargs="*")
    options = parser.parse_args()
    try:
        done = reload(options)
    except (Failed, OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{json.dumps({'done': done})}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
