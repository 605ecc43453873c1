# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A running nginx: its processes, its test of a configuration, and its reload.

nginx has no API. What it runs with is told by its processes: a worker reads nothing after it has
been started, so one that is younger than a file runs with that file. When nginx reloads, the
master starts new workers and tells the old ones to leave: they take no new connection, finish what
they are working on, and end. Until then their title says ``is shutting down``.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..deadline import Deadline, Pace, wait_for
from ..errors import TimeoutExceeded
from .base import RouterDown, RouterError

PROC = Path("/proc")
BOOT_ID = PROC / "sys/kernel/random/boot_id"
# As nginx writes it with or without a log of its own.
ERROR = re.compile(r"\[emerg\] (?:\d+#\d+: )?(?P<what>.*)")
PACE = Pace(interval=0.1, first=0.01)


@dataclass(frozen=True)
class Worker:
    """One worker process; ``started`` in seconds since the machine was booted, rounded down."""

    pid: int
    started: float
    leaving: bool


def boot_id() -> str:
    """Return what tells this boot of the machine from any other."""
    return BOOT_ID.read_text(encoding="ascii").strip()


def now() -> float:
    """Return the time since the machine was booted, as precise as a process's start is known."""
    ticks = os.sysconf("SC_CLK_TCK")
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * ticks) / ticks


class NginxProcess:
    """One nginx, on this host or in a container of it.

    :param command: how to call the program, as in ``["nginx"]``.
    :param conf: its main configuration file, as the program itself finds it.
    :param pid_file: where the master writes its process id; not needed for a container.
    :param container: the container that it runs in as the first process.
    :param engine: how to call the container engine's command line, ``docker`` or ``podman``.
    :param timeout: seconds that a test, or a reload until the new workers serve, may take.
    """

    def __init__(
        self,
        command: Sequence[str],
        conf: str,
        pid_file: Path,
        *,
        container: str = "",
        engine: str = "docker",
        timeout: float = 30.0,
    ) -> None:
        self.command = list(command)
        self.conf = conf
        self.pid_file = pid_file
        self.container = container
        self.engine = engine
        self.timeout = timeout

    def test(self) -> None:
        """Have nginx test its whole configuration.

        :raises RouterError: nginx refuses it, and says why.
        """
        argv = [*self.command, "-t", "-q", "-c", self.conf]
        if self.container:
            argv = [self.engine, "exec", self.container, *argv]
        done = self._call(argv)
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines()
            errors = [found["what"] for line in lines if (found := ERROR.search(line))]
            raise RouterError(
                f"nginx refuses its configuration: {'; '.join(errors or lines[-1:])[:500]}",
                next_step=f"Correct {self.conf} or what it includes.",
            )

    def master(self) -> int:
        """Return the process id of the master.

        :raises RouterError: nginx does not run, or not where it can be seen from here.
        """
        pid = self._container_pid() if self.container else self._pid_from_file()
        title = _title(pid)
        if not title.startswith("nginx: master process"):
            raise RouterDown(
                f"process {pid} is not the master of nginx"
                + (f" but {title.split(' ')[0]}" if title else ": it has ended"),
                next_step="See whether nginx runs on this host, and run this there (delegate_to).",
            )
        return pid

    def workers(self) -> list[Worker]:
        """Return the worker processes, those that are leaving as well.

        :raises RouterError: nginx does not run.
        """
        master = self.master()
        ticks = os.sysconf("SC_CLK_TCK")
        found = []
        try:
            children = (PROC / f"{master}/task/{master}/children").read_text(encoding="ascii")
        except OSError as error:
            raise RouterDown(f"nginx has ended (its master was process {master})") from error
        for pid in map(int, children.split()):
            title = _title(pid)
            if not title.startswith("nginx: worker process"):
                continue
            try:
                stat = (PROC / f"{pid}/stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            # Behind the name, which may hold anything; the 22nd field is when it was started.
            started = int(stat.rpartition(")")[2].split()[19]) / ticks
            found.append(Worker(pid, started, "shutting down" in title))
        return found

    def reload(self) -> None:
        """Reload; on return new workers serve, and no old one takes a new connection.

        :raises RouterError: nginx kept its old workers, or may not be told.
        """
        before = {worker.pid for worker in self.workers()}
        master = self.master()
        try:
            os.kill(master, signal.SIGHUP)
        except PermissionError as error:
            raise RouterError(
                f"no right to tell nginx (process {master}) to reload",
                next_step="Become root, or the user that started nginx.",
            ) from error
        except ProcessLookupError as error:
            raise RouterDown(f"nginx has ended (its master was process {master})") from error

        def look() -> bool | None:
            workers = self.workers()
            new = any(worker.pid not in before and not worker.leaving for worker in workers)
            old = any(worker.pid in before and not worker.leaving for worker in workers)
            return True if new and not old else None

        try:
            wait_for(look, deadline=Deadline(self.timeout), pace=PACE, what="new workers")
        except TimeoutExceeded as error:
            raise RouterError(
                f"nginx still serves with its old configuration {self.timeout:g} s after it was "
                "told to reload",
                next_step="Read nginx's error log.",
            ) from error

    def _container_pid(self) -> int:
        argv = [self.engine, "inspect", "--format", "{{.State.Pid}}", self.container]
        done = self._call(argv)
        if done.returncode != 0 or not done.stdout.strip().isdecimal():
            raise RouterDown(
                f"the container {self.container} cannot be inspected: "
                f"{done.stderr.strip()[:300] or done.stdout.strip()[:300]}"
            )
        pid = int(done.stdout)
        if not pid:
            raise RouterDown(f"the container {self.container} does not run")
        return pid

    def _pid_from_file(self) -> int:
        try:
            text = self.pid_file.read_text(encoding="ascii", errors="replace").strip()
        except OSError as error:
            raise RouterDown(
                f"nginx does not run here: {self.pid_file} cannot be read: {error.strerror}",
                next_step="Start nginx, run this on its host (delegate_to), or give its pid_file.",
            ) from error
        if not text.isdecimal():
            raise RouterError(f"{self.pid_file} holds no process id")
        return int(text)

    def _call(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                argv,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.timeout,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except OSError as error:
            raise RouterError(f"{argv[0]} cannot be run: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise RouterError(f"{' '.join(argv)} took longer than {self.timeout:g} s") from error


def _title(pid: int) -> str:
    """Return what a process calls itself; empty where it has ended."""
    try:
        text = (PROC / f"{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.replace("\0", " ").strip()
