# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of the host that containers mount: which they are, and what counts as a change."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.compose import host_files as under
from ansible_collections.immutable.delivery.plugins.module_utils.compose.decision import (
    State,
    decide,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.host_files import (
    HostFile,
    find_mounted,
    host_files,
)

from .world import instance, service, wanted

MODEL = {
    "configs": {"a": {"file": "/srv/a"}, "inline": {"content": "x"}},
    "secrets": {"b": {"file": "/srv/b"}, "variable": {"environment": "X"}},
}


def test_files_are_found_where_the_files_give_them() -> None:
    spec: dict[str, Any] = {
        "volumes": [
            {"type": "bind", "source": "/srv/c", "target": "/c"},
            {"type": "bind", "source": "/srv/d", "target": "/d", "read_only": True},
            {"type": "volume", "source": "data", "target": "/data"},
            {"type": "tmpfs", "target": "/tmp"},
        ],
        "configs": [{"source": "a"}, {"source": "inline"}],
        "secrets": [{"source": "b"}, {"source": "b", "target": "/etc/b"}, {"source": "variable"}],
    }
    assert [(str(one.path), one.target, one.read_only) for one in host_files(MODEL, spec)] == [
        ("/srv/c", "/c", False),
        ("/srv/d", "/d", True),
        ("/srv/a", "/a", True),
        ("/srv/b", "/run/secrets/b", True),
        ("/srv/b", "/etc/b", True),
    ]


def replace_with(content: str) -> Callable[[Path], object]:
    def act(path: Path) -> None:
        fresh = path.with_name("fresh")
        fresh.write_text(content)
        fresh.replace(path)

    return act


def append(path: Path) -> None:
    path.write_text("one, two")


def nothing(path: Path) -> None:
    path.read_text()


def test_it_is_named_as_in_the_files() -> None:
    assert HostFile(Path("/srv/shop/etc/x"), "/x", True).shown(Path("/srv/shop")) == "./etc/x"
    assert HostFile(Path("/etc/x"), "/x", True).shown(Path("/srv/shop")) == "/etc/x"


@pytest.mark.parametrize(
    ("act", "read_only", "changed"),
    [
        (nothing, True, (False, False)),
        (replace_with("two"), True, (True, True)),
        (replace_with("two"), False, (True, False)),
        # Who cannot look at the container replaces it once too often.
        (replace_with("one"), True, (False, True)),
        (append, True, (True, True)),
        # It may have been the container.
        (append, False, (False, False)),
        (Path.unlink, True, (False, False)),
    ],
)
def test_what_counts_as_a_change(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Path], object],
    read_only: bool,
    changed: tuple[bool, bool],
) -> None:
    path, mounted = tmp_path / "conf", tmp_path / "mounted"
    path.write_text("one")
    os.link(path, mounted)  # the container has the inode
    started = time.time_ns()
    time.sleep(0.02)
    act(path)
    file = HostFile(path, "/conf", read_only)
    assert file.changed("c", 0, started) is changed[1]
    monkeypatch.setattr(under, "find_mounted", lambda *_given: mounted)
    assert file.changed("c", 1, started) is changed[0]


def test_a_link_to_another_file_is_a_change(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "conf").write_text(name)
    (tmp_path / "current").symlink_to("first")
    file = HostFile(tmp_path / "current" / "conf", "/conf", True)
    time.sleep(0.02)
    started = time.time_ns()
    time.sleep(0.02)
    assert not file.changed("c", 0, started)
    (tmp_path / "next").symlink_to("second")
    (tmp_path / "next").replace(tmp_path / "current")
    assert file.changed("c", 0, started)


def test_folders_and_what_is_missing_are_not_compared(tmp_path: Path) -> None:
    assert not HostFile(tmp_path, "/data", True).changed("c", 0, 0)
    assert not HostFile(tmp_path / "none", "/data", True).changed("c", 0, 0)


def test_another_process_of_that_number_is_not_taken_for_the_container() -> None:
    assert find_mounted("0" * 64, os.getpid(), "/proc") is None
    assert find_mounted("0" * 64, 0, "/proc") is None


def test_what_is_outdated_is_replaced_for_its_own_reason() -> None:
    web = service("web", scale=2)
    state = State({"web": [instance(web), instance(web, 2)]})
    want = wanted(web, outdated={"web-2": "its file ./x changed"})
    decision = decide(want, state)["web"]
    assert [one.id for one in decision.keep] == ["web-1"]
    assert [(one.id, why) for one, why in decision.olds] == [("web-2", "its file ./x changed")]
    assert decision.news == 1
