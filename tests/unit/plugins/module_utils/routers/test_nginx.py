# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that nginx is switched by, and what its processes tell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import RouterError
from ansible_collections.immutable.delivery.plugins.module_utils.routers.canary import check_weight
from ansible_collections.immutable.delivery.plugins.module_utils.routers.files import (
    Prepared,
    replace_file,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.nginx_config import (
    NOTHING_YET,
    Header,
    State,
    Version,
    parse,
    render,
    variable,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.nginx_options import (
    nginx_of,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.nginx_process import (
    NginxProcess,
)

LIVE = Version(("http://10.0.0.5:8080", "http://[::1]:80"))
CANARY = Version(("http://10.0.0.5:8080",), ("https://green.internal",), 10)


def body(version: Version, service: str = "demo") -> str:
    text = render(service, State().next(version, "boot", 1.5), Header())
    return text.split("\n", 2)[2]


def test_live_only() -> None:
    assert body(LIVE) == (
        "upstream demo_live {\n"
        "    server 10.0.0.5:8080;\n"
        "    server [::1]:80;\n"
        "}\n"
        'map "" $demo_upstream {\n'
        "    default demo_live;\n"
        "}\n"
        "map $demo_upstream $demo_scheme {\n"
        "    default http;\n"
        "}\n"
    )


def test_canary() -> None:
    text = body(CANARY)
    assert "upstream demo_candidate {\n    server green.internal:443;\n}" in text
    assert 'split_clients "$remote_addr$http_user_agent" $demo_drawn {' in text
    assert "    10% demo_candidate;\n    * demo_live;\n" in text
    assert "map $http_x_client_mode $demo_upstream {" in text
    assert '    "blue" demo_live;\n    "green" demo_candidate;\n    default $demo_drawn;' in text
    assert "    demo_candidate https;\n    default http;" in text
    # nginx refuses a share of nothing.
    assert "0%" not in body(Version(CANARY.live, CANARY.candidate, 0))


def test_nobody() -> None:
    assert "upstream demo_nowhere {\n    server 127.0.0.1:1 down;\n}" in body(Version())
    assert parse(NOTHING_YET + "map ...\n") == State()


@pytest.mark.parametrize("version", [Version(), LIVE, CANARY])
def test_what_is_written_is_read_back(version: Version) -> None:
    state = State(LIVE).next(version, "boot", 12.34)
    assert parse(render("demo", state, Header())) == state
    assert state.previous == LIVE


TEXT = render("demo", State(LIVE).next(CANARY, "boot", 1), Header())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no line that says what stands"),
        ("upstream demo_live { server 127.0.0.1:1; }\n", "no line that says what stands"),
        (TEXT.replace("10%", "90%"), "changed by somebody else"),
        (TEXT + "\n", "changed by somebody else"),
        (TEXT[: len(TEXT) // 2], "changed by"),
        (TEXT.replace('"written": 1', '"written": "x"'), "when it was written"),
        (TEXT.replace('"weight": 10', '"weight": null'), "weight is no number"),
        (TEXT.replace('"candidate": []', '"candidate": [1]'), "addresses are none"),
        (TEXT.replace('"version": {', '"else": {'), "state is incomplete"),
        ("# state: []\n", "state is no object"),
        ("# state: {\n", "Expecting"),
    ],
)
def test_what_nobody_of_us_has_written(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(text)


def test_names() -> None:
    assert variable("my-service_2") == "my_service_2"
    for name in ("", "-a", "a b", "a;b", "a.b", "a$b", "a" * 65, "ä", "a\n"):
        with pytest.raises(RouterError, match="cannot be the name of a service"):
            variable(name)


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.5/base",
        "http://10.0.0.5?a",
        "http://10.0.0.5:0x",
        "http://",
        "ftp://10.0.0.5",
        "http://a;b",
        "http://a b",
        "http://a{b}",
    ],
)
def test_addresses_that_cannot_be_upstreams(url: str) -> None:
    with pytest.raises(RouterError, match="nginx cannot send traffic to"):
        body(Version((url,)))


def test_one_scheme_a_version() -> None:
    with pytest.raises(RouterError, match="http and https"):
        body(Version(("http://10.0.0.5", "https://10.0.0.6")))


def test_headers() -> None:
    assert Header("X-Client-Mode").variable == "$http_x_client_mode"
    for header in ("", "a b", "a;", '"', "a\n"):
        with pytest.raises(RouterError):
            Header(header)
        with pytest.raises(RouterError):
            Header(live=header)


@pytest.mark.parametrize("weight", [-1, 100, 1000])
def test_weights(weight: int) -> None:
    check_weight(0)
    check_weight(99)
    with pytest.raises(RouterError, match="must be 0 to 99 percent"):
        check_weight(weight)


# Files.


def test_files_are_replaced_whole_and_together(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("old")
    prepared = Prepared({one: "new", two: "new"})
    assert one.read_text() == "old"
    assert not two.exists()
    prepared.commit()
    prepared.discard()
    assert (one.read_text(), two.read_text()) == ("new", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    assert one.stat().st_mode & 0o777 == 0o644


def test_one_file_that_cannot_be_written_leaves_all_as_they_are(tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.write_text("old")
    with pytest.raises(RouterError, match="cannot be written: No such file or directory"):
        Prepared({one: "new", tmp_path / "no" / "two": "new"})
    assert one.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(RouterError, match="cannot be replaced"):
        replace_file(tmp_path / "folder", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "one"]


# Processes.


def process(tmp_path: Path, **options: object) -> NginxProcess:
    return NginxProcess(["true"], "/c", tmp_path / "nginx.pid", timeout=10, **options)  # type: ignore[arg-type]


def test_a_pid_file_that_leads_nowhere(tmp_path: Path) -> None:
    subject = process(tmp_path)
    with pytest.raises(RouterError, match=r"nginx.pid cannot be read: No such file"):
        subject.master()
    subject.pid_file.write_text("not a number")
    with pytest.raises(RouterError, match="holds no process id"):
        subject.master()
    subject.pid_file.write_text(str(os.getpid()))
    with pytest.raises(RouterError, match=f"process {os.getpid()} is not the master of nginx but"):
        subject.workers()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    subject.pid_file.write_text(str(ended.pid))
    with pytest.raises(RouterError, match="it has ended"):
        subject.reload()


def test_a_test_that_cannot_be_made(tmp_path: Path) -> None:
    process(tmp_path).test()
    subject = process(tmp_path)
    subject.command = ["/nowhere/nginx"]
    with pytest.raises(RouterError, match="/nowhere/nginx cannot be run"):
        subject.test()
    subject.command = ["sh", "-c", "echo 'x [emerg] 1#1: unknown directive' >&2; false"]
    with pytest.raises(RouterError, match="refuses its configuration: unknown directive"):
        subject.test()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo no such container >&2; exit 1", "cannot be inspected: no such container"),
        ("echo 0", "does not run"),
        ("echo 1", "process 1 is not the master of nginx"),
    ],
)
def test_a_container_that_cannot_be_used(tmp_path: Path, script: str, message: str) -> None:
    engine = tmp_path / "engine"
    engine.write_text(f"#!/bin/sh\n{script}\n")
    engine.chmod(0o755)
    with pytest.raises(RouterError, match=message):
        process(tmp_path, container="web", engine=str(engine)).master()


OPTIONS = {"api_url": "http://proxy", "timeout": 5.0, "nginx": None}


def test_options() -> None:
    subject = nginx_of(OPTIONS)
    assert subject.folder == Path("/etc/nginx/delivery")
    assert subject.entrance("demo") == "http://proxy"
    assert nginx_of({**OPTIONS, "nginx": {"container": "web"}}).process.container == "web"


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"api_url": ""}, "the address at which clients reach"),
        ({"nginx": {"container": "--all"}}, "cannot be a container's name"),
        ({"nginx": {"header_name": "a b"}}, "neither a header nor"),
    ],
)
def test_bad_options(others: dict[str, object], message: str) -> None:
    with pytest.raises(DeliveryError, match=message):
        nginx_of({**OPTIONS, **others})
