# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A play is killed while a module of it is at work: the next one waits for the module."""

from __future__ import annotations

import getpass
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.identity import (
    alive,
    parent,
    program,
)
from ansible_collections.immutable.delivery.plugins.module_utils.lock.file import read, work_file
from ansible_collections.immutable.delivery.plugins.module_utils.lock.work import Acquisition
from ansible_collections.immutable.delivery.plugins.module_utils.process.record import (
    read_record,
)
from tests.support.modules import run_module
from tests.support.plays import ROOT, RunningPlay, eventually, run_play, start_play

# Ends on SIGTERM, or is ready, but neither before its gate is open.
SLOW = """
trap 'asked=1' TERM
while [ ! -e "$1" ]; do sleep 0.05; done
[ -n "$asked" ] && exit 0
trap - TERM
echo "{\\"url\\": \\"http://127.0.0.1\\", \\"pid\\": $$}" > "$2.part"
mv "$2.part" "$2"
exec sleep 300
"""
SIGNALS = (signal.SIGTERM, signal.SIGKILL)


def lock(path: Path, **options: Any) -> dict[str, Any]:
    values = {"path": str(path), "name": "portal", **options}
    return {"name": "Lock", "immutable.delivery.deploy_lock": values}


def openers(file: os.stat_result) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(os.path.samestat(link.stat(), file) for link in (folder / "fd").iterdir()):
                yield int(folder.name)


def ancestors(pid: int) -> Iterator[int]:
    while pid := parent(pid):
        yield pid


