# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starting and ending a background process, with no service manager and no root.

It gets a session of its own, so that it outlives the module, and its standard files lead to
/dev/null and to its log, so that Ansible does not wait for them. It does not run a single
instruction before its record is on disk: whenever the module is killed, there is either a record
or no process.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..deadline import Deadline, Pace, wait_for
from ..errors import DeliveryError, TimeoutExceeded
from ..exclusive import exclusive
from ..identity import ProcessId, alive, group_members, process
from ..signals import uninterrupted
from .record import (
    READY,
    Record,
    digest,
    last_lines,
    open_log,
    read_ready,
    read_record,
    write_record,
)

PLACEHOLDER = "{ready_file}"
PACE = Pace(interval=0.1, first=0.01)
# How long a program that does not say when it is ready must live to count as started.
SETTLE = 0.5
KILL_SECONDS = 10.0
# The shell waits for a line, and becomes the program. At the end of the file, which is what it
# gets when the module dies, it ends instead.
GATE = 'read -r go && exec "$@" </dev/null'


class ProcessFailed(DeliveryError):
    """A process ended, or was not ready in time.

    :param exit_code: minus the signal's number where one ended it; None where it is not known.
    """

    kind = "process"

    def __init__(
        self,
        message: str,
        *,
        exit_code: int | None = None,
        log: Sequence[str] = (),
        next_step: str = "",
    ) -> None:
        super().__init__(message, next_step=next_step, log=log)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Program:
    """What is to be run, and how long things may take, in seconds.

    :param argv: ``{ready_file}`` in it is replaced by where the program is to write that it is
        ready: JSON with ``url`` and ``pid``; ``{dir}`` and ``{name}`` likewise.
    :param environment: added to this process's own; secret.
    """

    name: str
    folder: Path
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: Path
    ready_timeout: float

    @property
    def says_ready(self) -> bool:
        """Whether the program tells when it is ready."""
        return any(PLACEHOLDER in argument for argument in self.argv)

    @property
    def command(self) -> list[str]:
        """The arguments as they are run."""
        places = {PLACEHOLDER: str(self.folder / READY), "{dir}": str(self.folder)}
        places["{name}"] = self.name
        command = list(self.argv)
        for place, value in places.items():
            command = [argument.replace(place, value) for argument in command]
        return command

    def __repr__(self) -> str:
        return f"Program({self.name!r}, {self.folder!r})"


def make_folder(folder: Path) -> None:
    """Make the state folder, mode 0700, in a folder that exists.

    :raises DeliveryError: it cannot be made or used.
    """
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
        if folder.is_symlink() or not folder.is_dir():
            raise DeliveryError(f"{folder} is not a folder")
        if status.st_uid != os.geteuid():
            raise DeliveryError(f"{folder} belongs to somebody else (uid {status.st_uid})")
        folder.chmod(0o700)
    except FileNotFoundError as error:
        raise DeliveryError(
            f"{folder.parent} does not exist", next_step="Make that folder first."
        ) from error
    except OSError as error:
        raise DeliveryError(f"{folder} cannot be used: {error.strerror}") from error


