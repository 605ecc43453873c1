# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tests' container: it gets the candidate's address in ``URL``; its exit code is the word."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..deadline import Deadline
from ..engine.errors import EngineError, Missing, engine_errors, refusals
from ..engine.health import last_lines
from ..engine.inspect import Container, inspect
from ..errors import LOG_LINES, DeliveryError
from .containers import Engine

HOST_NETWORK = "host"
LONGEST_LOOK = 10


class TestsFailed(DeliveryError):
    """The tests said no, or did not come to an end. ``log`` has their last lines."""

    kind = "tests_failed"
    usual_step = "Fix what the tests found, build and deploy again."


@dataclass(frozen=True)
class Tests:
    """How the tests are run.

    :param image: their image, by digest.
    :param network: a network of the engine; ``host`` for the host's own.
    :param timeout: seconds they may take.
    """

    image: str
    network: str = HOST_NETWORK
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    command: tuple[str, ...] = ()
    extra_hosts: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 300.0


def create(engine: Engine, tests: Tests, name: str, labels: Mapping[str, str], url: str) -> str:
    """Make the container that tests *url*; return its id."""
    # The host's own names hold in its network already, and the engine refuses more.
    hosts = dict(tests.extra_hosts) if tests.network != HOST_NETWORK else None
    api = engine.client.api
    with refusals(f"create {name}"):
        made = api.create_container(
            tests.image,
            command=list(tests.command) or None,
            name=name,
            environment={**tests.environment, "URL": url},
            labels=dict(labels),
            host_config=api.create_host_config(network_mode=tests.network, extra_hosts=hosts),
        )
    return str(made["Id"])


def finish(
    engine: Engine, tests: Tests, container: str, candidate: str, secrets: Collection[str]
) -> dict[str, Any]:
    """Start the tests and wait for their end; return what they said.

    :param container: the tests' id, *candidate* that of who is tested, for its last lines.
    :raises TestsFailed: they said no, or did not end in time.
    """
    deadline = Deadline(tests.timeout)
    engine.start(container)
    seen = _wait(engine, container, deadline)
    log = last_lines(engine.client, container, secrets)
    if seen.running:
        message = f"the tests took longer than {tests.timeout:.0f} s"
    elif seen.exit_code != 0:
        message = f"the tests failed with exit code {seen.exit_code}"
    else:
        message = ""
    if message:
        # Half of the lines each, so that the tests' own are not pushed out.
        tested = last_lines(engine.client, candidate, secrets, LOG_LINES // 2)
        lines = [*log[-LOG_LINES // 2 :], *(f"new container: {line}" for line in tested)]
        raise TestsFailed(message, log=lines)
    return {"seconds": round(deadline.elapsed, 3), "exit_code": seen.exit_code, "lines": log}


def _wait(engine: Engine, container: str, deadline: Deadline) -> Container:
    """Wait until the container ended, or the time is up; return how it stands then."""
    while True:
        # The engine answers at the very end; a question that it answers late is asked again.
        patience = max(1, min(LONGEST_LOOK, math.ceil(deadline.remaining)))
        try:
            with engine_errors("wait for the tests"):
                engine.client.api.wait(container, timeout=patience)
        except Missing as error:
            raise TestsFailed("somebody removed the tests' container meanwhile") from error
        except EngineError:
            # An engine that is away says so here.
            seen = inspect(engine.client, container)
        else:
            return inspect(engine.client, container)
        if deadline.passed or not seen.running:
            return seen


def with_image(tests: Tests, image: str) -> Tests:
    """Return *tests* with the digest that their image means now."""
    return replace(tests, image=image)
