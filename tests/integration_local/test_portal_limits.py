# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of the machine and of the portal: full disks, little memory, locks that lapse."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.front import Spoil, after, front_of, on
from tests.support.modules import Ended, run_module
from tests.support.portal import KEY, Portal
from tests.support.portal_harness import (
    COUNTS,
    HOST,
    entities,
    left_in,
    look,
    running_portal,
    unlock,
)
from tests.unit.plugins.module_utils.loopback import Answer, Seen, refusing, serving

MIB = 1 << 20
LARGE = 150 * MIB
PEAK = 100 * MIB


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    with running_portal(tmp_path_factory.mktemp("limits") / "portal") as running:
        yield running


def export(folder: Path, url: str, dest: Path, **options: Any) -> Ended:
    prepare = options.pop("prepare", None)
    arguments = {"api_url": url, "host_header": HOST, "deployment_key": KEY, "dest": dest}
    return run_module(folder, "portal_export", {**arguments, **options}, prepare=prepare)


def no_large_files() -> None:
    """Let no file of this process grow beyond 64 KiB: what any user can do to be out of room."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, 64 * 1024))


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount 64 KiB at *folder* where that is allowed; tells whether it was."""
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def without_length(answer: Answer) -> Answer:
    """Send the body in chunks, so that nobody knows how long it will be."""
    body = bytes(answer.body)
    return replace(answer, body=iter([body[: len(body) // 2], body[len(body) // 2 :]]))


def full(portal: Portal, tmp_path: Path, dest: Path, spoil: Spoil | None, **options: Any) -> str:
    """Export onto a full disk; return the message, once nothing is seen to be left or changed."""
    data = entities(portal)
    dest.write_bytes(b"yesterday")
    with front_of(portal.url, {"case": spoil} if spoil else {}) as front:
        ended = export(tmp_path, front.of("case"), dest, **options)
    assert ended.code == 1, ended.output
    assert left_in(dest.parent) == [dest.name]
    assert dest.read_bytes() == b"yesterday"
    assert look(portal) == (False, data)
    assert ended.result["msg"].endswith(
        "The lock is given back. "
        "Make room or give another dest; an archive that was there is untouched."
    ) or ended.result["msg"].endswith(
        "No partial file is left. The lock is given back. "
        "Make room or give another dest; an archive that was there is untouched."
    )
    return str(ended.result["msg"])


def test_a_file_that_may_not_grow_is_like_a_full_disk(portal: Portal, tmp_path: Path) -> None:
    folder = tmp_path / "dest"
    folder.mkdir()
    told = full(portal, tmp_path, folder / "archive", None, prepare=no_large_files)
    assert told.startswith(
        f"cannot write the archive for {folder}/archive or read it back: File too large. "
    )


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "not announced"])
def test_a_full_disk(portal: Portal, tmp_path: Path, announced: bool) -> None:
    """A small file system where root can mount one; elsewhere a limit takes its place."""
    folder = tmp_path / "dest"
    folder.mkdir()
    spoil = None if announced else on("GET", "/data", lambda seen, go: without_length(go()))
    with small_disk(folder) as mounted:
        prepare = None if mounted else no_large_files
        told = full(portal, tmp_path, folder / "archive", spoil, prepare=prepare)
    if mounted and announced:
        assert "no room for the archive at" in told
    elif mounted:
        assert "read it back: No space left on device" in told
    else:
        assert "File too large" in told


def test_a_folder_that_takes_no_file_is_told_before_anybody_has_to_wait(
    portal: Portal, tmp_path: Path
) -> None:
    """In /proc not even root can make a file."""
    with front_of(portal.url) as front:
        ended = export(tmp_path, front.of("case"), Path("/proc/self/archive"))
    assert ended.result["msg"] == (
        "the folder of dest is not writable: /proc/self. Nothing was changed. "
        "Give another dest, or run the task as a user who may write there."
    )
    assert front.calls == {}


def test_an_unreachable_portal(tmp_path: Path) -> None:
    with refusing() as url:
        ended = export(tmp_path, url, tmp_path / "archive", host_header=None)
    assert ended.result["msg"] == (
        f"{url} cannot be reached: Connection refused. Nothing was changed. "
        "Check the address, and that the server runs."
    )
    assert not (tmp_path / "archive").exists()


def test_calls_beyond_the_portals_limit_are_waited_out(tmp_path: Path) -> None:
    answered: list[int] = []

    def note(answer: Answer) -> Answer:
        answered.append(answer.status)
        return answer

    with (
        running_portal(tmp_path / "portal", filled=False, rate=2, rate_window=1.5) as portal,
        front_of(portal.url, {"case": after(note)}) as front,
    ):
        ended = export(tmp_path, front.of("case"), tmp_path / "archive")
        assert not ended.result.get("failed"), ended.output
        assert not portal.locked()
    assert 429 in answered


def test_an_export_of_somebody_else_is_waited_out_until_it_lapses(tmp_path: Path) -> None:
    with running_portal(tmp_path / "portal", lock_seconds=2) as portal:
        portal.begin_export()
        ended = export(tmp_path, portal.url, tmp_path / "archive", conflict_timeout=60)
    assert ended.result["contents"] == COUNTS, ended.output


def test_a_lock_that_lapses_is_noticed(tmp_path: Path, portal: Portal) -> None:
    kept = export(tmp_path, portal.url, tmp_path / "archive", lock="keep")
    arguments = {
        "api_url": portal.url,
        "host_header": HOST,
        "deployment_key": KEY,
        "export_id": kept.result["export_id"],
        "expires_at": kept.result["lock"]["expires_at"],
    }
    assert run_module(tmp_path, "portal_lock", arguments).result["held"] is True
    unlock(portal)
    lapsed = run_module(tmp_path, "portal_lock", arguments)
    assert lapsed.result["kind"] == "lapsed"
    assert "the lock has lapsed" in lapsed.result["msg"]


def test_a_cancellation_while_the_export_runs_is_followed_up(
    tmp_path: Path, portal: Portal
) -> None:
    """The portal answers 202 and cancels when it can; the task's time is up meanwhile."""
    portal.faults(export_never_done=True, cancel_slow=1)
    ended = export(tmp_path, portal.url, tmp_path / "archive", timeout=1.5)
    assert ended.result["kind"] == "timeout"
    assert "The lock is given back." in ended.result["msg"]
    assert not portal.locked()
    unlock(portal)


class Bulk:
    """A portal that only moves bytes: *archive* out, and whatever comes in into nothing."""

    def __init__(self, archive: Path, sha256: str) -> None:
        self.archive = archive
        self.sha256 = sha256

    def __call__(self, seen: Seen) -> Answer:
        last = seen.path.rsplit("/", 1)[-1]
        if seen.method == "POST":
            received = hashlib.sha256(seen.body).hexdigest()
            assert last == "export" or received == self.sha256
            return Answer(201, {}, b'{"exportId": "abc", "importId": "abc"}')
        if last == "data":
            headers = {"X-SHA256-Hash": self.sha256, "Content-Length": str(LARGE)}
            return Answer(200, headers, self._pieces())
        return Answer(200 if last == "status" else 204)

    def _pieces(self) -> Iterator[bytes]:
        with self.archive.open("rb") as file:
            while piece := file.read(MIB):
                yield piece


def test_a_large_archive_takes_little_memory(tmp_path: Path) -> None:
    archive = tmp_path / "large"
    digest = hashlib.sha256()
    with archive.open("wb") as file:
        piece = os.urandom(MIB)
        for number in range(LARGE // MIB):
            file.write(digest.update(piece) or piece)
            piece = piece[number % 7 + 1 :] + piece[: number % 7 + 1]
    dest = tmp_path / "archive"
    with serving(Bulk(archive, digest.hexdigest())) as server:
        exported = export(tmp_path, server.url, dest, verify_archive=False)
        assert exported.result["size"] == LARGE, exported.output
        arguments = {"api_url": server.url, "deployment_key": KEY, "src": dest}
        imported = run_module(tmp_path, "portal_import", arguments)
        assert imported.result["sha256"] == digest.hexdigest(), imported.output
    assert 0 < exported.peak < PEAK
    assert 0 < imported.peak < PEAK