class Supervisor:
    """Starts one program, and watches it as long as the module runs."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.child: subprocess.Popen[bytes] | None = None
        self.record: Record | None = None

    def start(self) -> None:
        """Start the program and write its record.

        :raises DeliveryError: it cannot be run, or somebody else started it meanwhile.
        """
        program = self.program
        environment = {**os.environ, **program.environment}
        try:
            if not program.cwd.is_dir():
                raise DeliveryError(f"the working folder {program.cwd} does not exist")
            self._check_runnable(environment)
            with exclusive(program.folder):
                earlier = read_record(program.folder)
                if earlier is not None and alive(earlier.process):
                    raise DeliveryError(
                        f"{program.name} was started by somebody else meanwhile "
                        f"(pid {earlier.process.pid})"
                    )
                (program.folder / READY).unlink(missing_ok=True)
                with open_log(program.folder) as log, uninterrupted():
                    self._spawn(environment, log)
        except OSError as error:
            raise DeliveryError(f"{program.name} cannot be started: {error}") from error

    def _check_runnable(self, environment: Mapping[str, str]) -> None:
        name = self.program.command[0]
        path = self.program.cwd / name if "/" in name else name
        if shutil.which(path, path=environment.get("PATH")) is None:
            raise DeliveryError(f"{name} is not a program that can be run")

    def _spawn(self, environment: Mapping[str, str], log: int) -> None:
        program = self.program
        self.child = child = subprocess.Popen(
            ["/bin/sh", "-c", GATE, "sh", *program.command],
            cwd=program.cwd,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        if child.stdin is None:  # for the type checker: it was asked for above
            return
        with child.stdin as gate:
            known = process(child.pid)
            if known is None:
                return
            self.record = Record(
                name=program.name,
                argv=program.argv,
                cwd=str(program.cwd),
                environment=digest(program.environment),
                process=known,
                started_at=datetime.now(UTC).isoformat(timespec="microseconds"),
                log_offset=os.fstat(log).st_size,
            )
            write_record(program.folder, self.record)
            with suppress(BrokenPipeError):
                gate.write(b"go\n")
                gate.flush()

    def wait_ready(self, record: Record) -> None:
        """Wait until the program says that it is ready, or has lived for a moment.

        :raises ProcessFailed: it ended, or was not ready in time.
        """
        says_ready = self.program.says_ready
        timeout = self.program.ready_timeout
        deadline = Deadline(timeout if says_ready else min(SETTLE, timeout))

        def look() -> bool | None:
            ready = read_ready(self.program.folder) is not None if says_ready else deadline.passed
            # Asked last: a program that said it was ready and ended right then is not ready.
            if self.child is not None and self.child.poll() is not None:
                raise self._ended(record, self.child.returncode)
            if not alive(record.process):
                code = self.child.wait() if self.child is not None else None
                raise self._ended(record, code)
            return True if ready else None

        try:
            wait_for(look, deadline=deadline, pace=PACE, what=f"{self.program.name} to be ready")
        except TimeoutExceeded as error:
            raise self._failed(record, error.message, None) from error

    def stop(self, timeout: float) -> bool:
        """End what was started here; see :func:`stop`."""
        if self.record is None:
            # The shell still waits at the gate, whose end it sees, or has ended.
            if self.child is not None:
                self.child.wait()
            return False
        return stop(self.record.name, self.record.process, timeout)

    def _ended(self, record: Record, code: int | None) -> ProcessFailed:
        how = "ended"
        if code is not None:
            how = f"ended with exit code {code}"
            if code < 0:
                with suppress(ValueError):
                    how = f"was ended by {signal.Signals(-code).name}"
        return self._failed(record, f"{record.name} {how} before it was ready", code)

    def _failed(self, record: Record, message: str, code: int | None) -> ProcessFailed:
        tail = last_lines(
            self.program.folder,
            offset=record.log_offset,
        )
        said = "" if tail else "; its log is empty"
        return ProcessFailed(message + said, exit_code=code, log=tail)


def stop(name: str, known: ProcessId, timeout: float) -> bool:
    """End a process and the group it leads; return whether it had to be killed.

    SIGTERM first, and SIGKILL to what is left after *timeout* seconds. A process that ended long
    ago is none of ours any more, whoever has its number now.

    :raises DeliveryError: it may not be ended, or does not end.
    """
    if not alive(known):
        return False

    def gone() -> bool | None:
        return True if not alive(known) and not any(group_members(known.pid)) else None

    _signal(name, known, signal.SIGTERM)
    try:
        wait_for(gone, deadline=Deadline(timeout), pace=PACE, what=f"{name} to end")
    except TimeoutExceeded:
        _signal(name, known, signal.SIGKILL)
        wait_for(
            gone, deadline=Deadline(KILL_SECONDS), pace=PACE, what=f"{name} to end after SIGKILL"
        )
        return True
    return False


def _signal(name: str, known: ProcessId, number: signal.Signals) -> None:
    try:
        # It leads its session, so its number is its group's, as long as anything of it is left.
        os.killpg(known.pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise DeliveryError(
            f"{name} (pid {known.pid}) runs as another user and cannot be ended"
        ) from error
