# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting until containers are well, and saying why they are not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from ..deadline import Deadline, Pace, wait_for
from ..errors import DeliveryError, TimeoutExceeded, enumerate_words
from .client import Missing, engine_errors
from .container import EXITED, Container, container_of

if TYPE_CHECKING:
    from docker import DockerClient

PACE = Pace(interval=0.5, first=0.0, growth=1.5)
LOG_LINES = 20
LINE_LENGTH = 300
# The seconds that one without a health check must have run: many end right after their start.
STEADY = 1.0
# One that waits for another by ending and being started again gets this many tries.
MOST_RESTARTS = 3
HIDDEN = "********"


class ContainerFailed(DeliveryError):
    """A container ended, or its health check failed. ``log`` has its last lines."""

    kind = "container"

    def __init__(self, message: str, log: Sequence[str] = (), **more: str) -> None:
        super().__init__(message, **more)
        self.log = list(log)


def inspect(client: DockerClient, container_id: str) -> Container:
    """Ask the engine for a container.

    :raises Missing: there is none of that id or name.
    """
    with engine_errors(f"inspect the container {container_id[:12]}"):
        return container_of(client.api.inspect_container(container_id))


def last_lines(
    client: DockerClient, container_id: str, secrets: Collection[str] = (), lines: int = LOG_LINES
) -> list[str]:
    """Return the last lines of a container's log, with *secrets* taken out of them.

    An engine that cannot give them gives none: the failure that they explain is told all the same.
    """
    try:
        with engine_errors("read the log"):
            text = client.api.logs(container_id, tail=lines, stdout=True, stderr=True)
    except DeliveryError:
        return []
    # The longest first, since one secret may be part of another.
    hidden = sorted((secret for secret in secrets if secret), key=len, reverse=True)
    shown = text.decode(errors="replace")
    for secret in hidden:
        shown = shown.replace(secret, HIDDEN)
    return [line.rstrip()[:LINE_LENGTH] for line in shown.splitlines() if line.strip()]


def wait_well(
    client: DockerClient,
    containers: Sequence[str],
    deadline: Deadline,
    *,
    ends: Collection[str] = (),
    secrets: Collection[str] = (),
    look_further: Callable[[Container], str] | None = None,
    checks: bool = True,
    pace: Pace = PACE,
) -> list[Container]:
    """Wait until all *containers* (ids) are well; return them as they were seen then.

    One that nothing can be asked of is well once it has run for :data:`STEADY` seconds.

    :param ends: ids of those that hold data only, or do one thing: well once they ended with 0.
    :param secrets: what must not be shown of their logs.
    :param look_further: asks a container that the engine calls well for itself; returns what is
        wrong, or an empty string. It may raise to end the wait.
    :param checks: whether to wait until the engine's own health check has succeeded, which it does
        not before its first interval is over. One that says no is a failure in any case.
    :raises ContainerFailed: one ended, is started again and again, its check failed, or the
        deadline passed before it was well.
    """
    well: dict[str, Container] = {}
    unwell: dict[str, str] = {}
    running_since: dict[tuple[str, str], float] = {}

    def look() -> list[Container] | None:
        for container_id in containers:
            if container_id in well:
                continue
            try:
                seen = inspect(client, container_id)
            except Missing as error:
                raise ContainerFailed(
                    f"the container {container_id[:12]} was removed by somebody"
                ) from error
            shortcoming = _shortcoming(client, seen, container_id in ends, secrets, checks)
            if not shortcoming and seen.running:
                if look_further is not None:
                    shortcoming = look_further(seen)
                elif not seen.checked:
                    now = deadline.elapsed
                    since = running_since.setdefault((seen.id, seen.started), now)
                    shortcoming = "" if now - since >= STEADY else "started only just now"
            if shortcoming:
                unwell[container_id] = shortcoming
            else:
                well[container_id] = seen
                unwell.pop(container_id, None)
        return None if unwell else [well[container_id] for container_id in containers]

    try:
        return wait_for(
            look,
            deadline=deadline,
            pace=pace,
            what="the containers to be healthy",
            last_seen=lambda: enumerate_words(unwell.values()),
        )
    except TimeoutExceeded as error:
        first = inspect(client, next(iter(unwell)))
        what = f"was not healthy within {deadline.seconds:.0f} s ({unwell[first.id]})"
        raise _failed(client, first, what, secrets) from error


def _shortcoming(
    client: DockerClient, seen: Container, ends: bool, secrets: Collection[str], checks: bool
) -> str:
    if seen.status in {EXITED, "dead"}:
        if ends and seen.exit_code == 0 and seen.status == EXITED:
            return ""
        what = f"ended with exit code {seen.exit_code}"
        raise _failed(client, seen, what, secrets)
    if seen.health == "unhealthy":
        raise _failed(client, seen, "is unhealthy", secrets)
    if seen.restarts >= MOST_RESTARTS:
        what = f"ended and was started again {seen.restarts} times (exit code {seen.exit_code})"
        raise _failed(client, seen, what, secrets)
    if ends:
        return f"still {seen.status}"
    if not seen.running:
        return f"is {seen.status}"
    return "" if seen.well or not checks else f"health check: {seen.health}"


def _failed(
    client: DockerClient, seen: Container, what: str, secrets: Collection[str]
) -> ContainerFailed:
    """Return the error for a container: *what* it did, and its last lines."""
    log = last_lines(client, seen.id, secrets)
    said = f" ({seen.error})" if seen.error else ""
    text = f"the container {seen.name} {what}{said}"
    return ContainerFailed(f"{text}; its last lines were: {' | '.join(log)}" if log else text, log)
