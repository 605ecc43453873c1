# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the registrar starts, and what it says to arguments that cannot be right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import requests

from tests.support.etcd import REGISTRAR, start_registrar
from tests.support.proxy import PATIENCE
from tests.support.waiting import eventually

NOBODY = "http://127.0.0.1:1"
GOOD = ["--node", "front", "--etcd", NOBODY]


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(REGISTRAR), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


WRONG: list[tuple[list[str], str]] = [
    ([], "--node"),
    (["--node", "a/b", "--etcd", NOBODY], "cannot be the name of a node"),
    (["--node", "front", "--etcd", "nonsense"], "not an http or https address"),
    ([*GOOD, "--prefix", "x"], "cannot be the prefix"),
    ([*GOOD, "--listen", "nonsense"], "HOST:PORT"),
    ([*GOOD, "--router", "other"], "invalid choice"),
    ([*GOOD, "--router-option", "nonsense"], "NAME=VALUE"),
    ([*GOOD, "--router-option", "colour=red"], "with a NAME of socket, map"),
    ([*GOOD, "--router-option", "check_timeout=soon"], "not a number of seconds"),
    ([*GOOD, "--router-option", "socket=nowhere"], "cannot be at 'nowhere'"),
    ([*GOOD, "--router", "nginx", "--router-option", "engine=none"], "cannot be 'none'"),
    ([*GOOD, "--watch", "somewhere"], "an IP address or a network"),
    ([*GOOD, "--ttl", "0"], "not a number of seconds above 0"),
    ([*GOOD, "--check-failures", "0"], "not a whole number above 0"),
    ([*GOOD, "--health-path", "health"], "begin with a slash"),
    ([*GOOD, "--etcd-user", "deploy"], "REGISTRAR_ETCD_PASSWORD"),
    ([*GOOD, "--ca", "/nowhere.pem"], "does not exist"),
    (["--node", "front"], "--etcd --consul is required"),
    ([*GOOD, "--consul", NOBODY], "not allowed with"),
    ([*GOOD, "--nonsense"], "unrecognized arguments"),
]
# All in one process, since most of the time of each would be its start.
TRY_ALL = """
import contextlib, io, json, sys
sys.path.insert(0, sys.argv[1])
import main
for arguments in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main.main(arguments)
    print(json.dumps([code, said.getvalue()]))
"""


def test_arguments_that_cannot_be_right() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRY_ALL, str(REGISTRAR.parent)],
        input=json.dumps([arguments for arguments, _said in WRONG]),
        env={**os.environ, "REGISTRAR_ETCD_PASSWORD": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    ended = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(ended) == len(WRONG)
    for (arguments, said), (code, text) in zip(WRONG, ended, strict=True):
        assert (code, said in text, text.count("\n")) == (2, True, 1), (arguments, text)


def test_what_it_needs_is_in_its_help() -> None:
    done = start("--help")
    assert done.returncode == 0
    assert {"--node", "--etcd", "--router-option", "--watch", "--forget"} <= set(
        done.stdout.replace(",", " ").split()
    )


def test_a_ready_file_that_cannot_be_written(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "ready"
    done = start(*GOOD, "--listen", "127.0.0.1:0", "--ready-file", str(missing))
    assert done.returncode == 1
    assert "cannot be written" in done.stderr


def test_without_etcd_it_starts_says_so_and_ends_in_good_order(tmp_path: Path) -> None:
    app = start_registrar(tmp_path, [NOBODY], [])
    try:
        health = requests.get(f"{app.url}/health", timeout=PATIENCE)
        assert health.status_code == 200
        assert health.json() == {"status": "ok", "node": "front", "registry": False}
        eventually(lambda: "the lease cannot be kept" in app.log(), "it says what is missing")
        answer = requests.get(f"{app.url}/services", timeout=PATIENCE)
        assert answer.status_code == 502
        assert "etcd cannot be used" in answer.json()["error"]
        assert app.stop(60) == 0
        assert "Traceback" not in app.log()
    finally:
        app.kill()
