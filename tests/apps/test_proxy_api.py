# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy's API, its file and its start, over real sockets."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from tests.support.proxy import PATIENCE, PROXY, Proxy, start_proxy, talk


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with start_proxy(tmp_path_factory.mktemp("proxy")) as running:
        yield running


def test_an_unknown_name_is_an_empty_object(proxy: Proxy) -> None:
    answer = proxy.api("GET", "/nobody")
    assert (answer.status_code, answer.json()) == (200, {})


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1",
        "http://127.0.0.1:1/",
        "https://service.internal",
        "http://[::1]:8080/base/path",
        "http://host/a%2Fb%20c",
    ],
)
def test_what_is_registered_is_read_back_letter_by_letter(proxy: Proxy, url: str) -> None:
    proxy.register("letters", url)
    answer = proxy.api("GET", "/letters")
    assert answer.json() == {"url": {"url": url, "name": "letters"}, "urls": [url]}
    entry = {"name": "letters", "url": url, "urls": [url], "in_flight": 0}
    assert entry in proxy.api("GET", "").json()


def test_an_address_may_be_sent_without_encoding(proxy: Proxy) -> None:
    head = b"POST /services/plain/http://127.0.0.1:1/x HTTP/1.1\r\nHost: p\r\nConnection: close"
    assert b'{"success": true}' in talk(proxy.port, head + b"\r\n\r\n")
    assert proxy.current("plain") == "http://127.0.0.1:1/x"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:80",
        "//host:80",
        "/path",
        "ftp://host",
        "file:///etc/passwd",
        "http://",
        "http://:80",
        "http://host:0",
        "http://host:65536",
        "http://host:port",
        "http://user@host",
        "http://user:secret@host",
        "http://host?query",
        "http://host#fragment",
        "http://ho st",
        "http://host\r\nX-Injected: 1",
        "http://host\x00",
        "http://h\u00f6st",
        "http://[::1",
        "http://host\\@other",
        "http://host/" + "a" * 3000,
    ],
)
def test_an_address_that_cannot_be_right_is_refused_in_a_sentence(proxy: Proxy, url: str) -> None:
    proxy.register("kept", "http://127.0.0.1:1")
    answer = proxy.api("POST", "/kept/" + quote(url, safe=""))
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"].endswith(".")
    assert "secret" not in answer.text
    assert proxy.current("kept") == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    "name", ["services", "a%20b", "a%2Fb", "%00", "..%2F", "%C3%A4", "a" * 129]
)
def test_a_name_that_cannot_be_right_is_refused(proxy: Proxy, name: str) -> None:
    answer = proxy.api("POST", f"/{name}/{quote('http://127.0.0.1:1', safe='')}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"].endswith(".")


def test_an_address_that_is_not_utf8_is_refused(proxy: Proxy) -> None:
    assert proxy.api("POST", "/kept/http%3A%2F%2F%FF").status_code == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/x"),
        ("PUT", "/x/y"),
        ("POST", "/x"),
        ("POST", ""),
        ("DELETE", "/x/drain"),
        ("GET", "/x/y"),
    ],
)
def test_other_methods_are_refused(proxy: Proxy, method: str, path: str) -> None:
    answer = proxy.api(method, path)
    assert answer.status_code == 405
    assert answer.headers["Allow"]


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "inf", "soon"])
def test_a_wait_that_cannot_be_right_is_refused(proxy: Proxy, wait: str) -> None:
    assert proxy.api("GET", f"/x/drain?wait={wait}").status_code == 400


def test_a_removed_service_is_gone_and_its_drain_still_answers(proxy: Proxy) -> None:
    proxy.register("removed", "http://127.0.0.1:1")
    assert proxy.api("DELETE", "/removed").json() == {"success": True}
    assert proxy.api("DELETE", "/removed").status_code == 404
    assert proxy.current("removed") is None
    assert requests.get(f"{proxy.url}/removed/x", timeout=PATIENCE).status_code == 404
    assert proxy.drain("removed") == {
        "name": "removed",
        "url": None,
        "urls": [],
        "in_flight": 0,
        "draining": [],
        "current_in_flight": 0,
    }


