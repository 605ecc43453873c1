# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which engine is asked: the same one that the program docker asks in the same environment."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import DockerClient

from ansible_collections.immutable.delivery.plugins.module_utils.compose.cli import Compose, Limit
from ansible_collections.immutable.delivery.plugins.module_utils.engine.client import connect
from ansible_collections.immutable.delivery.plugins.module_utils.engine.options import (
    ENGINE_OPTIONS,
    Connection,
)
from tests.support.certificates import Authority
from tests.support.modules import run_module
from tests.support.plays import run_play
from tests.support.service_front import EngineFront, engine_front

LIMIT = Limit(120, "Look at the engine.")
OPTIONS = {name: spec.get("default") for name, spec in ENGINE_OPTIONS.items()}
VARIABLES = ("HOST", "CONTEXT", "TLS", "TLS_VERIFY", "CERT_PATH", "CONFIG")
SOCKET = "socket"


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program in this process's environment."""
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def fronts(
    engine: DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, EngineFront]]:
    """Two ways to the engine that note who is asked; the second is a context of docker's."""
    for name in VARIABLES:
        monkeypatch.delenv(f"DOCKER_{name}", raising=False)
    plugins = Path(os.environ.get("HOME", "/root")) / ".docker" / "cli-plugins"
    if plugins.exists():
        (tmp_path / "cli-plugins").symlink_to(plugins)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with engine_front() as host, engine_front() as context:
        made = docker("context", "create", "second", "--docker", f"host={context.url}")
        assert made.returncode == 0, made.stderr
        yield {"host": host, "context": context}


def asked(fronts: dict[str, EngineFront]) -> str:
    """Who was asked since this was called last."""
    names = [name for name, front in fronts.items() if front.requests]
    for front in fronts.values():
        front.requests.clear()
    assert len(names) < 2
    return names[0] if names else SOCKET


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((False, None, None), SOCKET),
        ((True, None, None), "host"),
        ((False, "second", None), "context"),
        ((True, "second", None), "host"),
        ((False, None, "second"), "context"),
        ((False, "", "second"), "context"),
        ((False, "default", "second"), SOCKET),
        ((True, None, "second"), "host"),
        ((True, "default", "second"), "host"),
    ],
)
def test_the_engine_that_docker_asks_is_asked(
    fronts: dict[str, EngineFront],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[bool, str | None, str | None],
    expected: str,
) -> None:
    """Of DOCKER_HOST, DOCKER_CONTEXT and ``currentContext``, those that are *given*."""
    host, context, current = given
    if host:
        monkeypatch.setenv("DOCKER_HOST", fronts["host"].url)
    if context is not None:
        monkeypatch.setenv("DOCKER_CONTEXT", context)
    if current:
        (tmp_path / "config.json").write_text(json.dumps({"currentContext": current}))
    shown = docker("ps", "--quiet")
    assert shown.returncode == 0, shown.stderr
    assert asked(fronts) == expected, "the program itself"
    connection = Connection.of(OPTIONS)
    connect(connection).close()
    assert asked(fronts) == expected
    model = {"name": "contexts", "services": {"a": {"image": "a"}}}
    Compose(connection, tmp_path).run(model, "ps", doing="list containers", limit=LIMIT)
    assert asked(fronts) == expected, "compose"
    # The environment is not asked for what an option says.
    other = "context" if expected == "host" else "host"
    connection = Connection.of({**OPTIONS, "docker_host": fronts[other].url})
    connect(connection).close()
    Compose(connection, tmp_path).run(model, "ps", doing="list containers", limit=LIMIT)
    assert asked(fronts) == other


def test_a_context_whose_engine_is_away_is_not_replaced_by_another(
    engine: DockerClient,
    fronts: dict[str, EngineFront],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    socket = tmp_path / "nobody.sock"
    for name, host in (("dead", f"unix://{socket}"), ("far", "ssh://far.example")):
        made = docker("context", "create", name, "--docker", f"host={host}")
        assert made.returncode == 0, made.stderr
    for name, words in (
        ("dead", f"{socket} (named by the Docker context dead)"),
        ("far", "the Docker context far names an engine behind SSH"),
        ("none", "there is no Docker context none"),
    ):
        monkeypatch.setenv("DOCKER_CONTEXT", name)
        ended = run_module(tmp_path, "service_heal", {"_ansible_check_mode": True})
        assert ended.result["failed"] and words in ended.result["msg"], ended.output
        assert ended.result["next_step"]
    assert asked(fronts) == SOCKET


def test_a_context_with_certificates(
    fronts: dict[str, EngineFront], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    server = authority.context("127.0.0.1")
    server.load_verify_locations(authority.path)
    server.verify_mode = ssl.CERT_REQUIRED
    ours = authority.issue("deploy")
    with engine_front(tls=server) as front:
        endpoint = f"host={front.url},ca={authority.path},cert={ours},key={ours}"
        made = docker("context", "create", "secured", "--docker", endpoint)
        assert made.returncode == 0, made.stderr
        monkeypatch.setenv("DOCKER_CONTEXT", "secured")
        # For docker this belongs to DOCKER_HOST, not to a context.
        monkeypatch.setenv("DOCKER_CERT_PATH", "/nowhere")
        shown = docker("ps", "--quiet")
        assert shown.returncode == 0 and front.requests, shown.stderr
        front.requests.clear()
        connection = Connection.of(OPTIONS)
        assert connection.verify
        connect(connection).close()
        Compose(connection, tmp_path).run(
            {"name": "contexts", "services": {"a": {"image": "a"}}},
            "ps",
            doing="list containers",
            limit=LIMIT,
        )
        assert len(front.requests) > 2 and not front.refused


@pytest.mark.parametrize("entry", ["portal_compose/instance", "heal/engine"])
@pytest.mark.parametrize("how", ["variable", "current"])
def test_a_role_that_would_reach_two_engines_refuses_a_context(
    fronts: dict[str, EngineFront],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    entry: str,
    how: str,
) -> None:
    if how == "current":
        (tmp_path / "config.json").write_text(json.dumps({"currentContext": "second"}))
    else:
        monkeypatch.setenv("DOCKER_CONTEXT", "second")
    role, _slash, file = entry.partition("/")
    task = {
        "name": "Reach the engine",
        "ansible.builtin.include_role": {
            "name": f"immutable.delivery.{role}",
            "tasks_from": file,
        },
        "vars": {
            "heal_from_here": True,
            "portal_compose_deployment_key": "k",
            "portal_compose_postgres_password": "p",
        },
    }
    refused = run_play([task])
    assert refused.rc != 0
    assert "The Docker context second is chosen" in refused.failures[0].msg, refused.output
    assert asked(fronts) == SOCKET
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert "is chosen" not in run_play([task]).output
