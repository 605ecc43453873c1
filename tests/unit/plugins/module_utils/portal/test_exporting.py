# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an export does where the room runs out, without filling a disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.change import run
from ansible_collections.immutable.delivery.plugins.module_utils.http import Http
from ansible_collections.immutable.delivery.plugins.module_utils.portal import exporting
from ansible_collections.immutable.delivery.plugins.module_utils.portal.client import PortalClient
from ansible_collections.immutable.delivery.plugins.module_utils.portal.exporting import (
    DestError,
    ExportChange,
    Exported,
)
from ansible_collections.immutable.delivery.plugins.module_utils.portal.jobs import Patience
from ansible_collections.immutable.delivery.plugins.module_utils.portal.plan import ExportWanted

from ..loopback import Answer, Seen, Server, serving

ARCHIVE = b"an archive" * 100


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def answer(seen: Seen) -> Answer:
    if seen.method == "POST":
        return Answer(201, {}, b'{"exportId": "abc"}')
    if seen.path.endswith("/data"):
        return Answer(200, {"X-SHA256-Hash": hashlib.sha256(ARCHIVE).hexdigest()}, ARCHIVE)
    return Answer(200 if seen.path.endswith("/status") else 204)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(answer) as running:
        yield running


def export(server: Server, dest: Path) -> Exported:
    wanted = ExportWanted(str(dest), keep_lock=False, verify=False)
    change = ExportChange(PortalClient(Http(server.url)), "the-key", wanted, Patience())
    return run(change).after


def test_an_export_is_written_whole(server: Server, tmp_path: Path) -> None:
    dest = tmp_path / "archive"
    dest.symlink_to(tmp_path / "elsewhere")
    assert export(server, dest).size == len(ARCHIVE)
    assert dest.read_bytes() == ARCHIVE
    assert list(tmp_path.iterdir()) == [dest], "a link is replaced, not followed"


def test_a_very_long_name_is_no_problem(server: Server, tmp_path: Path) -> None:
    dest = tmp_path / ("n" * 255)
    export(server, dest)
    assert dest.read_bytes() == ARCHIVE


def test_an_archive_without_room_for_it_is_not_begun(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting.shutil, "disk_usage", lambda path: Usage(10, 1, 999))
    with pytest.raises(DestError) as raised:
        export(server, tmp_path / "archive")
    assert str(raised.value) == (
        f"no room for the archive at {tmp_path}/archive: it has 1000 bytes, 999 are free. "
        "The lock is given back. "
        "Make room or give another dest; an archive that was there is untouched."
    )
    assert list(tmp_path.iterdir()) == []
    assert server.seen[-1].method == "DELETE"


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_disk_that_fills_up_meanwhile_leaves_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting.os, call, full)
    with pytest.raises(DestError) as raised:
        export(server, tmp_path / "archive")
    assert raised.value.message == (
        f"cannot write the archive for {tmp_path}/archive or read it back: No space left on device"
    )
    assert raised.value.state == "No partial file is left. The lock is given back."
    assert list(tmp_path.iterdir()) == []
    assert server.seen[-1].method == "DELETE"


def test_a_short_write_is_continued(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(exporting.os, "write", lambda handle, data: write(handle, data[:7]))
    export(server, tmp_path / "archive")
    assert (tmp_path / "archive").read_bytes() == ARCHIVE