class Deploy:
    """A deploy under a lock that starts a slow program, and what it leaves."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "portal.lock"
        self.gate = folder / "gate"
        self.folder = folder / "program"

    @property
    def start(self) -> dict[str, Any]:
        """The task that is at work for as long as the gate is shut."""
        return {
            "name": "Start",
            "immutable.delivery.local_process": {
                "name": "slow",
                "dir": str(self.folder),
                "argv": ["/bin/sh", "-c", SLOW, "sh", str(self.gate), "{ready_file}"],
                "ready_timeout": 300,
                "stop_timeout": 300,
            },
        }

    @property
    def tasks(self) -> list[dict[str, Any]]:
        free = lock(self.path, state="released")
        return [{"block": [lock(self.path), self.start], "always": [free]}]

    def begin(self) -> RunningPlay:
        return start_play(self.tasks)

    def at_work(self) -> bool:
        return self.folder.exists() and read_record(self.folder) is not None

    def holder(self) -> int:
        """Return the number of the module that works under the lock."""
        held = read(self.path)
        assert held is not None
        shared = work_file(self.path, held.token).stat()
        # The worker that waits for it holds the lock as well, if it lives.
        found = {pid for pid in openers(shared) if program(pid) == "local_process"}
        (module,) = found - {above for pid in found for above in ancestors(pid)}
        return module

    def end(self) -> None:
        self.gate.touch()
        record = read_record(self.folder)
        if record is not None:
            with suppress(ProcessLookupError):
                os.killpg(record.process.pid, signal.SIGKILL)


@pytest.fixture
def deploy(tmp_path: Path) -> Iterator[Deploy]:
    deploy = Deploy(tmp_path)
    yield deploy
    deploy.end()


@contextmanager
def orphaned(deploy: Deploy, number: signal.Signals) -> Iterator[None]:
    """A module that is at work, or at its undo, while its play has ended."""
    with deploy.begin() as play:
        eventually(deploy.at_work, "the module at work")
        play.process.send_signal(number)
        play.process.wait(60)
        yield


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_the_next_play_waits_for_the_module_of_one_that_was_killed(
    deploy: Deploy, number: signal.Signals
) -> None:
    with orphaned(deploy, number):
        orphan = deploy.holder()
        refused = run_play([lock(deploy.path, wait_timeout=0.2)]).failures[0]
        assert refused["kind"] == "held"
        named = re.match(
            r"local_process \(pid (\d+), since [0-9: -]+ UTC\) is still at work", refused.msg
        )
        assert named is not None, refused.msg
        # Its own number, by which it can be ended, and not that of a worker that waits for it.
        assert int(named[1]) == orphan
        assert f"kill {orphan}" in refused["next_step"]
        with deploy.begin() as again:
            # It would take the lock, and start the program, in less.
            time.sleep(5)
            assert again.results == []
            assert deploy.holder() == orphan
            deploy.gate.touch()
            done = again.wait().ok()
        took = next(result for result in done.results if result.task == "Lock")
        assert took["taken_over"] and took["waited"] > 0
        # The first one was undone, or had finished what it was at.
        assert done.task("Start").changed == (number is signal.SIGTERM)
    assert list(deploy.path.parent.glob("*.lock*")) == []


def test_a_module_whose_play_has_lost_its_lock_does_not_begin(deploy: Deploy) -> None:
    go = deploy.path.with_name("go")
    wait = {"name": "Wait", "ansible.builtin.wait_for": {"path": str(go), "timeout": 300}}
    deploy.gate.touch()
    with start_play([lock(deploy.path), wait, deploy.start]) as late:
        eventually(lambda: late.results, "the lock")
        with start_play([lock(deploy.path, force=True), wait]) as forced:
            eventually(lambda: forced.results, "the lock, taken away")
            go.touch()
            refused = late.wait().failures[0]
    assert (refused.task, refused["kind"]) == ("Start", "lock_lost")
    assert f"was taken over: portal is deployed by {getpass.getuser()}@" in refused.msg
    assert not deploy.folder.exists()


@pytest.mark.parametrize("is_here", [True, False])
def test_a_module_looks_for_itself_whether_its_lock_is_held(deploy: Deploy, is_here: bool) -> None:
    """What was told to it may be past by the time that it begins."""
    deploy.gate.touch()
    run_play([lock(deploy.path)]).ok()
    held = read(deploy.path)
    assert held is not None
    for token, reason in ((held.token, "has ended"), ("other", "was taken over: portal is")):
        known = {**Acquisition.here(deploy.path, token).as_dict(), "module": "local_process"}
        if not is_here:
            known = {**known, "boot": "another", "path": str(deploy.path.with_name("none"))}
        arguments = {**deploy.start["immutable.delivery.local_process"], "deploy_locks": [known]}
        ended = run_module(deploy.path.parent, "local_process", arguments)
        if is_here:
            assert ended.result["kind"] == "lock_lost"
            assert reason in ended.result["msg"]
            assert not deploy.folder.exists()
        else:
            assert ended.code == 0, ended.output


HOSTS = ("web1", "web2", "web3")


def test_hosts_and_roles_of_a_play_hold_one_lock_together(tmp_path: Path) -> None:
    path = tmp_path / "portal.lock"
    # A role under the lock includes another one that takes and gives back the same.
    inner = [lock(path), lock(path, state="released")]
    outer = [lock(path), {"name": "Inner", "ansible.builtin.include_role": {"name": "inner"}}]
    outer += [
        {
            "name": "Deploy",
            "ansible.builtin.wait_for": {"path": f"{tmp_path}/{{{{ inventory_hostname }}}}"},
        },
        lock(path, state="released"),
    ]
    for name, tasks in (("inner", inner), ("outer", outer)):
        file = tmp_path / "roles" / name / "tasks" / "main.yml"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(tasks))
    play = {
        "name": "Test",
        "hosts": ",".join(HOSTS),
        "connection": "local",
        "strategy": "ansible.builtin.free",
        "gather_facts": False,
        "roles": ["outer"],
    }

    def holders() -> set[str]:
        held = read(path) if path.exists() else None
        return set(held.holders) if held is not None else set()

    def locked(play: RunningPlay) -> int:
        return [result.task for result in play.results].count("Lock")

    left = {f"{host} (outer)" for host in HOSTS}
    with start_play(
        [play],
        env={"ANSIBLE_ROLES_PATH": str(tmp_path / "roles")},
        args=["--inventory", ",".join(HOSTS)],
    ) as deploying:
        eventually(lambda: locked(deploying) == 9 and holders() == left, "the locks")
        for host in HOSTS:
            assert run_play([lock(path)]).failures[0]["kind"] == "held"
            (tmp_path / host).touch()
            left.remove(f"{host} (outer)")
            eventually(lambda: holders() == left, f"the lock without {host}")
        done = deploying.wait().ok()
    assert not path.exists()
    assert [r["held"] for r in done.results if r.task == "Lock"].count(False) == 1


def test_an_owner_that_ended_here_need_not_be_waited_for_elsewhere(tmp_path: Path) -> None:
    """The lock lies in a container, say, where nobody sees the processes of this machine."""
    elsewhere = tmp_path / "python"
    unshare = "unshare --user --map-root-user --pid --fork --mount-proc"
    elsewhere.write_text(f'#!/bin/sh\nexec {unshare} {sys.executable} "$@"\n')
    elsewhere.chmod(0o755)
    if subprocess.run([elsewhere, "-c", ""], check=False).returncode:
        pytest.skip("namespaces cannot be made here")
    path = tmp_path / "portal.lock"
    there = {"ansible_python_interpreter": str(elsewhere)}
    with start_play(
        [lock(path), {"ansible.builtin.wait_for": {"path": "/none"}}], extra_vars=there
    ) as play:
        eventually(lambda: play.results, "the lock")
        refused = run_play([lock(path)], extra_vars=there).failures[0]
        assert refused["kind"] == "held"
        play.kill()
        took = run_play([lock(path)], extra_vars=there).ok()
    assert took[0]["taken_over"]


def test_an_undo_is_broken_off_neither_by_more_signals_nor_by_closed_pipes(deploy: Deploy) -> None:
    """As of an orphan, whose connection is gone and whom somebody tells to end again and again."""
    with started(deploy) as module:
        eventually(deploy.at_work, "the module at work")
        assert module.stdout is not None
        module.stdout.close()
        record = read_record(deploy.folder)
        assert record is not None
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            module.send_signal(number)
            time.sleep(0.1)
        # The undo waits for the program, which waits for its gate.
        assert module.poll() is None and alive(record.process)
        deploy.gate.touch()
        module.wait(60)
    assert module.returncode > 0
    assert not alive(record.process)


@contextmanager
def started(deploy: Deploy) -> Iterator[subprocess.Popen[bytes]]:
    """Start the module with its output in a pipe."""
    arguments = deploy.path.with_name("arguments.json")
    values = deploy.start["immutable.delivery.local_process"]
    arguments.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": values}))
    name = "ansible_collections.immutable.delivery.plugins.modules.local_process"
    command = [sys.executable, "-m", name, str(arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".build" / "collections")}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=environment, stdout=pipe, stderr=subprocess.STDOUT
    ) as module:
        try:
            yield module
        finally:
            module.kill()
