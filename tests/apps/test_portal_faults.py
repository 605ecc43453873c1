# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults that other tests ask of the stand-in portal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.apps import AppDidNotStart
from tests.support.archives import tar_of, user_files
from tests.support.made_archives import encrypted
from tests.support.portal import KEY, Portal, start_portal
from tests.support.waiting import eventually

ARCHIVE = encrypted(tar_of(user_files(5)), KEY)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    with start_portal(tmp_path_factory.mktemp("portal")) as portal:
        yield portal


@pytest.fixture
def portal(running: Portal) -> Iterator[Portal]:
    """Unlocked and free of faults before and after."""
    yield running
    running.faults(lapse_now=True)
    assert not running.locked()


def test_an_export_can_fail_and_keeps_its_lock_until_it_is_cancelled(portal: Portal) -> None:
    portal.faults(export_fails=True)
    export_id = portal.begin_export()
    status = portal.wait_for(f"export/{export_id}/status")
    assert (status.status_code, status.json()["status"]) == (422, 3)
    assert status.json()["message"]
    assert portal.deploy("GET", f"export/{export_id}/data").status_code == 400
    assert portal.locked()
    assert portal.deploy("POST", "export").status_code == 409
    assert portal.deploy("DELETE", f"export/{export_id}").status_code == 204
    assert not portal.locked()


def test_an_import_can_fail_and_changes_nothing(portal: Portal) -> None:
    before = portal.counts()
    portal.faults(import_fails=True)
    status = portal.import_archive(ARCHIVE)
    assert (status.status_code, status.json()["status"]) == (422, 3)
    assert status.json()["message"]
    assert portal.counts() == before
    assert not portal.locked()


def test_an_export_can_hang_until_it_is_cancelled(portal: Portal) -> None:
    portal.faults(export_never_done=True)
    export_id = portal.begin_export()
    assert portal.deploy("GET", f"export/{export_id}/status").status_code == 204
    assert portal.deploy("DELETE", f"export/{export_id}").status_code == 202
    assert portal.wait_for(f"export/{export_id}/status").status_code == 410


def test_the_download_can_be_cut_off_or_carry_a_wrong_hash(portal: Portal) -> None:
    export_id, archive = portal.export()
    path = f"export/{export_id}/data"
    portal.faults(truncate_data=100)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        portal.deploy("GET", path)
    portal.faults(wrong_hash=True)
    wrong = portal.deploy("GET", path)
    assert wrong.content == archive
    assert wrong.headers["X-SHA256-Hash"] != hashlib.sha256(archive).hexdigest()
    portal.faults()
    assert portal.deploy("GET", path).content == archive


def test_the_deploy_api_can_answer_html(portal: Portal) -> None:
    portal.faults(html_answers=True)
    response = portal.deploy("POST", "export")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    assert not portal.locked()


def test_chosen_requests_lose_their_connection_so_often(portal: Portal) -> None:
    portal.faults(drop_connection_on="POST /users", drop_times=1)
    with pytest.raises(requests.ConnectionError):
        portal.sign_up("Dropped")
    assert portal.call("GET", "/users").status_code == 200
    assert portal.sign_up("Dropped").status_code == 201
    portal.faults(drop_connection_on=["GET /deploy/v1/export/", "* /health"])
    for path in ("/deploy/v1/export/x/status", "/health"):
        with pytest.raises(requests.ConnectionError):
            portal.call("GET", path)
    portal.faults()


def test_ordinary_requests_can_be_slow(portal: Portal) -> None:
    portal.faults(slow_ms=300)
    with pytest.raises(requests.exceptions.ReadTimeout):
        portal.call("GET", "/health", timeout=0.1)
    assert portal.call("GET", "/health").elapsed.total_seconds() >= 0.3
    portal.faults()


def test_the_lock_can_lapse_now(portal: Portal) -> None:
    export_id, _archive = portal.export()
    assert portal.locked()
    portal.faults(lapse_now=True)
    assert not portal.locked()
    for path in ("status", "data"):
        assert portal.deploy("GET", f"export/{export_id}/{path}").status_code == 404
    eventually(lambda: not portal.leavings(), "tmp/ is empty")


def test_cancelling_can_take_several_calls(portal: Portal) -> None:
    portal.faults(cancel_slow=2)
    export_id, _archive = portal.export()
    answers: list[int] = []
    while not answers or answers[-1] == 202:
        assert portal.locked()
        answers.append(portal.deploy("DELETE", f"export/{export_id}").status_code)
    assert answers == [202, 202, 204]
    assert not portal.locked()


@pytest.mark.parametrize(
    "faults",
    [
        {"unknown": True},
        {"export_fails": 1},
        {"truncate_data": "x"},
        {"truncate_data": True},
        {"slow_ms": -1},
        {"drop_connection_on": 5},
        [],
    ],
)
def test_unknown_faults_are_refused(portal: Portal, faults: object) -> None:
    response = portal.call("PUT", "/faults", json=faults)
    assert response.status_code == 400
    assert response.json()["message"]


def test_faults_come_from_the_environment_too(tmp_path: Path) -> None:
    env = {"PORTAL_FAULTS": json.dumps({"html_answers": True})}
    with start_portal(tmp_path, env=env, allow_faults=False) as portal:
        assert portal.deploy("POST", "export").text.startswith("<html>")
        # And nobody changes them who was not allowed to.
        assert portal.call("PUT", "/faults", json={}).status_code == 404
    with (
        pytest.raises(AppDidNotStart) as caught,
        start_portal(tmp_path, env={"PORTAL_FAULTS": "{"}),
    ):
        pass
    assert caught.value.code == 2
    assert "PORTAL_FAULTS" in caught.value.log
