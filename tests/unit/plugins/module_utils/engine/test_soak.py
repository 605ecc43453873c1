# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a failure blames that is seen while new containers are watched."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.engine import health
from ansible_collections.immutable.delivery.plugins.module_utils.engine.inspect import (
    Container,
    container_of,
)


def attributes(number: int) -> dict[str, Any]:
    state = {"Status": "running", "StartedAt": "2026-01-01T00:00:00Z"}
    return {"Id": f"{number}" * 64, "Name": f"/web-{number}", "State": state}


class Engine:
    """Two containers that run."""

    def __init__(self) -> None:
        self.api = SimpleNamespace(
            inspect_container=lambda one: attributes(int(one[0])),
            logs=lambda one, **_more: f"the log of web-{one[0]}".encode(),
        )

    @property
    def healthy(self) -> list[Container]:
        return [container_of(attributes(number)) for number in (1, 2)]


@pytest.mark.parametrize(
    ("wrong", "message", "log"),
    [
        (
            "web-2: status 500",
            "the container web-2 does not answer as it should any more (status 500)",
            "the log of web-2",
        ),
        (
            "status 502",
            "the container web-1 does not answer through the router any more (status 502)",
            "the log of web-1",
        ),
    ],
)
def test_who_answers_wrong_is_named(wrong: str, message: str, log: str) -> None:
    engine: Any = Engine()
    with pytest.raises(health.ContainerFailed) as caught:
        health.soak(engine, engine.healthy, 5.0, ask=lambda: wrong)
    assert caught.value.message == message
    assert caught.value.log == [log]


WEB = container_of(attributes(1))


@pytest.mark.parametrize(
    ("seen", "healthy", "grace"),
    [
        (replace(WEB, started=2), replace(WEB, started=2), 30),
        (replace(WEB, started=3, restarts=1), replace(WEB, started=2), health.BRIEF),
        # It may still be at work on its data.
        (replace(WEB, started=2), None, 30),
        (replace(WEB, started=2, restarts=1), None, health.BRIEF),
    ],
)
def test_one_that_failed_is_not_waited_for(
    seen: Container, healthy: Container | None, grace: int
) -> None:
    assert health.grace_after(seen, healthy, 30) == grace
