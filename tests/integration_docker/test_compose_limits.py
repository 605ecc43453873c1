# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds and pulls end at their deadline, and at once on a signal."""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import time
from typing import Any

import pytest

from tests.support.compose import Stage
from tests.support.engine import BASE_IMAGE
from tests.support.waiting import eventually

SLEEP = {"command": ["sleep", "1000"], "init": True}
# What an interrupted run may take to end: far less than what it waits for.
SOON = 60.0


class Build:
    """A project with an image whose build never ends."""

    def __init__(self, stage: Stage) -> None:
        # No other process has this argument.
        self.mark = f"{600 + secrets.randbelow(10**6) / 10**6:.6f}"
        stage.write({"web": {"image": BASE_IMAGE, **SLEEP}})
        stage.redeploy()
        folder = stage.folder / "endless"
        folder.mkdir()
        (folder / "Dockerfile").write_text(f"FROM {BASE_IMAGE}\nRUN sleep {self.mark}\n")
        stage.write({"web": {"build": "./endless", "image": f"{stage.name}-endless", **SLEEP}})

    def runs(self) -> bool:
        found = subprocess.run(["pgrep", "-f", f"^sleep {self.mark}"], check=False, timeout=30)
        return found.returncode == 0

    def is_over(self) -> None:
        eventually(lambda: not self.runs(), "the builder ends as well")


def test_a_build_that_takes_too_long_is_ended(stage: Stage) -> None:
    endless = Build(stage)
    before = stage.state()
    failed = stage.refused(build_timeout=8)
    assert failed["kind"] == "timeout", failed
    assert "within 8 s" in failed["msg"]
    assert "build_timeout" in failed["next_step"]
    assert stage.state() == before
    endless.is_over()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_a_build_ends_at_once_on_a_signal(stage: Stage, number: signal.Signals) -> None:
    endless = Build(stage)
    before = stage.state()
    with stage.start() as running:
        eventually(endless.runs, "the image is being built")
        began = time.monotonic()
        running.process.send_signal(number)
        ended = running.end()
    assert ended.result["kind"] == "interrupted", ended.output
    assert time.monotonic() - began < SOON
    assert stage.state() == before
    endless.is_over()


def silent_registry(stage: Stage, listener: socket.socket) -> dict[str, Any]:
    """A service whose image is at a registry that never answers."""
    return {
        "web": {"image": f"127.0.0.1:{listener.getsockname()[1]}/{stage.name}/none:v1", **SLEEP}
    }


def test_a_pull_that_takes_too_long_is_ended(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stage.write(silent_registry(stage, listener))
        failed = stage.refused(pull_timeout=4)
    assert failed["kind"] == "timeout", failed
    assert "within 4 s" in failed["msg"]
    assert "pull_timeout" in failed["next_step"]
    assert stage.containers() == []


def test_a_pull_ends_at_once_on_a_signal(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        stage.write(silent_registry(stage, listener))
        with stage.start() as running:
            asked, _address = listener.accept()
            with asked:
                began = time.monotonic()
                running.process.send_signal(signal.SIGTERM)
                ended = running.end()
    assert ended.result["kind"] == "interrupted", ended.output
    assert time.monotonic() - began < SOON