def test_registrations_survive_a_restart_and_a_crash(tmp_path: Path) -> None:
    with start_proxy(tmp_path) as proxy:
        proxy.register("one", "http://127.0.0.1:1")
        proxy.register("two", "http://127.0.0.1:2/base")
        proxy.register("gone", "http://127.0.0.1:3")
        assert proxy.api("DELETE", "/gone").status_code == 200
        proxy.restart()
        assert proxy.current("one") == "http://127.0.0.1:1"
        proxy.register("one", "http://127.0.0.1:4")
        proxy.app.kill()
        assert stat.S_IMODE(proxy.registry.stat().st_mode) == 0o644
    with start_proxy(tmp_path) as proxy:
        assert proxy.current("one") == "http://127.0.0.1:4"
        assert proxy.current("two") == "http://127.0.0.1:2/base"
        assert proxy.current("gone") is None
        assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".registry")) == []


def test_when_the_file_cannot_be_written_nothing_changes(tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    with start_proxy(tmp_path, registry=folder / "services.json") as proxy:
        proxy.register("kept", "http://127.0.0.1:1")
        folder.rename(tmp_path / "moved")
        answer = proxy.api("POST", "/kept/" + quote("http://127.0.0.1:2", safe=""))
        assert answer.status_code == 507
        assert "Nothing has been changed." in answer.json()["error"]
        assert proxy.current("kept") == "http://127.0.0.1:1"
        assert proxy.api("DELETE", "/kept").status_code == 507
        assert proxy.current("kept") == "http://127.0.0.1:1"


def fails_to_start(*options: object) -> tuple[int, str]:
    argv = [sys.executable, str(PROXY), *map(str, options)]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"services": []}',
        '{"services": {"demo": 1}}',
        '{"services": {"demo": "ftp://x"}}',
        '{"services": {"services": "http://x"}}',
        '{"services": {"demo": []}}',
        '{"services": {"demo": ["http://x", 1]}}',
        '{"services": {"demo": ["http://x", "http://x"]}}',
        '{"services": {}, "generation": -1}',
        '{"services": {}, "generation": "1"}',
        '{"services": {}, "generations": {"demo": true}}',
        '{"version": 1, "services": {"demo": "http://127.0.0.1:1"}',
        "[" * 100_000,
    ],
)
def test_a_damaged_registry_stops_the_start_and_is_left_alone(tmp_path: Path, content: str) -> None:
    registry = tmp_path / "services.json"
    registry.write_text(content)
    code, log = fails_to_start("--listen", "127.0.0.1:0", "--registry", registry)
    assert code == 1
    assert "is damaged" in log and "Traceback" not in log and log.count("\n") == 1
    assert registry.read_text() == content


def test_a_registry_that_is_not_utf8_stops_the_start(tmp_path: Path) -> None:
    registry = tmp_path / "services.json"
    registry.write_bytes(b"\xff\xfe{}")
    code, log = fails_to_start("--listen", "127.0.0.1:0", "--registry", registry)
    assert code == 1 and "is damaged" in log


def test_a_start_that_cannot_succeed_says_why(proxy: Proxy, tmp_path: Path) -> None:
    registry = tmp_path / "services.json"
    cases = [
        (("--listen", "127.0.0.1:0", "--registry", tmp_path / "no" / "file"), 1, "written"),
        (("--listen", "127.0.0.1:0", "--registry", tmp_path), 1, "cannot be read"),
        (("--listen", f"127.0.0.1:{proxy.port}", "--registry", registry), 1, "cannot listen"),
        (("--listen", "127.0.0.1:0", "--registry", registry, "--ready-file", "/no/f"), 1, "ready"),
        (("--listen", "nonsense", "--registry", registry), 2, "HOST:PORT"),
        (("--listen", "127.0.0.1:99999", "--registry", registry), 2, "HOST:PORT"),
        (("--listen", "127.0.0.1:0", "--registry", registry, "--idle-timeout", "0"), 2, "seconds"),
        (("--listen", "127.0.0.1:0"), 2, "--registry"),
    ]
    for options, expected, word in cases:
        code, log = fails_to_start(*options)
        assert (code, word in log, "Traceback" in log) == (expected, True, False), log


def test_the_ready_file_tells_url_and_process(tmp_path: Path) -> None:
    with start_proxy(tmp_path) as proxy:
        ready = json.loads((tmp_path / "proxy-ready.json").read_text())
        assert ready == {"url": proxy.url, "pid": proxy.app.process.pid}
        assert proxy.stop() == 0
