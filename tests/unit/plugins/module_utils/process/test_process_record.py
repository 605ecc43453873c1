# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of a process, and who is who among processes."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils import identity, redaction
from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.process import record


def myself() -> identity.ProcessId:
    found = identity.process(os.getpid())
    assert found is not None
    return found


def a_record() -> record.Record:
    return record.Record(
        name="demo",
        argv=("a", "b c", "\u00e4"),
        cwd="/",
        environment=record.digest({"KEY": "secret"}),
        process=myself(),
        started_at="2026-01-01T00:00:00+00:00",
        log_offset=7,
    )


def test_a_record_comes_back_as_it_was_and_is_private(tmp_path: Path) -> None:
    wanted = a_record()
    record.write_record(tmp_path, wanted)
    assert record.read_record(tmp_path) == wanted
    assert (tmp_path / record.RECORD).stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == [record.RECORD]
    assert "secret" not in (tmp_path / record.RECORD).read_text()


def test_no_record(tmp_path: Path) -> None:
    assert record.read_record(tmp_path) is None
    assert record.read_record(tmp_path / "missing") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000, b" " * (record.LIMIT + 1), b'{"argv": [1]}'],
)
def test_a_damaged_record_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / record.RECORD).write_bytes(content)
    with pytest.raises(DeliveryError, match="cannot be read"):
        record.read_record(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("argv", "a b"),
        ("argv", [1]),
        ("name", None),
        ("log_offset", True),
        ("process", None),
        ("process", {"pid": 1}),
    ],
)
def test_a_record_with_a_wrong_field_is_an_error(tmp_path: Path, field: str, value: Any) -> None:
    record.write_record(tmp_path, a_record())
    values = json.loads((tmp_path / record.RECORD).read_text())
    (tmp_path / record.RECORD).write_text(json.dumps({**values, field: value}))
    with pytest.raises(DeliveryError, match="cannot be read"):
        record.read_record(tmp_path)


@pytest.mark.parametrize("pid", [0, -1, True, "1", None, 1.5])
def test_a_number_that_means_more_than_one_process_is_refused(pid: Any) -> None:
    with pytest.raises(ValueError, match="number"):
        identity.ProcessId.from_dict({**myself().as_dict(), "pid": pid})


def test_only_the_same_environment_is_the_same() -> None:
    known = record.digest({"A": "1", "B": "2"})
    assert record.same_environment({"B": "2", "A": "1"}, known)
    assert not record.same_environment({"A": "1"}, known)
    assert not record.same_environment({"A": "12"}, known)
    assert known != record.digest({"A": "1", "B": "2"})
    for damaged in ("", "zz:00", known[:-1], known.replace(":", "")):
        assert not record.same_environment({"A": "1", "B": "2"}, damaged)


def test_i_am_alive_and_my_namesakes_are_not() -> None:
    me = myself()
    assert identity.alive(me)
    assert not identity.alive(replace(me, start=me.start + 1))
    for other in ("boot", "namespace"):
        machine = replace(me.machine, **{other: "another"})
        assert not identity.alive(replace(me, machine=machine))
    assert identity.ProcessId.from_dict(json.loads(json.dumps(me.as_dict()))) == me


def test_one_that_ended_and_was_not_collected_is_not_alive() -> None:
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        known = identity.process(child.pid)
        assert known is not None
        assert identity.alive(known)
        assert list(identity.group_members(child.pid)) == [child.pid]
        child.kill()
        # It can be waited for without being collected: it stays in the table as a zombie.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{child.pid}").exists()
        assert not identity.alive(known)
        assert identity.process(child.pid) is None
        assert list(identity.group_members(child.pid)) == []
    finally:
        child.kill()
        child.wait()


def test_a_program_name_with_parentheses_does_not_confuse(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 (b"
    odd.write_text("#!/bin/sh\nread -r line\n")
    odd.chmod(0o700)
    child = subprocess.Popen([str(odd)], stdin=subprocess.PIPE, start_new_session=True)
    try:
        known = identity.process(child.pid)
        assert known is not None
        assert known.start > 1
        assert list(identity.group_members(child.pid)) == [child.pid]
    finally:
        child.communicate(b"\n")


def test_a_machine_after_its_boot_is_the_same_machine() -> None:
    here = identity.this_machine()
    assert here.boot
    assert replace(here, boot="earlier").was(here) is True
    assert here.was(here) is False
    assert replace(here, boot="earlier", host="other").was(here) is False


@pytest.mark.parametrize(
    ("content", "url"),
    [
        ('{"url": "http://127.0.0.1:1", "pid": 5}', "http://127.0.0.1:1"),
        ('{"url": "http://127.0.0.1:1"}', "http://127.0.0.1:1"),
        ('{"url": 5}', None),
        ('{"url": "http', None),
        ("", None),
        ("[]", None),
    ],
)
def test_ready(tmp_path: Path, content: str, url: str | None) -> None:
    (tmp_path / record.READY).write_text(content)
    ready = record.read_ready(tmp_path)
    assert (ready.url if ready else None) == url


def test_last_lines_hide_secrets_and_begin_at_this_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redaction, "KNOWN", redaction.Redaction(["s3cret", "s3cret-longer"]))
    (tmp_path / record.LOG).write_bytes(b"earlier\nthe key is s3cret-longer\n\n\x1b[31mred\xff\n")
    lines = record.last_lines(tmp_path, offset=8)
    assert lines == ["the key is ********", "red\ufffd"]
    assert record.last_lines(tmp_path / "missing") == []
    # Of a log that is cut before a secret's end, the rest of that is not shown.
    (tmp_path / record.LOG).write_bytes(b"the key is s3cret-longer\n" + b"x\n" * (32 * 1024 - 3))
    assert set(record.last_lines(tmp_path)) == {"x"}
    (tmp_path / record.LOG).write_bytes(
        b"the key is s3cret-longer\n" + b"x" * (64 * 1024 - 7) + b"\n"
    )
    assert record.last_lines(tmp_path) == ["x" * 300]
    (tmp_path / record.LOG).write_bytes(b"a\nb\nc\n")
    # Emptied by somebody meanwhile: better all of it than nothing.
    assert len(record.last_lines(tmp_path, offset=10_000)) == 3
