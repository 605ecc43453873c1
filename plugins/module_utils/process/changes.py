# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The changes of the modules that look after background processes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from ..change import OnUndo, Step
from ..errors import DeliveryError, enumerate_words
from ..exclusive import exclusive
from ..identity import alive
from .plan import DELETE, START, STOP, WAIT, Instance, Seen, Wanted, plan, plan_prune
from .record import LOG, RECORD, Record, read_ready, read_record, same_environment
from .supervise import PLACEHOLDER, Program, Supervisor, make_folder, stop

Warn = Callable[[str], None]


class ProcessChange:
    """Bring one process to *wanted*.

    :param program: what is to be run; its arguments are only looked at for ``started``.
    :param stop_timeout: seconds between SIGTERM and SIGKILL.
    """

    def __init__(self, program: Program, wanted: Wanted, stop_timeout: float, warn: Warn) -> None:
        self.program = program
        self.wanted = wanted
        self.stop_timeout = stop_timeout
        self.warn = warn
        self.record: Record | None = None

    def observe(self) -> Seen:
        """Look at the folder, and ask the kernel for the process.

        :raises DeliveryError: the folder cannot be used, or its record not be read.
        """
        folder = self.program.folder
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise DeliveryError(f"{folder} is not a folder")
        if not folder.exists():
            return Seen()
        if self.wanted.state == "absent":
            refuse_foreign(folder)
        record = self.record = read_record(folder)
        if record is None:
            return Seen(exists=True)
        if not alive(record.process):
            return Seen(exists=True, started_at=record.started_at)
        ready = read_ready(folder)
        program = self.program
        return Seen(
            exists=True,
            running=True,
            same=record.argv == program.argv
            and record.cwd == str(program.cwd)
            and same_environment(program.environment, record.environment),
            ready=ready is not None or not any(PLACEHOLDER in part for part in record.argv),
            pid=record.process.pid,
            url=ready.url if ready else None,
            started_at=record.started_at,
        )

    def plan(self, observed: Seen) -> Sequence[Step]:
        """Return the steps."""
        return plan(observed, self.wanted)

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step."""
        if step.action == START:
            self._start(on_undo)
        elif step.action == WAIT and self.record is not None:
            Supervisor(self.program).wait_ready(self.record)
        elif step.action == STOP and self.record is not None:
            name = self.program.name
            stop_or_kill(name, self.record, self.stop_timeout, self.warn)
        elif step.action == DELETE:
            delete(self.program.folder)

    def verify(self, observed: Seen, applied: Sequence[Step]) -> Seen:
        """Look again.

        :raises DeliveryError: it is not as it was to be.
        """
        seen = self.observe()
        if seen.running != (self.wanted.state == "started"):
            raise DeliveryError(
                f"{self.wanted.name} {'runs' if seen.running else 'does not run'} after all",
                next_step=f"Read {self.program.folder / LOG}.",
            )
        return seen

    def describe(self, observed: Seen) -> str:
        """Show whether it runs."""
        return self._shown(observed.exists, observed.running, observed.pid)

    def expected(self, observed: Seen, steps: Sequence[Step]) -> str:
        """Show whether it will run."""
        if not steps:
            return self.describe(observed)
        keeps_pid = all(step.action == WAIT for step in steps)
        return self._shown(
            observed.exists and self.wanted.state != "absent",
            self.wanted.state == "started",
            observed.pid if keeps_pid else None,
        )

    def _shown(self, exists: bool, running: bool, pid: int | None) -> str:
        if not running:
            return f"{self.wanted.name}: {'stopped' if exists else 'absent'}\n"
        return f"{self.wanted.name}: running" + (f" (pid {pid})\n" if pid else "\n")

    def _start(self, on_undo: OnUndo) -> None:
        folder = self.program.folder
        make_folder(folder)
        supervisor = Supervisor(self.program)
        # Noted before there is anything, since a signal may come as soon as there is.
        on_undo(
            lambda: supervisor.stop(self.stop_timeout),
            f"{self.program.name} does not run; its log is {folder / LOG}",
        )
        supervisor.start()
        if supervisor.record is None:
            raise DeliveryError(f"{self.program.name} ended before it began")
        self.record = supervisor.record
        supervisor.wait_ready(self.record)


class PruneChange:
    """Stop what may not run among the instances of a folder, and delete old ones.

    :param running: the names that may run.
    :param keep: how many of those that do not run are kept.
    :param protect: further names that are never deleted.
    """

    def __init__(
        self,
        folder: Path,
        *,
        running: Collection[str],
        keep: int,
        protect: Collection[str],
        stop_timeout: float,
        warn: Warn,
    ) -> None:
        self.folder = folder
        self.running = running
        self.keep = keep
        self.protect = protect
        self.stop_timeout = stop_timeout
        self.warn = warn

    def observe(self) -> list[Instance]:
        """Return the instances, the newest first; folders without a record are none.

        :raises DeliveryError: the folder cannot be read, or a record in it.
        """
        try:
            folders = [
                entry
                for entry in sorted(self.folder.iterdir())
                if not entry.is_symlink() and (entry / RECORD).is_file()
            ]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DeliveryError(f"{self.folder} cannot be read: {error.strerror}") from error
        instances = [seen for seen in map(instance, folders) if seen is not None]
        return sorted(instances, key=lambda seen: seen.started_at, reverse=True)

    def plan(self, observed: list[Instance]) -> Sequence[Step]:
        """Return the steps."""
        return plan_prune(observed, running=self.running, keep=self.keep, protect=self.protect)

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step; neither can be taken back."""
        folder = Path(step.detail["folder"])
        name = str(step.detail["name"])
        if step.action == STOP:
            record = read_record(folder)
            if record is not None:
                stop_or_kill(name, record, self.stop_timeout, self.warn)
        else:
            delete(folder)

    def verify(self, observed: list[Instance], applied: Sequence[Step]) -> list[Instance]:
        """Look again.

        :raises DeliveryError: something runs that may not.
        """
        seen = self.observe()
        names = [item.name for item in seen if item.running and item.name not in self.running]
        if names:
            raise DeliveryError(
                f"{enumerate_words(names)} ran again as soon as it was stopped",
                next_step="Find out who starts it.",
            )
        return seen

    def describe(self, observed: list[Instance]) -> str:
        """Show the instances."""
        return "".join(
            f"{seen.name}: {'running' if seen.running else 'stopped'}\n" for seen in observed
        )

    def expected(self, observed: list[Instance], steps: Sequence[Step]) -> str:
        """Show the instances that will be left."""
        stopped = {step.detail["folder"] for step in steps if step.action == STOP}
        deleted = {step.detail["folder"] for step in steps if step.action == DELETE}
        return "".join(
            f"{seen.name}: "
            f"{'running' if seen.running and seen.folder not in stopped else 'stopped'}\n"
            for seen in observed
            if seen.folder not in deleted
        )


