# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting until containers are well, and saying why they are not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from ..deadline import Deadline, Pace, wait_for
from ..errors import (
    LOG_LINES,
    DeliveryError,
    Interrupted,
    TimeoutExceeded,
    cut_log,
    enumerate_words,
)
from ..redaction import Redaction
from .containers import last_exit
from .errors import Missing, engine_errors
from .inspect import EXITED, Container, inspect

if TYPE_CHECKING:
    from docker import DockerClient

PACE = Pace(interval=0.5, first=0.0, growth=1.5)
SOAK_PACE = Pace(interval=0.5, first=0.0)
# So many bad answers in a row, half a second apart, are no accident.
PATIENCE = 3
LAST_ANSWER = 60.0
# The seconds that one without a health check must have run: many end right after their start.
STEADY = 1.0
# And one that has ended before.
STEADY_AGAIN = 5.0
# Many end right after their first answer, and the engine takes a moment to notice.
SETTLE = 0.5
# One that waits for another by ending and being started again gets this many tries.
MOST_RESTARTS = 3
# Seconds that one gets to end which has failed before; at its start it may not hear a signal yet.
BRIEF = 2


class ContainerFailed(DeliveryError):
    """A container ended, or its health check failed. ``log`` has its last lines."""

    kind = "container"


def last_lines(
    client: DockerClient, container_id: str, secrets: Collection[str] = (), lines: int = LOG_LINES
) -> list[str]:
    """Return the last lines of a container's log, without secrets, *secrets* among them.

    An engine that cannot give them gives none: the failure that they explain is told all the same.
    """
    try:
        with engine_errors("read the log"):
            text = client.api.logs(container_id, tail=lines, stdout=True, stderr=True)
    except DeliveryError:
        return []
    return cut_log(Redaction(secrets).text(text.decode(errors="replace")).splitlines())


