# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets on the real engine: in the container, and in no result, log, argument or file besides."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from tests.support.compose import Stage
from tests.support.engine import BASE_IMAGE, remove_all
from tests.support.modules import run_module
from tests.support.plays import run_play
from tests.support.secrets_planted import KINDS, files_showing, shown
from tests.support.specs import spec_of
from tests.support.waiting import eventually

ENVIRONMENT = {f"DB_PASSWORD_{number}": kind[0] for number, kind in enumerate(KINDS.values())}
SECRETS = list(ENVIRONMENT.values())
# Only those cannot be in another program's arguments by chance.
LONG = [secret for secret in SECRETS if len(secret) >= 5]
FAILS = ["sh", "-c", "env; exit 3"]
SLEEPS = ["sleep", "600"]


@contextmanager
def arguments_of_all() -> Iterator[set[str]]:
    """The arguments of all processes that ran meanwhile."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    seen.add(file.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.fixture
def stage(engine: DockerClient, prefix: str, tmp_path: Path) -> Iterator[Stage]:
    folder = tmp_path / "project"
    folder.mkdir()
    quick = {"soak": 0} if "soak" in spec_of("compose_redeploy") else {}
    staged = Stage(engine, f"{prefix}-compose", folder, {"environment": ENVIRONMENT, **quick})
    yield staged
    remove_all(engine, staged.name)


def write(stage: Stage, command: list[str]) -> None:
    """Write a project whose only service gets the secrets."""
    given = {name: f"${{{name}}}" for name in ENVIRONMENT}
    web = {"image": BASE_IMAGE, "command": command, "init": True, "environment": given}
    stage.write({"web": web})


def own_files(folder: Path) -> list[Path]:
    """The arguments that a test gave its modules."""
    kept = list((folder / "releases").glob("*.json"))
    assert all(one.stat().st_mode & 0o777 == 0o600 for one in kept)
    return [*folder.rglob("compose_redeploy.json"), *kept]


def test_compose_shows_no_secret(stage: Stage, tmp_path: Path) -> None:
    outputs = []
    with arguments_of_all() as seen:
        for command, more in ((SLEEPS, {"_ansible_check_mode": True}), (SLEEPS, {}), (FAILS, {})):
            write(stage, command)
            ended = stage.run(_ansible_diff=True, _ansible_verbosity=4, **more)
            assert bool(ended.result.get("failed")) == (command is FAILS), ended.output
            outputs.append(ended.output)
    assert "DB_PASSWORD_4=********" in outputs[2], "the container's log is told"
    assert shown("\n".join(outputs), SECRETS) == []
    assert any("docker compose" in line or "compose --ansi" in line for line in seen)
    assert shown("\n".join(seen), LONG) == []
    assert files_showing(tmp_path, SECRETS, own_files(tmp_path)) == []
    (container,) = stage.of("web")
    given = {f"{name}={text}" for name, text in ENVIRONMENT.items()}
    assert given <= set(container.attrs["Config"]["Env"])


def test_a_killed_compose_leaves_no_secret(stage: Stage, tmp_path: Path) -> None:
    write(stage, SLEEPS)
    with arguments_of_all() as seen, stage.start() as running:
        eventually(
            lambda: any("--file -" in line and stage.name in line for line in list(seen)),
            "compose works on the project",
            timeout=90,
        )
        running.process.kill()
        ended = running.end()
    assert shown(ended.output, SECRETS) == []
    assert shown("\n".join(seen), LONG) == []
    assert files_showing(tmp_path, SECRETS, own_files(tmp_path)) == []


def deploy_options(name: str, command: list[str]) -> dict[str, Any]:
    """A service without a router that gets the secrets, of the image that is there."""
    return {
        "name": name,
        "image": BASE_IMAGE,
        "pull": "never",
        "container_port": 8080,
        "command": command,
        "environment": ENVIRONMENT,
        "bind_address": "127.0.0.1",
        "registry_username": "me",
        "registry_password": KINDS["5"][7],
        "stop_timeout": 0,
        "soak": 0,
    }


def test_a_play_shows_no_secret(engine: DockerClient, prefix: str) -> None:
    """With -vvv, without pipelining: each module is a file on its way."""
    tasks = [
        {
            "name": "Deploy",
            "immutable.delivery.service_deploy": deploy_options(f"{prefix}-s", command),
            "ignore_errors": True,
            "check_mode": check,
        }
        for command, check in ((SLEEPS, True), (SLEEPS, False), (FAILS, False))
    ]
    with arguments_of_all() as seen:
        play = run_play(
            tasks, diff=True, args=["-vvv"], env={"ANSIBLE_PIPELINING": "0"}, timeout=300
        )
    assert [task.failed for task in play.results] == [False, False, True], play.output
    secrets = [*SECRETS, KINDS["5"][7]]
    assert shown(play.output, secrets) == []
    assert shown(str([task.data for task in play.results]), secrets) == []
    assert shown("\n".join(seen), LONG) == []


def test_a_name_tells_nothing_of_a_short_secret(
    engine: DockerClient, prefix: str, tmp_path: Path
) -> None:
    """Of two services with the same secret, names and results have nothing in common."""
    configs = []
    for name in (f"{prefix}-a", f"{prefix}-b", f"{prefix}-a"):
        options = {**deploy_options(name, SLEEPS), "environment": {"PIN": "7"}}
        ended = run_module(tmp_path, "service_deploy", options)
        assert not ended.result.get("failed"), ended.output
        configs.append(ended.result["release"]["config"])
        label = f"immutable.delivery.service={name}"
        (container,) = engine.containers.list(filters={"label": label})
        salt = container.labels["immutable.delivery.salt"]
        assert len(salt) == 32 and salt not in ended.output
        assert configs[-1][:8] in str(container.name)
    assert configs[0] == configs[2] != configs[1]
    assert not ended.result["changed"]
