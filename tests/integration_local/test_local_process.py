# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""local_process and local_process_prune, in plays and in-process, with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils import identity
from ansible_collections.immutable.delivery.plugins.module_utils.change import run
from ansible_collections.immutable.delivery.plugins.module_utils.errors import (
    DeliveryError,
    Interrupted,
)
from ansible_collections.immutable.delivery.plugins.module_utils.process.changes import (
    ProcessChange,
)
from ansible_collections.immutable.delivery.plugins.module_utils.process.plan import Wanted
from ansible_collections.immutable.delivery.plugins.module_utils.process.record import (
    read_record,
)
from ansible_collections.immutable.delivery.plugins.module_utils.process.supervise import (
    GATE,
    ProcessFailed,
    Program,
)
from tests.support.plays import run_play
from tests.support.waiting import eventually

PROGRAM = Path(__file__).resolve().parents[1] / "support" / "background.py"
READY = ("--ready-file", "{ready_file}")


def argv(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-S", str(PROGRAM), *arguments)


class Lab:
    """A folder of instances; everything that was started in it ends with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warnings: list[str] = []

    def change(self, name: str, state: str = "started", *arguments: str, **more: Any) -> Any:
        folder = self.folder / name
        program = Program(
            name=name,
            folder=folder,
            argv=more.get("argv", argv(*arguments)),
            environment=more.get("environment", {}),
            cwd=more.get("cwd", folder),
            ready_timeout=more.get("ready_timeout", 60),
        )
        wanted = Wanted(name, state, more.get("restart", False))
        return ProcessChange(program, wanted, more.get("stop_timeout", 60), self.warnings.append)

    def run(self, name: str, state: str = "started", *arguments: str, **more: Any) -> Any:
        return run(self.change(name, state, *arguments, **more))

    def known(self, name: str) -> identity.ProcessId:
        record = read_record(self.folder / name)
        assert record is not None
        return record.process

    def end(self) -> None:
        for folder in self.folder.iterdir():
            record = read_record(folder) if folder.is_dir() else None
            if record is not None and identity.alive(record.process):
                os.killpg(record.process.pid, signal.SIGKILL)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path / "lab")
    lab.folder.mkdir()
    try:
        yield lab
    finally:
        lab.end()


def test_start_again_stop_again_delete_in_plays(lab: Lab) -> None:
    options: dict[str, Any] = {"name": "demo", "dir": str(lab.folder / "demo")}
    start = {
        **options,
        "argv": list(argv(*READY, "--say", "the key is $KEY")),
        "environment": {"KEY": "s3cret-key", "ONE": "1", "YES": True},
    }

    def task(name: str, values: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "immutable.delivery.local_process": values}

    play = run_play([task("Start", start)], check=True, diff=True).ok()
    assert play[0].changed
    assert play[0]["diff"] == {"before": "demo: absent\n", "after": "demo: running\n"}
    assert list(lab.folder.iterdir()) == []

    # That this returns at all shows that Ansible does not wait for what the program holds open.
    play = run_play(
        [
            task("Start", start),
            task("Again", start),
            {
                **task("Other", {**start, "environment": {"KEY": "other-key"}}),
                "ignore_errors": True,
            },
        ],
        diff=True,
    ).ok()
    started, again, other = play.results
    known = lab.known("demo")
    assert started.changed
    assert (started["running"], started["pid"]) == (True, known.pid)
    assert started["url"] == "http://127.0.0.1:1/"
    assert identity.alive(known)
    assert not again.changed
    assert (again["pid"], again["url"]) == (known.pid, started["url"])
    assert other.failed
    assert "restart: true" in other.msg
    # The key is where the program put it, and nowhere else.
    assert Path(started["log_path"]).read_text() == "the key is s3cret-key\n"
    record = (lab.folder / "demo" / "process.json").read_text()
    for text in (record, play.output, json.dumps([result.data for result in play.results])):
        assert "s3cret-key" not in text
        assert "other-key" not in text
    modes = {entry.name: entry.stat().st_mode & 0o777 for entry in (lab.folder / "demo").iterdir()}
    assert (modes["process.json"], modes["process.log"]) == (0o600, 0o600)
    assert (lab.folder / "demo").stat().st_mode & 0o777 == 0o700

    play = run_play([task("Stop", {**options, "state": "stopped"})], check=True).ok()
    assert play[0].changed
    assert identity.alive(known)
    play = run_play(
        [
            task("Stop", {**options, "state": "stopped"}),
            task("Stop again", {**options, "state": "stopped"}),
            task("Delete", {**options, "state": "absent"}),
            task("Delete again", {**options, "state": "absent"}),
        ]
    ).ok()
    assert [result.changed for result in play.results] == [True, False, True, False]
    assert not identity.alive(known)
    assert list(lab.folder.iterdir()) == []


def test_a_program_that_refuses_is_quoted(lab: Lab) -> None:
    play = run_play(
        [
            {
                "name": "Start",
                "immutable.delivery.local_process": {
                    "name": "demo",
                    "dir": str(lab.folder / "demo"),
                    "argv": list(argv(*READY, "--exit", "78", "--say", "No plan named $KEY.")),
                    "environment": {"KEY": "s3cret-key"},
                },
            }
        ]
    )
    assert play.rc != 0
    assert "demo ended with exit code 78 before it was ready" in play[0].msg
    assert "demo does not run" in play[0].msg
    assert (play[0]["exit_code"], play[0]["log"]) == (78, ["No plan named ********."])
    assert "s3cret-key" not in play.output


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("--exit", "3"), "ended with exit code 3 before it was ready; its log is empty", 3),
        (("--exit", "0"), "ended with exit code 0", 0),
        (("--signal", "9", "--say", "bye"), "ended by SIGKILL before it was ready\\. ", -9),
    ],
)
@pytest.mark.parametrize("ready", [(), READY])
def test_a_program_that_ends_at_once(
    lab: Lab, arguments: tuple[str, ...], message: str, code: int, ready: tuple[str, ...]
) -> None:
    with pytest.raises(ProcessFailed, match=message) as caught:
        lab.run("demo", "started", *ready, *arguments, ready_timeout=60)
    assert caught.value.exit_code == code
    assert not identity.alive(lab.known("demo"))


def test_one_that_is_not_ready_in_time_is_stopped(lab: Lab) -> None:
    with pytest.raises(ProcessFailed, match="gave up waiting for demo to be ready"):
        lab.run("demo", argv=("/bin/sh", "-c", "exec sleep 600", "{ready_file}"), ready_timeout=0.2)
    assert not identity.alive(lab.known("demo"))


def test_only_the_log_of_this_start_is_quoted(lab: Lab) -> None:
    with pytest.raises(ProcessFailed):
        lab.run("demo", "started", *READY, "--exit", "1", "--say", "first")
    with pytest.raises(ProcessFailed) as caught:
        lab.run("demo", "started", *READY, "--exit", "1", "--say", "second")
    assert caught.value.log == ["second"]
    assert (lab.folder / "demo" / "process.log").read_text() == "first\nsecond\n"


def test_another_program_replaces_it_when_asked(lab: Lab) -> None:
    lab.run("demo", "started", *READY)
    first = lab.known("demo")
    outcome = lab.run("demo", "started", *READY, "--say", "new", restart=True)
    assert [step["step"].split()[0] for step in outcome.steps] == ["stop", "start"]
    assert not identity.alive(first)
    assert identity.alive(lab.known("demo"))


def test_a_program_that_does_not_say_when_it_is_ready_lives(lab: Lab) -> None:
    outcome = lab.run("demo", "started")
    assert (outcome.after.running, outcome.after.url) == (True, None)
    assert not lab.run("demo", "started").changed


def test_the_whole_group_ends_and_one_that_does_not_comply_is_killed(lab: Lab) -> None:
    outcome = lab.run("demo", "started", *READY, "--child", "--stubborn")
    child = identity.process(int(outcome.after.url.rpartition("/")[2]))
    assert child is not None
    lab.run("demo", "stopped", stop_timeout=0.1)
    assert not identity.alive(child)
    assert not identity.alive(lab.known("demo"))
    assert lab.warnings == ["demo did not end within 0.1 s of SIGTERM and was killed"]


def test_after_a_crash_it_is_stopped_and_starts_again(lab: Lab) -> None:
    lab.run("demo", "started", *READY)
    first = lab.known("demo")
    os.kill(first.pid, signal.SIGKILL)
    eventually(lambda: not identity.alive(first), "its end")
    assert not lab.run("demo", "stopped").changed
    outcome = lab.run("demo", "started", *READY)
    assert outcome.after.running
    assert lab.known("demo") != first


def test_a_stranger_with_the_number_is_not_signalled(lab: Lab) -> None:
    lab.run("demo", "started", *READY)
    lab.run("demo", "stopped")
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        path = lab.folder / "demo" / "process.json"
        values = json.loads(path.read_text())
        values["process"]["pid"] = stranger.pid
        path.write_text(json.dumps(values))
        assert not lab.run("demo", "stopped").changed
        lab.run("demo", "absent")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_play_killed_before_it_was_ready_leaves_one_that_is_waited_for(lab: Lab) -> None:
    outcome = lab.run("demo", "started", *READY)
    (lab.folder / "demo" / "ready.json").rename(lab.folder / "ready.json")
    seen = lab.change("demo", "started", *READY).observe()
    assert (seen.running, seen.ready) == (True, False)
    with pytest.raises(ProcessFailed, match="gave up waiting"):
        lab.run("demo", "started", *READY, ready_timeout=0.1)
    (lab.folder / "ready.json").rename(lab.folder / "demo" / "ready.json")
    assert not lab.run("demo", "started", *READY).changed
    assert lab.known("demo").pid == outcome.after.pid


def test_an_interrupted_start_leaves_no_process(lab: Lab) -> None:
    change = lab.change(
        "demo", argv=("/bin/sh", "-c", "kill -TERM $PPID; exec sleep 600", "{ready_file}")
    )
    with pytest.raises(Interrupted):
        run(change)
    assert not identity.alive(lab.known("demo"))


def test_without_a_record_nothing_of_the_program_runs(tmp_path: Path) -> None:
    # What a module that is killed leaves: a gate at whose other end nobody is.
    trace = tmp_path / "trace"
    gate = subprocess.Popen(
        ["/bin/sh", "-c", GATE, "sh", "touch", str(trace)], stdin=subprocess.PIPE
    )
    gate.communicate()
    assert gate.returncode != 0
    assert not trace.exists()


def test_standard_input_is_empty_and_nothing_else_is_inherited(lab: Lab) -> None:
    script = "ls -l /proc/self/fd; cat; exec sleep 600"
    lab.run("demo", argv=("/bin/sh", "-c", script))
    log = lab.folder / "demo" / "process.log"
    eventually(lambda: "/dev/null" in log.read_text(), "the list of open files")
    targets = [line.split(" -> ")[1] for line in log.read_text().splitlines() if " -> " in line]
    assert targets[0] == "/dev/null"
    assert all(target.startswith(("/dev/null", "/proc/", str(log))) for target in targets)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"argv": ("no-such-program",)}, "no-such-program is not a program that can be run"),
        ({"argv": ("/dev/null",)}, "is not a program that can be run"),
        ({"cwd": Path("/no/such/folder")}, "the working folder /no/such/folder does not exist"),
    ],
)
def test_what_cannot_be_run_is_said(lab: Lab, more: dict[str, Any], message: str) -> None:
    with pytest.raises(DeliveryError, match=message):
        lab.run("demo", **more)


def test_folders_that_cannot_be_used(lab: Lab, tmp_path: Path) -> None:
    (lab.folder / "file").write_text("x")
    (lab.folder / "link").symlink_to(tmp_path)
    (lab.folder / "foreign").mkdir()
    (lab.folder / "foreign" / "letters").write_text("dear")
    for name, state, message in (
        ("file", "started", "is not a folder"),
        ("link", "started", "is not a folder"),
        ("link", "absent", "is not a folder"),
        ("missing/demo", "started", "does not exist"),
        ("foreign", "absent", "is not the folder of a process"),
    ):
        with pytest.raises(DeliveryError, match=message):
            lab.run(name, state)
    assert (lab.folder / "foreign" / "letters").exists()
    (lab.folder / "empty").mkdir()
    assert lab.run("empty", "absent").changed
    (lab.folder / "link").unlink()
    for name in ("file", "foreign/letters"):
        (lab.folder / name).unlink()


def test_of_two_starts_at_once_one_is_refused(lab: Lab) -> None:
    late = lab.change("demo", "started", *READY)
    seen = late.observe()
    lab.run("demo", "started", *READY)
    (step,) = late.plan(seen)
    with pytest.raises(DeliveryError, match="was started by somebody else meanwhile"):
        late.apply(step, lambda undo, state="": None)
    assert identity.alive(lab.known("demo"))


def test_prune_in_plays(lab: Lab) -> None:
    for name in ("v1", "v2", "v3", "v4"):
        lab.run(name, "started", *READY)
    lab.run("v1", "stopped")
    (lab.folder / "data").mkdir()
    prune = {
        "name": "Prune",
        "immutable.delivery.local_process_prune": {
            "dir": str(lab.folder),
            "running": ["v4"],
            "keep": 1,
            "protect": [],
        },
    }
    play = run_play([prune], check=True, diff=True).ok()
    assert play[0].changed
    assert (play[0]["stopped"], play[0]["deleted"]) == (["v3", "v2"], ["v2", "v1"])
    assert play[0]["running"] == ["v4", "v3", "v2"]
    assert play[0]["diff"]["after"] == "v4: running\nv3: stopped\n"
    play = run_play([{**prune, "name": "First"}, {**prune, "name": "Second"}]).ok()
    first, second = play.results
    assert first.changed
    assert (first["stopped"], first["deleted"]) == (["v3", "v2"], ["v2", "v1"])
    assert first["running"] == ["v4"]
    assert [(seen["name"], seen["running"]) for seen in first["instances"]] == [
        ("v4", True),
        ("v3", False),
    ]
    assert first["instances"][0]["url"] == "http://127.0.0.1:1/"
    assert not second.changed
    assert sorted(entry.name for entry in lab.folder.iterdir()) == ["data", "v3", "v4"]
    missing = {"dir": str(lab.folder / "none"), "running": []}
    play = run_play([{"immutable.delivery.local_process_prune": missing}]).ok()
    assert (play[0].changed, play[0]["instances"]) == (False, [])