def wait_well(
    client: DockerClient,
    containers: Sequence[str],
    deadline: Deadline,
    *,
    ends: Collection[str] = (),
    secrets: Collection[str] = (),
    look_further: Callable[[Container], str] | None = None,
    checks: bool = True,
    restarting: Collection[str] = (),
    patient: Collection[str] = (),
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
    :param restarting: ids of those that are started again after an exit, as their own restart
        policy will do once they are live: some exit until what they need is there.
    :param patient: ids of those that may do so until the deadline, and not a few times only.
    :raises ContainerFailed: one ended, is started again and again, its check failed, or the
        deadline passed before it was well.
    """
    restarted: dict[str, int] = {}
    exit_codes: dict[str, int] = {}
    well: dict[str, Container] = {}
    unwell: dict[str, str] = {}
    running_since: dict[tuple[str, int], float] = {}

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
            again = restarted.get(seen.id, 0)
            tries = again < MOST_RESTARTS or container_id in patient
            if seen.status == EXITED and container_id in restarting and tries:
                restarted[seen.id] = again + 1
                exit_codes[seen.id] = seen.exit_code
                with engine_errors(f"start {seen.name} again"):
                    client.api.start(seen.id)
                unwell[container_id] = f"ended with exit code {seen.exit_code}"
                continue
            seen = _restarted_by_us(seen, again, exit_codes)
            if container_id in patient and seen.restarts:
                shortcoming = "" if seen.well else _restarted(client, seen)
            else:
                shortcoming = _shortcoming(client, seen, container_id in ends, secrets, checks)
            if not shortcoming and seen.running:
                if look_further is not None:
                    shortcoming = look_further(seen)
                elif not seen.checked:
                    since = running_since.setdefault((seen.id, seen.started), deadline.elapsed)
                    steady = STEADY_AGAIN if seen.restarts else STEADY
                    ran = deadline.elapsed - since
                    shortcoming = "" if ran >= steady else "started only just now"
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
        first = _restarted_by_us(first, restarted.get(first.id, 0), exit_codes)
        what = f"was not healthy within {deadline.seconds:.0f} s ({unwell[first.id]})"
        if first.restarts:
            what += f"; it {_restarted(client, first)}"
        raise _failed(client, first, what, secrets) from error


def _shortcoming(
    client: DockerClient, seen: Container, ends: bool, secrets: Collection[str], checks: bool
) -> str:
    if seen.status in {EXITED, "dead"}:
        if ends and seen.exit_code == 0 and seen.status == EXITED:
            return ""
        raise _failed(client, seen, _restarted(client, seen), secrets)
    if seen.health == "unhealthy":
        restarted = f"; it {_restarted(client, seen)}" if seen.restarts else ""
        raise _failed(client, seen, f"is unhealthy{restarted}", secrets)
    if seen.restarts >= MOST_RESTARTS:
        raise _failed(client, seen, _restarted(client, seen), secrets)
    if ends:
        return f"still {seen.status}"
    if not seen.running:
        return f"is {seen.status}"
    return "" if seen.well or not checks else f"health check: {seen.health}"


def _restarted_by_us(seen: Container, times: int, exit_codes: Mapping[str, int]) -> Container:
    """Return *seen* as if the engine had started it again, with the exit code that we saw."""
    code = seen.exit_code or exit_codes.get(seen.id, 0)
    return replace(seen, restarts=seen.restarts + times, exit_code=code)


def _restarted(client: DockerClient, seen: Container) -> str:
    code = seen.exit_code or last_exit(client, seen)
    ended = "ended" if code is None else f"ended with exit code {code}"
    times = "once" if seen.restarts == 1 else f"{seen.restarts} times"
    return f"{ended}, and was restarted {times}" if seen.restarts else ended


def check_unchanged(
    client: DockerClient, healthy: Iterable[Container], secrets: Collection[str] = ()
) -> None:
    """Look again at containers that were healthy: the same process must still be.

    :param healthy: as they were seen when they were found healthy.
    :raises ContainerFailed: one has exited, was restarted, is unhealthy or gone.
    """
    for before in healthy:
        try:
            seen = inspect(client, before.id, before.name)
        except Missing as error:
            raise ContainerFailed(
                f"the container {before.name} was removed after it had been healthy"
            ) from error
        if not seen.running or seen.started != before.started:
            what = f"{_restarted(client, seen)}, after it had been healthy"
        elif seen.health == "unhealthy":
            what = "became unhealthy"
        else:
            continue
        raise _failed(client, seen, what, secrets)


@contextmanager
def blaming(
    client: DockerClient, healthy: Iterable[Container], secrets: Collection[str] = ()
) -> Iterator[None]:
    """Blame one of *healthy* for a failure of the block if it has ended meanwhile.

    That explains more than what a router says of it, or that it has no port any more.

    :param healthy: looked at when the block has failed: it may add some.
    :raises ContainerFailed: the block failed, and one of them is not well any more.
    """
    try:
        yield
    except (Interrupted, ContainerFailed):
        raise
    except DeliveryError as error:
        try:
            check_unchanged(client, healthy, secrets)
        except ContainerFailed as failed:
            raise failed from error
        except DeliveryError:
            pass
        raise


def grace_after(seen: Container, healthy: Container | None, grace: int) -> int:
    """Return the seconds that an undo gives a new container to end.

    One that has ended by itself and was started again since has no requests to finish. Others wait
    for its port.

    :param healthy: as it was seen when it was found healthy, if it was.
    """
    failed = seen.restarts > 0 if healthy is None else seen.started != healthy.started
    return min(grace, BRIEF) if failed else grace


def soak(
    client: DockerClient,
    healthy: Sequence[Container],
    seconds: float,
    *,
    ask: Callable[[], str] = lambda: "",
    secrets: Collection[str] = (),
) -> None:
    """Watch new containers for *seconds* after they got the traffic.

    :param healthy: as they were seen when they were found healthy.
    :param ask: asks through the router; returns what is wrong with the answer, or an empty string.
        One that begins with a container's name and a colon is about that container.
        One bad answer is asked for again; :data:`PATIENCE` of them in a row are a failure.
    :raises ContainerFailed: one has exited, was restarted, became unhealthy, or does not answer
        through the router.
    """
    if seconds <= 0:
        return
    watched = Deadline(seconds)
    bad: list[str] = []

    def look() -> bool | None:
        check_unchanged(client, healthy, secrets)
        if wrong := ask():
            bad.append(wrong)
        else:
            bad.clear()
        if len(bad) >= PATIENCE and healthy:
            wrong, what = bad[-1], "does not answer through the router any more"
            first = healthy[0]
            for one in healthy:
                if wrong.startswith(f"{one.name}: "):
                    first, what = one, "does not answer as it should any more"
                    wrong = wrong.removeprefix(f"{one.name}: ")
            raise _failed(client, first, f"{what} ({wrong})", secrets)
        return True if watched.passed and not bad else None

    # The last good answer may come late.
    wait_for(look, deadline=Deadline(seconds + LAST_ANSWER), pace=SOAK_PACE, what="good answers")


def _failed(
    client: DockerClient, seen: Container, what: str, secrets: Collection[str]
) -> ContainerFailed:
    """Return the error for a container: *what* it did, and its last lines."""
    said = f" ({seen.error})" if seen.error else ""
    return ContainerFailed(
        f"the container {seen.name} {what}{said}",
        next_step="Fix the error in its log, then deploy again.",
        log=last_lines(client, seen.id, secrets),
    )
