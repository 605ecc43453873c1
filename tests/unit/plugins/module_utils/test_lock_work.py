# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is at work under a lock, and what that means to whoever takes it over."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.change import Step, run
from ansible_collections.immutable.delivery.plugins.module_utils.compose.cli import Compose
from ansible_collections.immutable.delivery.plugins.module_utils.deadline import Deadline
from ansible_collections.immutable.delivery.plugins.module_utils.engine.options import Connection
from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.identity import (
    ProcessId,
    process,
    this_machine,
)
from ansible_collections.immutable.delivery.plugins.module_utils.lock.change import DeployLockChange
from ansible_collections.immutable.delivery.plugins.module_utils.lock.file import (
    make_work_file,
    read,
    work_file,
    write,
)
from ansible_collections.immutable.delivery.plugins.module_utils.lock.model import (
    Held,
    Lock,
    Observed,
)
from ansible_collections.immutable.delivery.plugins.module_utils.lock.work import (
    Acquisition,
    Busy,
    LockLost,
    call_myself,
    nobody_at_work,
    share,
    work_under,
)
from tests.support.waiting import eventually

FORK = multiprocessing.get_context("fork")
ELSEWHERE = replace(this_machine(), boot="another", machine_id="another")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "portal.lock"


def lay(path: Path, token: str = "former") -> Acquisition:
    """Make a lock that is left over from another machine."""
    since = datetime(2026, 1, 1, tzinfo=UTC)
    lock = Lock("portal", ProcessId(1, 1, ELSEWHERE), "kim", ("web1",), since, 1.0, token)
    make_work_file(path, token)
    write(path, lock, new=not path.exists())
    return Acquisition.here(path, token)


def taking(path: Path, desired: str = "held", **more: Any) -> DeployLockChange:
    owner = process(os.getpid())
    assert owner is not None
    options = {"user": "kim", "holder": "web1", "ttl": 3600, "wait_timeout": 60, **more}
    return DeployLockChange(path, "portal", desired, owner, **options)


@contextmanager
def working(begin: Callable[[], object], path: Path) -> Iterator[int]:
    """A process that works under the lock until the block is left, or it is killed."""
    ready = path.with_name("ready")

    def work() -> None:
        begin()
        ready.touch()
        signal.pause()

    child = FORK.Process(target=work)
    child.start()
    try:
        eventually(ready.exists, "the process at work")
        assert child.pid is not None
        yield child.pid
    finally:
        child.kill()
        child.join()


def at_work(path: Path, token: str = "former") -> str:
    """Return who is named; nothing if nobody is at work."""
    try:
        with nobody_at_work(path, token, Deadline(0)):
            return ""
    except Busy as busy:
        return busy.message


def test_whoever_is_at_work_is_named_and_waited_for(path: Path) -> None:
    acquisition = lay(path)

    def begin() -> None:
        work_under(acquisition)
        call_myself("service_deploy")

    with working(begin, path) as pid:
        with pytest.raises(Held, match=rf"^service_deploy \(pid {pid}, since ") as caught:
            run(taking(path, wait_timeout=0.1))
        assert f"kill {pid}" in caught.value.next_step
        assert read(path).token == "former"  # type: ignore[union-attr]
        # By force it is taken all the same, and whoever it was is told.
        forced = taking(path, wait_timeout=0.1, force=True)
        run(forced)
        assert [worker.pid for worker in forced.left_at_work] == [pid]
    assert sorted(one.name for one in path.parent.iterdir()) == sorted(
        [path.name, work_file(path, forced.token).name, "ready"]
    )


def test_a_lock_is_not_released_while_somebody_works_under_it(path: Path) -> None:
    run(taking(path))
    held = read(path)
    assert held is not None
    acquisition = Acquisition.here(path, held.token)
    with working(lambda: work_under(acquisition), path):
        with pytest.raises(Held, match="is still at work on portal, as part of this play"):
            run(taking(path, desired="released", wait_timeout=0.1))
        assert path.exists()
    run(taking(path, desired="released"))
    assert [one.name for one in path.parent.iterdir()] == ["ready"]


