# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in portal's deploy API: export, its lock, the key and the rate."""

from __future__ import annotations

import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.support.archives import members
from tests.support.portal import EXPORT, EXPORT_COUNTS, KEY, start_portal
from tests.support.waiting import eventually


@pytest.mark.parametrize("digest", ["sha256", "md5"])
def test_an_export_carries_everything_and_locks(tmp_path: Path, digest: str) -> None:
    with start_portal(tmp_path, digest=digest) as portal:
        assert portal.import_archive(EXPORT.read_bytes()).status_code == 200
        created = portal.sign_up("Late").json()
        export_id = portal.begin_export()
        status = portal.wait_for(f"export/{export_id}/status")
        assert (status.status_code, status.json()["status"]) == (200, 2)
        assert portal.locked()
        assert portal.sign_up("Locked").status_code == 423
        assert portal.sign_up("Locked").json()["message"]
        for path, body in (
            ("/applications", {"id": "locked", "name": "Locked"}),
            ("/applications/acme-app-2/subscriptions", {"api": "users", "plan": "basic"}),
        ):
            assert portal.call("POST", path, json=body).status_code == 423
        assert portal.call("GET", f"/users/{created['id']}").status_code == 200

        data = portal.deploy("GET", f"export/{export_id}/data")
        assert data.status_code == 200
        assert data.headers["Content-Type"] == "application/octet-stream"
        assert data.headers["X-SHA256-Hash"] == hashlib.sha256(data.content).hexdigest()
        assert int(data.headers["Content-Length"]) == len(data.content)
        found = members(data.content, KEY, digest)
        original = members(EXPORT.read_bytes(), KEY)
        for name, content in original.items():
            folder, _slash, file = name.rstrip("/").partition("/")
            if folder in ("users", "applications", "subscriptions") and file != "_index.json":
                assert found[name.rstrip("/")] == content
        assert found["global.lock"] == b""
        assert json.loads(found[f"users/{created['id']}.json"] or b"")["email"] == created["email"]
        assert len(json.loads(found["users/_index.json"] or b"")) == EXPORT_COUNTS["users"] + 1
        assert not [name for name in found if name.startswith("tmp/")]
        # Derived, and yet as the real portal had derived them.
        for name in ("subscription_api_index/brilliant.json", "subscription_api_index/orders.json"):
            ours, theirs = (json.loads(some[name] or b"") for some in (found, original))
            assert sorted(ours, key=str) == sorted(theirs, key=str)
        clients = [name for name in original if name.startswith("subscription_index/")]
        assert len([name for name in clients if name.endswith(".json")]) == 38
        for name in (name for name in clients if name.endswith(".json")):
            assert json.loads(found[name] or b"") == json.loads(original[name] or b"")

        assert portal.deploy("DELETE", f"export/{export_id}").status_code == 204
        assert portal.sign_up("Unlocked").status_code == 201
        for method, path in (("GET", "status"), ("GET", "data"), ("DELETE", "")):
            gone = portal.deploy(method, f"export/{export_id}/{path}".rstrip("/"))
            assert gone.status_code == 404
        eventually(lambda: not portal.leavings(), "tmp/ is empty")


def test_while_it_runs_an_export_has_no_data_and_cancelling_is_scheduled(tmp_path: Path) -> None:
    with start_portal(tmp_path, export_delay=600) as portal:
        export_id = portal.begin_export()
        status = portal.deploy("GET", f"export/{export_id}/status")
        assert (status.status_code, status.content) == (204, b"")
        assert portal.deploy("GET", f"export/{export_id}/data").status_code == 400
        second = portal.deploy("POST", "export")
        assert second.status_code == 409
        assert "export" in second.json()["message"]
        assert portal.post_import(EXPORT.read_bytes()).status_code == 409
        assert (portal.data / "global.lock").exists()

        assert portal.deploy("DELETE", f"export/{export_id}").status_code == 202
        cancelled = portal.wait_for(f"export/{export_id}/status")
        assert (cancelled.status_code, cancelled.json()["status"]) == (410, 4)
        assert portal.sign_up("Free").status_code == 201
        assert not (portal.data / "global.lock").exists()
        assert portal.deploy("DELETE", f"export/{export_id}").status_code == 204
        assert portal.deploy("DELETE", f"export/{export_id}").status_code == 404

        # A cancelled one that nobody asks about again does not stand in the way.
        second_id = portal.begin_export()
        assert portal.deploy("DELETE", f"export/{second_id}").status_code == 202
        assert portal.wait_for(f"export/{second_id}/status").status_code == 410
        third_id = portal.begin_export()
        assert portal.deploy("GET", f"export/{second_id}/status").status_code == 404
        assert portal.deploy("GET", f"export/{third_id}/status").status_code == 204
        assert portal.sign_up("Locked").status_code == 423


