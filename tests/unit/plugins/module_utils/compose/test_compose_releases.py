# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The releases of a project that can come back: which, how many, and the file they are in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.compose.engine_state import Image
from ansible_collections.immutable.delivery.plugins.module_utils.compose.extension import (
    Extensions,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.history import keep
from ansible_collections.immutable.delivery.plugins.module_utils.compose.releases import (
    NoRelease,
    Release,
    Releases,
    path_of,
    read_releases,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.strategies import Given
from ansible_collections.immutable.delivery.plugins.module_utils.engine.options import Connection
from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError

from .world import service, wanted


def release(version: str) -> Release:
    project = wanted(service("web", environment={"V": version})).project
    image = Image(f"sha256:{version}", digests=(f"r/web@sha256:{version}",))
    return Release.of(project, {"web": image}, Extensions({"web": {"shared": True}}))


V1, V2, V3 = release("1"), release("2"), release("3")


def test_the_release_before_the_newest_comes_back_once(tmp_path: Path) -> None:
    found = Releases(tmp_path / "p.json")
    for one in (V1, V2, V2, V3):
        found = found.with_newest(one, 1)
    assert found.found == (V2, V3)
    assert found.back == V2
    back = found.gone_back()
    assert (back.found, back.back, back.gone_back()) == ((V2,), V2, back)
    # What is deployed then is what the next one goes back from.
    again = back.with_newest(V3, 1)
    assert (again.back, again.went_back) == (V2, False)
    # A run that changes nothing after it changes nothing here either.
    assert back.with_newest(V2, 1) == back


def test_more_of_them_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    found = Releases(tmp_path / "p.json")
    for one in (V1, V2, V3):
        found = found.with_newest(one, 2)
    assert found.found == (V1, V2, V3)


def test_without_a_former_one_nothing_comes_back(tmp_path: Path) -> None:
    for found in ((), (V1,)):
        with pytest.raises(NoRelease, match=r"p\.json has no release"):
            str(Releases(tmp_path / "p.json", found).back)


def test_what_is_kept_is_read_again_and_is_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "new" / "p.json"
    found = Releases(path, (V1, V2), True)
    found.write()
    assert read_releases(path) == found
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [one.name for one in path.parent.iterdir()] == ["p.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1}', "\0"])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(DeliveryError, match="cannot be read") as refused:
        read_releases(path)
    assert "Move the file away" in refused.value.next_step


def test_projects_of_one_name_on_two_engines_have_a_file_each() -> None:
    folder = Path("/r")
    names = {
        path_of(folder, "p", Connection(host)).name
        for host in ("unix:///var/run/docker.sock", "tcp://a:2376", "tcp://b:2376")
    }
    assert len(names) == 3 and "p.json" in names


def test_a_run_of_some_services_keeps_what_stands_of_the_others(tmp_path: Path) -> None:
    def of(web: str, worker: str, *names: str) -> Release:
        both = [
            service("web", environment={"V": web}),
            service("worker", environment={"V": worker}),
        ]
        project = wanted(*both).project
        ran = {name: project.services[name] for name in names}
        images = {"web": Image(f"sha256:web{web}"), "worker": Image(f"sha256:worker{worker}")}
        return Release.of(replace(project, services=ran), images, Extensions())

    first = of("1", "1", "web", "worker")
    # The files have version 2 of both.
    second = of("2", "2", "web").upon(first)
    assert second == of("2", "1", "web", "worker")
    assert of("2", "2", "worker").upon(second) == of("2", "2", "web", "worker")
    # What has never run, and what the files do not have any more, is no part of it.
    assert of("2", "2", "web").upon(of("1", "1", "web")) == of("2", "2", "web")
    assert V2.upon(first) == V2


def test_where_none_is_kept_no_older_one_comes_back(tmp_path: Path) -> None:
    params = {"releases_dir": str(tmp_path), "services": []}
    project = wanted(service("web")).project
    session: Any = SimpleNamespace(
        check_mode=False, params=params, release=None, connection=Connection("unix:///s")
    )
    for most, there in ((1, True), (0, False), (0, False), (1, True)):
        params["keep_releases"] = most
        keep(session, project, Given(), {})
        assert (tmp_path / "p.json").exists() is there