def test_the_last_one_to_leave_waits_too_if_it_was_not_the_last_a_moment_ago(path: Path) -> None:
    class Late(DeployLockChange):
        """Sees a neighbour once that has left since."""

        def observe(self) -> Observed:
            seen = super().observe()
            if neighbours and seen.lock is not None:
                holders = (*seen.lock.holders, neighbours.pop())
                return replace(seen, lock=replace(seen.lock, holders=holders))
            return seen

    run(taking(path))
    held = read(path)
    assert held is not None
    neighbours = ["web2"]
    late = Late(path, "portal", "released", held.owner, user="kim", holder="web1", ttl=1)
    with working(lambda: work_under(Acquisition.here(path, held.token)), path):
        with pytest.raises(Held, match="is still at work"):
            late.apply(Step("leave", ""), lambda undo, state="": None)
        assert path.exists() and not neighbours


def test_what_a_killed_process_forked_is_at_work(path: Path) -> None:
    acquisition = lay(path)

    def begin() -> None:
        work_under(acquisition)
        if os.fork() == 0:
            path.with_name("child").write_text(str(os.getpid()))
            signal.pause()

    with working(begin, path) as pid:
        child = int(eventually(lambda: text(path.with_name("child")), "the child"))
        os.kill(pid, signal.SIGKILL)
        try:
            eventually(lambda: f"(pid {child}" in at_work(path), "the child as the one at work")
        finally:
            os.kill(child, signal.SIGKILL)
        eventually(lambda: not at_work(path), "the end of the child")


def test_docker_compose_is_at_work_when_the_module_that_started_it_was_killed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquisition = lay(path)
    docker = path.with_name("docker")
    docker.write_text(f"#!/bin/sh\necho $$ > {path}.pid\nexec sleep 300\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")

    def begin() -> None:
        work_under(acquisition)
        path.with_name("ready").touch()
        compose = Compose(Connection(), path.parent, files=("compose.yml",))
        compose.read("config")

    with working(begin, path) as pid:
        program = int(eventually(lambda: text(Path(f"{path}.pid")), "docker"))
        os.kill(pid, signal.SIGKILL)
        try:
            eventually(lambda: f"sleep (pid {program}" in at_work(path), "docker, at work")
        finally:
            os.kill(program, signal.SIGKILL)
        eventually(lambda: not at_work(path), "the end of docker")


def text(file: Path) -> str:
    with suppress(FileNotFoundError):
        return file.read_text().strip()
    return ""


def test_other_programs_are_not_at_work(path: Path) -> None:
    acquisition = lay(path)
    handle = share(acquisition)
    assert handle is not None
    with subprocess.Popen(["sleep", "300"]) as program:
        try:
            assert at_work(path)
            os.close(handle)
            assert not at_work(path)
        finally:
            program.kill()


def test_a_lock_on_another_machine_is_not_held_by_a_module(path: Path) -> None:
    acquisition = lay(path)
    there = replace(acquisition, boot="another")
    nowhere = replace(there, path=path.with_name("none"))
    assert share(nowhere) is None
    # One that is seen from here all the same, by a shared folder, is.
    handle = share(there)
    assert handle is not None
    os.close(handle)


def test_one_that_cannot_be_read_is_refused(path: Path) -> None:
    acquisition = lay(path)
    work_file(path, "former").unlink()
    work_file(path, "former").symlink_to(path)
    with pytest.raises(DeliveryError, match="cannot be held while this works"):
        share(acquisition)


def begin_late(acquisition: Acquisition, ready: Any, answers: Any) -> None:
    ready.wait(60)
    try:
        handle = share(acquisition)
    except LockLost:
        answers.send("refused")
        return
    began = time.monotonic()
    time.sleep(0.002)
    answers.send((began, time.monotonic()))
    assert handle is not None


@pytest.mark.parametrize("turn", range(15))
def test_nobody_slips_in_while_a_lock_is_taken_over(path: Path, turn: int) -> None:
    """Modules of a play that has ended begin at the very moment in which another takes its lock."""
    acquisition = lay(path)
    ready, (answers, ours) = FORK.Barrier(4), FORK.Pipe(duplex=False)
    late = [FORK.Process(target=begin_late, args=(acquisition, ready, ours)) for _late in range(3)]
    for one in late:
        one.start()
    try:
        ready.wait(60)
        time.sleep(turn / 5000)
        run(taking(path))
        took = time.monotonic()
        ends = [answers.recv() for _late in late]
    finally:
        for one in late:
            one.join(60)
            one.kill()
    for end in ends:
        assert end == "refused" or end[1] <= took, (end, took)
    with pytest.raises(LockLost, match="was taken over: portal is deployed by kim@"):
        share(acquisition)
