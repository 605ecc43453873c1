# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a killed process leaves is removed, and nothing else."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.portal import part
from ansible_collections.immutable.delivery.plugins.module_utils.portal.part import make_part, sweep


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def test_a_part_takes_its_files_place(dest: Path) -> None:
    dest.write_text("older")
    made = make_part(dest)
    made.file.write(b"newer")
    assert dest.read_text() == "older"
    made.place(dest)
    made.discard()
    assert dest.read_text() == "newer"
    assert names(dest.parent) == ["archive"]


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_is_not(dest: Path) -> None:
    left, used = make_part(dest), make_part(dest)
    left.file.close()
    # Of a backup, each of which has a name of its own.
    make_part(dest.with_name("earlier")).file.close()
    sweep(dest.parent)
    assert names(dest.parent) == [used.path.name]
    used.discard()
    assert names(dest.parent) == []


@pytest.mark.parametrize(
    "name",
    [
        "archive",
        "archive.abcdefgh.portal-part",
        ".archive.portal-part",
        ".archive.abc.portal-part",
        ".archive.ABCDEFGH.portal-part",
        ".archive.abcdefgh.portal-part.old",
        ".archive.abcdefgh.part",
        "x.archive.abcdefgh.portal-part",
    ],
)
def test_what_is_no_part_stays(dest: Path, name: str) -> None:
    (dest.parent / name).touch()
    sweep(dest.parent)
    assert names(dest.parent) == [name]


def test_what_is_no_file_stays(dest: Path) -> None:
    folder = dest.parent
    (folder / ".archive.aaaaaaaa.portal-part").mkdir()
    (folder / "target").touch()
    (folder / ".archive.bbbbbbbb.portal-part").symlink_to("target")
    os.mkfifo(folder / ".archive.cccccccc.portal-part")
    before = names(folder)
    sweep(dest.parent)
    assert names(folder) == before


@pytest.mark.parametrize("name", ["a[b]*?", "ü" * 60, "-", "a b\nc"])
def test_any_name_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    make_part(tmp_path / name).file.close()
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_sweeping_where_nothing_can_be_done_is_quiet(tmp_path: Path) -> None:
    sweep(tmp_path / "missing")


def test_without_locks_nothing_is_swept_and_a_part_is_made_all_the_same(
    dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(_handle: int, _operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(part.fcntl, "flock", no_locks)
    make_part(dest).file.close()
    sweep(dest.parent)
    assert len(names(dest.parent)) == 1


@pytest.mark.parametrize("so_far", ["locked", "removed"])
def test_a_part_that_somebody_sweeps_before_it_is_locked_is_made_again(
    dest: Path, monkeypatch: pytest.MonkeyPatch, so_far: str
) -> None:
    flock, others = fcntl.flock, []

    def beaten_once(handle: int, operation: int) -> None:
        if not others:
            new = next(dest.parent.iterdir())
            others.append(new.open("rb"))
            if so_far == "locked":
                flock(others[0], fcntl.LOCK_EX)
            else:
                new.unlink()
        flock(handle, operation)

    monkeypatch.setattr(part.fcntl, "flock", beaten_once)
    made = make_part(dest)
    others[0].close()
    assert names(dest.parent) == [made.path.name]
    made.discard()


def test_a_part_that_is_always_swept_is_an_error(
    dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def removed(_handle: int, _operation: int) -> None:
        next(dest.parent.iterdir()).unlink()

    monkeypatch.setattr(part.fcntl, "flock", removed)
    with pytest.raises(OSError, match="removes the new files"):
        make_part(dest)
    assert names(dest.parent) == []
