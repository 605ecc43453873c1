# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a playbook with the real ansible-playbook and read what each of its tasks returned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from tests.support.waiting import eventually

__all__ = ("PlayResult", "RunningPlay", "TaskResult", "eventually", "run_play", "start_play")

ROOT = Path(__file__).resolve().parents[2]
CALLBACKS = Path(__file__).resolve().parent / "callback_plugins"
# By which programs that start plays themselves share with these what is made once a test run.
SHARING = {"ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS), "ANSIBLE_CALLBACKS_ENABLED": "shared"}


# The path of a playbook, the name of one in an installed collection, or plays or tasks.
Play: TypeAlias = "Path | str | Sequence[Mapping[str, Any]]"


@dataclass(frozen=True)
class TaskResult:
    """What one task returned on one host; ``result["x"]`` reads from ``data``, the whole of it."""

    task: str
    action: str
    host: str
    status: str  # ok, failed, skipped or unreachable
    ignored: bool
    data: dict[str, Any]

    @property
    def changed(self) -> bool:
        return bool(self.data.get("changed"))

    @property
    def failed(self) -> bool:
        return self.status in ("failed", "unreachable")

    @property
    def skipped(self) -> bool:
        return self.status == "skipped"

    @property
    def msg(self) -> str:
        return str(self.data.get("msg", ""))

    def __getitem__(self, name: str) -> Any:
        return self.data[name]


@dataclass(frozen=True)
class PlayResult:
    """How a run of ansible-playbook ended."""

    rc: int
    stdout: str
    stderr: str
    results: list[TaskResult] = field(default_factory=list)

    def __getitem__(self, index: int) -> TaskResult:
        return self.results[index]

    def task(self, name: str) -> TaskResult:
        """Return the last result of the task of that name; fails, showing the output, for none."""
        found = [result for result in self.results if name in (result.task, result.action)]
        assert found, f"no task {name!r} ran:\n{self.output}"
        return found[-1]

    @property
    def output(self) -> str:
        return f"rc {self.rc}\n{self.stdout}\n{self.stderr}"

    @property
    def changed(self) -> bool:
        return any(result.changed for result in self.results)

    @property
    def failures(self) -> list[TaskResult]:
        """The failures that nobody ignored."""
        return [result for result in self.results if result.failed and not result.ignored]

    def ok(self) -> PlayResult:
        """Return itself; fails the test, showing the output, where the play did not succeed."""
        assert self.rc == 0, self.output
        return self


@dataclass
class RunningPlay:
    """A play that was started and not waited for; use it in a ``with``, which ends it.

    Its output goes to files: after a kill of the main process its workers hold on to pipes.
    """

    process: subprocess.Popen[bytes]
    folder: Path
    workdir: tempfile.TemporaryDirectory[str]

    def __enter__(self) -> RunningPlay:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        if self.process.returncode < 0:
            self._kill_workers()
        self.workdir.cleanup()

    def kill(self) -> None:
        """End the main process as a crash would (SIGKILL); harmless where it has ended already."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def _kill_workers(self) -> None:
        """Kill those that outlived the main process: they would make the folder again."""
        variables = os.fsencode(self.folder / "vars.json")
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if variables in command.read_bytes():
                    os.kill(int(command.parent.name), signal.SIGKILL)

    @property
    def results(self) -> list[TaskResult]:
        """The results so far."""
        return read_results(self.folder / "results.jsonl")

    def wait(self, timeout: float = 120) -> PlayResult:
        """Wait for its end; after *timeout* seconds it is killed and the test fails."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"the play did not end within {timeout} s:\n{self._read('stdout')}"
            ) from None
        return PlayResult(
            self.process.returncode, self._read("stdout"), self._read("stderr"), self.results
        )

    def _read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8", errors="replace")