@pytest.mark.parametrize("delay", [0, 600], ids=["done", "running"])
def test_the_lock_lapses_and_the_export_is_forgotten(tmp_path: Path, delay: int) -> None:
    with start_portal(tmp_path, lock_seconds=1, export_delay=delay) as portal:
        export_id = portal.begin_export()
        eventually(lambda: not portal.locked(), "the lock lapses")
        assert f"export {export_id} lapsed; writes are accepted again" in portal.log()
        assert portal.deploy("GET", f"export/{export_id}/status").status_code == 404
        assert portal.deploy("DELETE", f"export/{export_id}").status_code == 404
        assert portal.sign_up("Free").status_code == 201
        assert portal.stop() == 0
        assert not portal.leavings()
        assert not (portal.data / "global.lock").exists()


def test_a_write_is_in_the_export_or_refused(tmp_path: Path) -> None:
    """Writers race with the beginning of the lock: acknowledged and exported must be the same."""
    writers = 6
    with start_portal(tmp_path) as portal:
        warm = threading.Barrier(writers + 1)

        def write(writer: int) -> list[str]:
            acknowledged: list[str] = []
            with requests.Session() as session:
                session.trust_env = False
                for number in range(5000):
                    body = {
                        "firstName": "W",
                        "lastName": str(writer),
                        "email": f"w{writer}-{number}@example.org",
                        "password": "x" if number % 3 == 0 else None,
                    }
                    response = session.post(f"{portal.url}/users", json=body, timeout=30)
                    if response.status_code == 423:
                        return acknowledged
                    assert response.status_code == 201, response.text
                    acknowledged.append(response.json()["id"])
                    if number == 5:
                        warm.wait(timeout=30)
            raise AssertionError("the lock never began")

        with ThreadPoolExecutor(writers) as pool:
            results = [pool.submit(write, writer) for writer in range(writers)]
            warm.wait(timeout=30)
            export_id, archive = portal.export()
            acknowledged = {user for result in results for user in result.result(60)}
        exported = {
            name.removeprefix("users/").removesuffix(".json")
            for name in members(archive, KEY)
            if name.startswith("users/") and not name.endswith("/_index.json")
        }
        assert exported == acknowledged
        assert portal.counts()["users"] == len(acknowledged)
        assert portal.deploy("DELETE", f"export/{export_id}").status_code == 204


def test_a_lock_does_not_outlive_the_process(tmp_path: Path) -> None:
    with start_portal(tmp_path) as portal:
        portal.export()
        portal.kill()
    assert (portal.data / "global.lock").exists()
    with start_portal(tmp_path) as portal:
        assert not portal.locked()
        assert portal.sign_up("Free").status_code == 201
        assert not (portal.data / "global.lock").exists()
        assert not portal.leavings()


def test_without_the_key_there_is_only_403(tmp_path: Path) -> None:
    with start_portal(tmp_path) as portal:
        for headers in ({}, {"Authorization": "wrong"}, {"Authorization": b"\xe4\xff"}):
            for method, path in (("POST", "export"), ("POST", "import"), ("GET", "export/x/data")):
                response = portal.call(method, f"/deploy/v1/{path}", headers=headers)
                assert response.status_code == 403
                assert KEY not in response.text
        assert not portal.locked()
        assert portal.deploy("GET", "export/x/status").status_code == 404
        assert portal.deploy("GET", "import/x/status").status_code == 404
        assert portal.deploy("GET", "elsewhere").status_code == 404


def test_more_calls_than_the_rate_are_429(tmp_path: Path) -> None:
    with start_portal(tmp_path, rate=None) as portal:
        answers = [portal.deploy("GET", "export/x/status") for _call in range(26)]
        assert [answer.status_code for answer in answers] == [404] * 25 + [429]
        assert answers[0].headers["X-RateLimit-Remaining-Minute"] == "24"
        limited = answers[-1]
        assert limited.json() == {"message": "API rate limit exceeded"}
        assert 1 <= int(limited.headers["Retry-After"]) <= 60
        assert limited.headers["X-RateLimit-Limit-Minute"] == "25"
        assert limited.headers["X-RateLimit-Remaining-Minute"] == "0"
        # Only the deploy API is limited.
        assert portal.call("GET", "/health").status_code == 200


def test_the_rate_is_that_of_a_window(tmp_path: Path) -> None:
    with start_portal(tmp_path, rate=2, rate_window=0.5) as portal:
        for _time in range(2):
            assert portal.deploy("GET", "export/x/status").status_code == 404
        eventually(
            lambda: portal.deploy("GET", "export/x/status").status_code == 404, "the window ends"
        )
