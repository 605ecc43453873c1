# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe's folder, and that only the process that was started is ever taken for it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.identity import (
    ProcessId,
    process,
)
from ansible_collections.immutable.delivery.plugins.module_utils.traffic.control import (
    Observed,
    ProbeChange,
    end,
    make_report,
    observe,
)
from ansible_collections.immutable.delivery.plugins.module_utils.traffic.folder import (
    JOURNAL,
    RECORD,
    STATS,
    Folder,
    Journal,
    Record,
    own_identity,
    send_signal,
)
from ansible_collections.immutable.delivery.plugins.module_utils.traffic.readback import Written
from ansible_collections.immutable.delivery.plugins.module_utils.traffic.settings import Settings

SETTINGS = Settings("http://127.0.0.1:9")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(str(tmp_path / "a" / "probe"))
    made.make()
    return made


@contextmanager
def child(code: str) -> Iterator[subprocess.Popen[bytes]]:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def identity_of(child: subprocess.Popen[bytes]) -> ProcessId:
    found = process(child.pid)
    assert found is not None
    return found


def put(folder: Folder, process: ProcessId) -> None:
    folder.write(RECORD, Record(process, "r1", SETTINGS).as_json())


def test_the_folder_and_its_files_are_private(folder: Folder) -> None:
    put(folder, own_identity())
    Journal(folder).add(1, "a")
    assert folder.path.stat().st_mode & 0o777 == 0o700
    for name in (RECORD, JOURNAL):
        assert (folder.path / name).stat().st_mode & 0o777 == 0o600


def test_a_record_is_read_as_it_was_written(folder: Folder) -> None:
    assert folder.record() is None
    put(folder, own_identity())
    assert folder.record() == Record(own_identity(), "r1", SETTINGS)
    assert observe(folder).word == "running"
    folder.clear()
    assert observe(folder).word == "absent"


def test_another_process_with_the_same_number_is_not_signalled() -> None:
    with child("input()") as other:
        later = replace(identity_of(other), start=1)
        send_signal(later, signal.SIGKILL)
        assert other.poll() is None
        send_signal(identity_of(other), signal.SIGTERM)
        assert other.wait(30) == -signal.SIGTERM
        send_signal(later, signal.SIGKILL)


def test_a_process_that_does_not_listen_is_killed() -> None:
    with child(
        "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); input()"
    ) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        # So little patience: the probe's last request may take no longer than that.
        record = Record(identity_of(deaf), "r1", replace(SETTINGS, timeout=-14.5))
        end(Observed(record, running=True))
        assert deaf.wait(30) == -signal.SIGKILL


def test_the_half_of_a_line_is_no_write(folder: Folder) -> None:
    journal = Journal(folder)
    journal.add(0, "a")
    journal.add(1, 7)
    path = folder.path / JOURNAL
    path.write_bytes(path.read_bytes() + b'[2, "b')
    assert folder.acknowledged() == [Written(0, "a"), Written(1, 7)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (RECORD, b""),
        (RECORD, b"[]"),
        (RECORD, b"{}"),
        (RECORD, b'{"process": {"pid": 1}, "run": "r", "settings": {}}'),
        (RECORD, b"\xff\xfe"),
        (STATS, b"{"),
        (JOURNAL, b"nonsense\n"),
        (JOURNAL, b"[1]\n"),
    ],
)
def test_damaged_files_are_named(folder: Folder, name: str, content: bytes) -> None:
    (folder.path / name).write_bytes(content)
    with pytest.raises(DeliveryError, match=f"{name} is damaged"):
        folder.record(), folder.stats(), folder.acknowledged()


def test_a_folder_in_which_others_can_write_is_refused(folder: Folder) -> None:
    folder.path.chmod(0o777)
    with pytest.raises(DeliveryError, match="writable by everybody"):
        observe(folder)


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeliveryError):
        Folder(str(tmp_path / "file")).make()
    with pytest.raises(DeliveryError):
        Folder(str(tmp_path / "file" / "below")).make()
    with pytest.raises(DeliveryError, match="not a folder"):
        observe(Folder(str(tmp_path / "file")))


def test_two_tasks_at_once(folder: Folder) -> None:
    with (
        folder.locked(),
        pytest.raises(DeliveryError, match="another task"),
        folder.locked(),
    ):
        pass
    with folder.locked():
        pass


@pytest.mark.parametrize(
    ("state", "running", "other", "actions"),
    [
        ("started", None, False, ["start"]),
        ("started", False, False, ["start"]),
        ("started", False, True, ["start"]),
        ("started", True, False, []),
        ("stopped", None, False, []),
        ("stopped", False, False, []),
        ("stopped", True, False, ["stop"]),
        ("reported", None, False, []),
        ("reported", True, False, []),
    ],
)
def test_plans(
    tmp_path: Path, state: str, running: bool | None, other: bool, actions: list[str]
) -> None:
    settings = replace(SETTINGS, rate=99.0) if other else SETTINGS
    record = None if running is None else Record(own_identity(), "r1", settings)
    wanted = SETTINGS if state == "started" else None
    change = ProbeChange(Folder(str(tmp_path)), state, wanted)
    observed = Observed(record, bool(running))
    steps = change.plan(observed)
    assert [step.action for step in steps] == actions
    changes = change.describe(observed) != change.expected(observed, steps)
    assert changes == bool(actions)


def test_another_probe_is_not_replaced(tmp_path: Path) -> None:
    observed = Observed(Record(own_identity(), "r1", replace(SETTINGS, rate=99.0)), True)
    with pytest.raises(DeliveryError, match=r"other options \(rate\)"):
        ProbeChange(Folder(str(tmp_path)), "started", SETTINGS).plan(observed)


def test_the_report_of_a_probe_that_was_killed_before_it_wrote_any(folder: Folder) -> None:
    put(folder, replace(own_identity(), start=1))
    Journal(folder).add(0, "a")
    report = make_report(folder, observe(folder), False, 1)
    assert report is not None
    assert report["ended"] == "killed"
    assert report["writes"]["acknowledged"] == 1
    assert report["writes"]["unchecked"] == 1