def read_results(file: Path) -> list[TaskResult]:
    """Return the complete lines of a results file; a play that was killed may leave half of one."""
    if not file.exists():
        return []
    whole = file.read_text(encoding="utf-8").rpartition("\n")[0]
    parsed = [json.loads(line) for line in whole.splitlines()]
    return [
        TaskResult(
            task=line["task"],
            action=line["action"],
            host=line["host"],
            status=line["status"],
            ignored=line["ignored"],
            data=line["result"],
        )
        for line in parsed
    ]


def _playbook(play: Play, folder: Path) -> Path | str:
    if isinstance(play, Path | str):
        return play
    plays: list[Any] = list(play)
    if not any("hosts" in item or "import_playbook" in item for item in plays):
        plays = [
            {
                "name": "Test",
                "hosts": "localhost",
                "connection": "local",
                "gather_facts": False,
                "tasks": plays,
            }
        ]
    file = folder / "playbook.yml"
    # JSON is YAML, and needs no library.
    file.write_text(json.dumps(plays, default=str), encoding="utf-8")
    return file


def start_play(
    play: Play,
    *,
    extra_vars: Mapping[str, Any] | None = None,
    check: bool = False,
    diff: bool = False,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    args: Sequence[str] = (),
) -> RunningPlay:
    """Start ansible-playbook; the parameters are those of :func:`run_play`."""
    workdir = tempfile.TemporaryDirectory(prefix="delivery-play-")
    folder = Path(workdir.name)
    variables = {"ansible_python_interpreter": sys.executable, **(extra_vars or {})}
    (folder / "vars.json").write_text(json.dumps(variables, default=str), encoding="utf-8")
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": os.environ.get(
            "ANSIBLE_COLLECTIONS_PATH", str(ROOT / ".build" / "collections")
        ),
        **SHARING,
        "ANSIBLE_CALLBACKS_ENABLED": "jsonl,shared",
        "ANSIBLE_NOCOLOR": "1",
        # Half a dozen programs less for each task, of which a whole run has thousands.
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_LOCAL_TEMP": str(folder / "local-tmp"),
        "ANSIBLE_REMOTE_TMP": str(folder / "remote-tmp"),
        "DELIVERY_TEST_RESULTS": str(folder / "results.jsonl"),
        "PYTHONUTF8": "1",
        # What a killed module leaves goes with the folder.
        "TMPDIR": str(folder),
        **(env or {}),
    }
    command = [
        *(sys.executable, "-m", "ansible", "playbook", str(_playbook(play, folder))),
        *("--extra-vars", f"@{folder / 'vars.json'}"),
        *(["--check"] if check else []),
        *(["--diff"] if diff else []),
        # The inventory of ansible.cfg is for the project's own playbooks.
        *([] if isinstance(play, Path | str) else ["--inventory", "localhost,"]),
        *args,
    ]
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            command,
            cwd=cwd or ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
    return RunningPlay(process, folder, workdir)


def run_play(
    play: Play,
    *,
    extra_vars: Mapping[str, Any] | None = None,
    check: bool = False,
    diff: bool = False,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
    cwd: Path | None = None,
    args: Sequence[str] = (),
) -> PlayResult:
    """Run *play* and return what came of it, success or not; see :meth:`PlayResult.ok`.

    :param play: the path or the full name of a playbook, a list of plays, or a list of tasks, which
        then run on localhost, in this process's own Python, with no facts gathered.
    :param extra_vars: given in a file, so values of any type arrive as they are, and stay out of
        the process list.
    :param env: added to this process's environment. ``ANSIBLE_COLLECTIONS_PATH`` is honoured where
        it is set, and ``.build/collections`` below the checkout is taken otherwise.
    :param timeout: seconds after which the play is killed and the test fails.
    :param cwd: the checkout where not given, so that its ansible.cfg holds.
    :param args: further arguments for ansible-playbook.
    """
    with start_play(
        play, extra_vars=extra_vars, check=check, diff=diff, env=env, cwd=cwd, args=args
    ) as running:
        return running.wait(timeout)
