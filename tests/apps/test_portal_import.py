# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in portal's deploy API: import, which replaces everything or nothing."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.archives import members, tar_of, user_files
from tests.support.made_archives import encrypted
from tests.support.portal import (
    EXPORT,
    EXPORT_COUNTS,
    EXPORT_MD5,
    KEY,
    STATIC_INCOMPATIBLE,
    Portal,
    start_portal,
)
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    """Has three users, which no refused archive may touch."""
    with start_portal(tmp_path_factory.mktemp("portal")) as running:
        archive = encrypted(tar_of(user_files(3, "kept")), KEY)
        assert running.import_archive(archive).status_code == 200
        yield running


def assert_untouched(portal: Portal) -> None:
    assert portal.counts() == {"users": 3, "applications": 0, "subscriptions": 0}
    assert portal.call("GET", "/users/kept2").json()["email"] == "kept2@example.org"
    assert not portal.locked()
    eventually(lambda: not portal.leavings(), "tmp/ is empty again")


def special(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize("archive", [EXPORT, EXPORT_MD5], ids=["sha256", "md5"])
def test_a_real_export_is_imported_with_either_key_derivation(
    tmp_path: Path, archive: Path
) -> None:
    with start_portal(tmp_path) as portal:
        old = portal.sign_up("Old").json()
        status = portal.import_archive(archive.read_bytes())
        assert (status.status_code, status.json()["status"]) == (200, 2)
        assert portal.counts() == EXPORT_COUNTS
        assert portal.call("GET", f"/users/{old['id']}").status_code == 404
        user = portal.call("GET", "/users", params={"email": "user0@acme.example.org"}).json()
        read = portal.call("GET", f"/users/{user['items'][0]['id']}").json()
        assert read["applications"][0]["id"] == "acme-app-0"
        assert not {"password", "clientSecret"} & set(read)
        path = "/applications/acme-app-0/subscriptions"
        assert portal.call("GET", path).json()[0]["plan"] == "basic"
        assert not portal.locked()
        assert not (portal.data / "global.lock").exists()
        assert portal.sign_up("New").status_code == 201
        portal.kill()
    with start_portal(tmp_path) as portal:
        assert portal.counts() == {**EXPORT_COUNTS, "users": EXPORT_COUNTS["users"] + 1}


def test_what_one_portal_exports_another_has_after_importing_it(tmp_path: Path) -> None:
    with start_portal(tmp_path, name="blue", version="v23") as blue:
        assert blue.import_archive(EXPORT.read_bytes()).status_code == 200
        blue.sign_up("Only")
        _id, archive = blue.export()
        with start_portal(tmp_path, name="green") as green:
            assert green.import_archive(archive).status_code == 200
            _id, again = green.export()
    first, second = members(archive, KEY), members(again, KEY)
    for one in (first, second):
        # The order of a derived list is free.
        for name in [name for name in one if name.endswith("index.json") or "_index/" in name]:
            value = one.pop(name) or b"[]"
            one[name] = json.dumps(sorted(json.loads(value), key=str)).encode() if value else b""
    assert first == second


@pytest.mark.parametrize("sha256", ["", "0" * 64, "short", "g" * 64])
def test_an_import_needs_the_right_hash(portal: Portal, sha256: str) -> None:
    response = portal.post_import(EXPORT.read_bytes(), sha256=sha256)
    assert response.status_code == 400
    assert "X-SHA256-Hash" in response.json()["message"]
    missing = portal.deploy("POST", "import", data=b"x")
    assert missing.status_code == 400
    assert_untouched(portal)


def test_the_hash_may_be_in_capitals(tmp_path: Path) -> None:
    archive = EXPORT.read_bytes()
    with start_portal(tmp_path) as portal:
        sha256 = hashlib.sha256(archive).hexdigest().upper()
        assert portal.post_import(archive, sha256=sha256).status_code == 201


REFUSED = {
    "empty": (b"", "not an archive that a portal encrypted"),
    "html": (b"<html>" * 100, "not an archive that a portal encrypted"),
    "other key": (encrypted(tar_of(user_files(1)), "another key"), "this portal's deployment key"),
    "other cipher text": (b"Salted__" + bytes(4096), "this portal's deployment key"),
    "no tar": (encrypted(gzip.compress(b"hello" * 1000), KEY), "not a gzipped tar"),
    "cut off": (encrypted(tar_of(user_files(200)), KEY)[:-160], "cut off"),
    "cut inside a block": (encrypted(tar_of(user_files(200)), KEY)[:-7], "cut off"),
    "tar cut off": (encrypted(tar_of(user_files(200))[:-100], KEY), "damaged"),
    "parent": (encrypted(tar_of({"users/../../evil.json": {}}), KEY), "is unsafe"),
    "parent first": (encrypted(tar_of({"../evil.json": {}}), KEY), "is unsafe"),
    "absolute": (encrypted(tar_of({"/users/evil.json": {}}), KEY), "is unsafe"),
    "deep": (encrypted(tar_of({"users/a/b.json": {}}), KEY), "where a portal keeps nothing"),
    "file as folder": (encrypted(tar_of({"webhooks": {}}), KEY), "where a portal keeps nothing"),
    "unknown": (encrypted(tar_of({"pools/a.json": {}}), KEY), "'pools/a.json'"),
    "symlink": (
        encrypted(tar_of({}, [special("users/a.json", tarfile.SYMTYPE)]), KEY),
        "neither a file nor a folder",
    ),
    "hard link": (
        encrypted(tar_of({}, [special("users/a.json", tarfile.LNKTYPE)]), KEY),
        "neither a file nor a folder",
    ),
    "device": (
        encrypted(tar_of({}, [special("users/a.json", tarfile.CHRTYPE)]), KEY),
        "neither a file nor a folder",
    ),
    "sparse": (
        encrypted(tar_of({}, [special("users/a.json", tarfile.GNUTYPE_SPARSE)]), KEY),
        "neither a file nor a folder",
    ),
    "nested": (encrypted(tar_of({"users/a.json": b"[" * 200_000}), KEY), "users/a.json"),
    "broken entity": (encrypted(tar_of({"users/a.json": b"{"}), KEY), "users/a.json"),
    "wrong id": (encrypted(tar_of({"users/a.json": {"id": "b"}}), KEY), "users/a.json"),
    "no email": (encrypted(tar_of({"users/a.json": {"id": "a"}}), KEY), "has no email"),
    "same email": (
        encrypted(
            tar_of(
                {
                    "users/a.json": {"id": "a", "email": "a@b"},
                    "users/b.json": {"id": "b", "email": "A@B"},
                }
            ),
            KEY,
        ),
        "email of another user",
    ),
    "broken subscription": (
        encrypted(
            tar_of({"applications/a.json": {"id": "a"}, "subscriptions/a.subs.json": [1]}), KEY
        ),
        "subscriptions/a.subs.json",
    ),
    "orphan subscription": (
        encrypted(tar_of({"subscriptions/a.subs.json": [{"api": "users", "plan": "basic"}]}), KEY),
        "belongs to no application",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_archive_is_refused_and_changes_nothing(portal: Portal, case: str) -> None:
    archive, says = REFUSED[case]
    status = portal.import_archive(archive)
    assert status.status_code == 422
    assert status.json()["status"] == 3
    assert says in status.json()["message"]
    assert "earlier data is in place" in status.json()["message"]
    assert_untouched(portal)
    assert not (portal.data.parent / "evil.json").exists()


def test_an_archive_without_portal_data_is_refused(portal: Portal) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        tar.addfile(special("users", tarfile.DIRTYPE))
    status = portal.import_archive(encrypted(target.getvalue(), KEY))
    assert status.status_code == 422
    assert "has no applications/" in status.json()["message"]
    assert_untouched(portal)


@pytest.mark.parametrize("where", ["member", "tail"])
def test_a_decompression_bomb_is_refused(portal: Portal, where: str) -> None:
    """300 MiB of zeros in 300 KiB, as an entity or behind the tar's end."""
    zeros = bytes(1 << 20)
    target = io.BytesIO()
    with gzip.GzipFile(fileobj=target, mode="wb", compresslevel=6) as file:
        if where == "member":
            info = tarfile.TarInfo("users/bomb.json")
            info.size = 300 << 20
            file.write(info.tobuf())
        else:
            file.write(gzip.decompress(tar_of(user_files(1))))
        for _time in range(300):
            file.write(zeros)
    status = portal.import_archive(encrypted(target.getvalue(), KEY))
    assert status.status_code == 422
    assert "far more than a portal's data" in status.json()["message"]
    assert_untouched(portal)


def test_data_that_does_not_fit_the_static_configuration_is_refused(tmp_path: Path) -> None:
    with start_portal(tmp_path, static=STATIC_INCOMPATIBLE) as portal:
        kept = portal.sign_up("Kept").json()
        status = portal.import_archive(EXPORT.read_bytes())
        assert status.status_code == 422
        assert status.json()["status"] == 3
        for word in ("'brilliant'", "'basic'", "sanity check", "37 more"):
            assert word in status.json()["message"]
        assert portal.counts()["users"] == 1
        assert portal.call("GET", f"/users/{kept['id']}").json() == kept
        assert portal.sign_up("Next").status_code == 201


def test_while_an_import_runs_the_portal_is_read_only(tmp_path: Path) -> None:
    with start_portal(tmp_path, webhook_delay=600) as portal:
        archive = EXPORT.read_bytes()
        import_id = portal.post_import(archive).json()["importId"]
        eventually(lambda: portal.counts() == EXPORT_COUNTS, "the data is in place")
        status = portal.deploy("GET", f"import/{import_id}/status")
        assert (status.status_code, status.content) == (204, b"")
        assert portal.locked()
        assert portal.sign_up("Locked").status_code == 423
        for response in (portal.post_import(archive), portal.deploy("POST", "export")):
            assert response.status_code == 409
            assert "import" in response.json()["message"]
        # It does not wait for its listeners when it is to end.
        assert portal.stop() == 0


def test_an_upload_that_breaks_off_leaves_nothing(portal: Portal) -> None:
    def broken() -> Iterator[bytes]:
        yield b"Salted__" * 1000
        raise ConnectionAbortedError

    with pytest.raises((requests.ConnectionError, ConnectionAbortedError)):
        portal.deploy("POST", "import", data=broken(), headers={"X-SHA256-Hash": "0" * 64})
    assert_untouched(portal)
    archive = encrypted(tar_of(user_files(3, "kept")), KEY)
    eventually(lambda: portal.post_import(archive).status_code == 201, "an import may begin")
    eventually(lambda: not portal.locked(), "it ends")
    assert_untouched(portal)


def test_an_import_cut_off_before_the_exchange_leaves_the_old_data(tmp_path: Path) -> None:
    with start_portal(tmp_path, import_delay=600) as portal:
        portal.sign_up("Old")
        assert portal.post_import(EXPORT.read_bytes()).status_code == 201
        portal.kill()
    with start_portal(tmp_path) as portal:
        assert portal.counts()["users"] == 1
        assert not portal.locked()
        assert not portal.leavings()


@pytest.mark.parametrize("exchanged", [0, 3, 8])
def test_an_import_cut_off_in_the_exchange_is_completed_at_start(
    tmp_path: Path, exchanged: int
) -> None:
    """The state on disk after so many of the folders were exchanged, the next one half way."""
    with start_portal(tmp_path) as portal:
        assert portal.import_archive(EXPORT.read_bytes()).status_code == 200
        portal.stop()
    data = portal.data
    ready, old = data / "tmp" / "ready", data / "tmp" / "old"
    folders = sorted(entry.name for entry in data.iterdir() if entry.name != "tmp")
    ready.mkdir()
    old.mkdir()
    for number, folder in enumerate(folders):
        (ready / folder).mkdir()
        if folder == "users":
            user = {"id": "new", "email": "new@example.org"}
            (ready / folder / "new.json").write_text(json.dumps(user))
        if number <= exchanged:
            (data / folder).rename(old / folder)
        if number < exchanged:
            (ready / folder).rename(data / folder)
    with start_portal(tmp_path) as portal:
        assert portal.counts() == {"users": 1, "applications": 0, "subscriptions": 0}
        assert not portal.leavings()
        assert portal.import_archive(EXPORT.read_bytes()).status_code == 200
        assert portal.counts() == EXPORT_COUNTS


def test_killed_at_any_moment_an_import_is_whole_or_not_there(tmp_path: Path) -> None:
    archives = [encrypted(tar_of(user_files(400, name)), KEY) for name in ("even", "odd")]
    with start_portal(tmp_path) as portal:
        assert portal.import_archive(archives[1]).status_code == 200
    for number in range(4):
        with start_portal(tmp_path) as portal:
            names = {row["id"].rstrip("0123456789") for row in _all_users(portal)}
            assert len(names) == 1
            assert portal.counts()["users"] == 400
            assert portal.post_import(archives[number % 2]).status_code == 201
            # Let it come a little further each time.
            for _time in range(number * 15):
                portal.call("GET", "/health")
            portal.kill()


def _all_users(portal: Portal) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = portal.call("GET", "/users?limit=1000").json()["items"]
    return rows
