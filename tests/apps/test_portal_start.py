# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the stand-in portal starts, refuses to start, is reached, and ends."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.support.apps import AppDidNotStart
from tests.support.certificates import Authority
from tests.support.portal import (
    EXPORT,
    KEY,
    STATIC,
    STATIC_INCOMPATIBLE,
    portal_argv,
    start_portal,
)
from tests.support.waiting import eventually


def refused(tmp_path: Path, **options: Any) -> tuple[int | None, str]:
    """Exit code and the one line that a portal ends with."""
    with pytest.raises(AppDidNotStart) as caught, start_portal(tmp_path, **options):
        pass
    lines = caught.value.log.strip().splitlines()
    return caught.value.code, lines[-1]


def static_with(tmp_path: Path, **files: object) -> Path:
    folder = tmp_path / "static"
    shutil.copytree(STATIC, folder)
    for name, value in files.items():
        text = value if isinstance(value, str) else json.dumps(value)
        (folder / f"{name}.json").write_text(text)
    return folder


def test_it_refuses_to_start_with_subscriptions_that_no_longer_fit(tmp_path: Path) -> None:
    with start_portal(tmp_path) as portal:
        assert portal.import_archive(EXPORT.read_bytes()).status_code == 200
        portal.stop()
    code, line = refused(tmp_path, static=STATIC_INCOMPATIBLE)
    assert code == 78
    assert line.startswith("The portal refuses to start: ")
    assert "'brilliant'" in line
    assert "'basic'" in line
    # Nothing was changed by refusing.
    with start_portal(tmp_path) as portal:
        assert portal.counts()["subscriptions"] == 113


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"apis": {"apis": [{"id": "a", "plans": ["gold"]}]}}, "API 'a' allows plan 'gold'"),
        ({"apis": {"apis": [{"id": "a", "plans": "basic"}]}}, "not a list of ids"),
        ({"apis": {"apis": [{"name": "a"}]}}, "without a usable id"),
        ({"apis": "{"}, "apis.json is not JSON"),
        ({"plans": {"plan": []}}, "plans.json is not JSON with a list 'plans'"),
    ],
)
def test_it_refuses_a_broken_static_configuration(
    tmp_path: Path, files: dict[str, object], says: str
) -> None:
    code, line = refused(tmp_path, static=static_with(tmp_path, **files))
    assert code == 78
    assert says in line


def test_it_refuses_broken_data(tmp_path: Path) -> None:
    users = tmp_path / "portal" / "users"
    users.mkdir(parents=True)
    (users / "a.json").write_text("{")
    code, line = refused(tmp_path)
    assert code == 78
    assert "users/a.json" in line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"data": None}, "--data"),
        ({"version": "v 24\n"}, "--version"),
        ({"lock_seconds": "nan"}, "--lock-seconds"),
        ({"rate": -1}, "--rate"),
        ({"rate_window": 0}, "--rate-window"),
        ({"export_delay": "soon"}, "--export-delay"),
        ({"digest": "sha1"}, "--digest"),
        ({"listen": "8080"}, "HOST:PORT"),
        ({"listen": "127.0.0.1:70000"}, "HOST:PORT"),
        ({"static": "/nonexistent"}, "/nonexistent, does not exist"),
        ({"tls_cert": "cert.pem"}, "belong together"),
        ({"key_file": "/nonexistent"}, "key file /nonexistent"),
        ({"unknown": "x"}, "--unknown"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    argv = portal_argv(data, tmp_path / "ready.json", **options)
    ended = subprocess.run(
        argv,
        env={"PORTAL_DEPLOYMENT_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""


def test_it_needs_a_key_and_takes_it_from_a_file(tmp_path: Path) -> None:
    code, line = refused(tmp_path, key="")
    assert code == 2
    assert "PORTAL_DEPLOYMENT_KEY" in line
    key_file = tmp_path / "key"
    key_file.write_text("from a file\n")
    with start_portal(tmp_path, key_file=key_file) as portal:
        assert portal.deploy("GET", "export/x/status").status_code == 403
        portal.key = "from a file"
        assert portal.deploy("GET", "export/x/status").status_code == 404


def test_a_taken_port_and_a_folder_in_use_are_one_sentence(tmp_path: Path) -> None:
    with start_portal(tmp_path) as portal:
        portal.sign_up("First")
        taken = urlsplit(portal.url).netloc
        assert refused(tmp_path, name="other", listen=taken) == (
            1,
            f"Cannot listen on {taken} (Address already in use).",
        )
        code, line = refused(tmp_path, name="second", data=portal.data)
        assert code == 1
        assert line.endswith("is in use by another portal")
        assert portal.sign_up("Second").status_code == 201


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "portal").mkdir()
    (tmp_path / "portal" / "users").write_text("")
    code, line = refused(tmp_path)
    assert code == 1
    assert "cannot be used" in line


def test_only_its_own_hosts_reach_it(tmp_path: Path) -> None:
    hosts = ["portal.example.org", "API.example.org"]
    with start_portal(tmp_path, host=hosts) as portal:
        for host in ("portal.example.org", "portal.example.org:8443", "api.example.org"):
            response = portal.call("GET", "/health", headers={"Host": host})
            assert response.status_code == 200
        for wrong in (None, "example.org", "portal.example.org.evil", "[", ""):
            for path in ("/health", "/deploy/v1/export/x/status"):
                headers = {} if wrong is None else {"Host": wrong}
                response = portal.call("GET", path, headers=headers)
                assert response.status_code == 503
                assert "No server is available" in response.text


def test_it_serves_https(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue("portal.example.org", "127.0.0.1")
    with start_portal(tmp_path, tls_cert=issued, tls_key=issued) as portal:
        assert portal.url.startswith("https://127.0.0.1:")
        portal.session.verify = str(authority.path)
        assert portal.call("GET", "/health").status_code == 200
        assert portal.import_archive(EXPORT.read_bytes()).status_code == 200
        export_id, archive = portal.export()
        data = portal.deploy("GET", f"export/{export_id}/data")
        assert data.headers["X-SHA256-Hash"] == hashlib.sha256(archive).hexdigest()
    code, line = refused(tmp_path, tls_cert=authority.path, tls_key=issued)
    assert code == 1
    assert "not a usable certificate" in line


def test_sigterm_lets_what_is_in_flight_finish(tmp_path: Path) -> None:
    archive = EXPORT.read_bytes()
    with start_portal(tmp_path) as portal:
        address = urlsplit(portal.url)
        assert address.port is not None
        where = ("127.0.0.1", address.port)
        with socket.create_connection(where, timeout=30) as connection:
            connection.sendall(
                f"POST /deploy/v1/import HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY}\r\n"
                f"X-SHA256-Hash: {hashlib.sha256(archive).hexdigest()}\r\n"
                f"Content-Length: {len(archive)}\r\n\r\n".encode()
                + archive[:1000]
            )

            def in_flight() -> bool:
                response = portal.deploy("POST", "export")
                if response.status_code == 201:
                    portal.faults(lapse_now=True)
                return response.status_code == 409

            eventually(in_flight, "the import has begun")
            portal.process.terminate()

            def refuses() -> bool:
                try:
                    socket.create_connection(where, timeout=30).close()
                except OSError:
                    return True
                return False

            eventually(refuses, "the socket is closed")
            connection.sendall(archive[1000:])
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 201 ")
        assert portal.process.wait(30) == 0
        with pytest.raises(requests.ConnectionError):
            portal.call("GET", "/health")