def instance(folder: Path) -> Instance | None:
    """Return what stands in the folder of one instance; None where that is none any more."""
    record = read_record(folder)
    if record is None:
        return None
    running = alive(record.process)
    ready = read_ready(folder) if running else None
    return Instance(
        name=record.name,
        folder=str(folder),
        running=running,
        started_at=record.started_at,
        url=ready.url if ready else None,
        pid=record.process.pid if running else None,
    )


def stop_or_kill(name: str, record: Record, timeout: float, warn: Warn) -> None:
    """End a process; warn where it had to be killed."""
    if stop(name, record.process, timeout):
        warn(f"{name} did not end within {timeout:g} s of SIGTERM and was killed")


def refuse_foreign(folder: Path) -> None:
    """Make sure that a folder that is to be deleted is one of ours.

    :raises DeliveryError: it holds something, and no trace of a process.
    """
    try:
        names = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise DeliveryError(f"{folder} cannot be read: {error.strerror}") from error
    if names and not names & {RECORD, LOG}:
        raise DeliveryError(
            f"{folder} is not deleted: it has no {RECORD}, so it is not the folder of a process",
            next_step="Check dir.",
        )


def delete(folder: Path) -> None:
    """Delete the folder of a process that does not run.

    :raises DeliveryError: it was started meanwhile, or cannot be deleted.
    """
    try:
        if not folder.exists():
            return
        with exclusive(folder):
            record = read_record(folder)
            if record is not None and alive(record.process):
                raise DeliveryError(f"{record.name} was started by somebody else meanwhile")
            refuse_foreign(folder)
            shutil.rmtree(folder)
    except OSError as error:
        raise DeliveryError(
            f"{folder} cannot be deleted: {error}", next_step="Delete what is left of it by hand."
        ) from error
