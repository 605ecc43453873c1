# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service that crashes or stops slowly as its environment says; see actor_image/actor.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests

from tests.support.engine import IMAGES, build, one_at_a_time
from tests.support.waiting import eventually

TOLD_TO_END = b"was told to end"
# What the engine asks it, often enough to know soon that it is unhealthy.
ASK = (
    "exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3; "
    'read -r -t 5 _version status _reason <&3; [ "$$status" = 200 ]'
)
CHECK = {
    "test": ["CMD", "bash", "-c", ASK],
    "interval": "1s",
    "timeout": "5s",
    "retries": 3,
    "start_period": "10s",
}


def actor_image() -> str:
    """Build it; the same image for all tests."""
    with one_at_a_time("image-actor"):
        return build(Path(__file__).parent, f"{IMAGES}/actor:latest", "actor_image/Dockerfile")


def actor(image: str, version: str = "v1", **more: Any) -> dict[str, Any]:
    """A service of a compose file."""
    environment = {"VERSION": version, **more.pop("environment", {})}
    return {
        "image": image,
        "environment": environment,
        "healthcheck": CHECK,
        "stop_grace_period": "20s",
        **more,
    }


def told_to_end(container: Any) -> None:
    """Wait until a container has got SIGTERM."""
    eventually(lambda: TOLD_TO_END in container.logs(), f"{container.name} is told to end")


def version_at(port: int | str) -> str:
    """Which version answers at a port of loopback; empty if none does."""
    try:
        answer = requests.get(f"http://127.0.0.1:{port}/1", timeout=30)
    except requests.ConnectionError:
        return ""
    return answer.headers.get("X-Version", "") if answer.ok else ""
