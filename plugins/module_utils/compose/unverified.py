# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an undo does with containers that an earlier run started and did not watch to its end.

It leaves them if they are still healthy. Otherwise the former ones get the traffic, if they answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..deadline import Deadline, Pace, wait_for
from ..engine.health import PATIENCE, check_unchanged
from ..engine.inspect import Container, inspect
from ..engine.parallel import patiently
from ..errors import DeliveryError, Interrupted, enumerate_words
from .routing import ProjectRouting

if TYPE_CHECKING:
    from docker import DockerClient

ASK_PACE = Pace(interval=0.5, first=0.0)


class NotServing(DeliveryError):
    """A container that shall have the traffic does not answer."""

    kind = "container"


def still_well(client: DockerClient, noted: Sequence[Container], ask: Callable[[], str]) -> bool:
    """Tell whether containers run unchanged, and answer through the router.

    :param noted: as they were seen at the beginning.
    :param ask: asks once through the router; returns what is wrong with the answer.
    """
    try:
        patiently(check_unchanged, client, noted)
        wait_for(
            lambda: None if ask() else True,
            deadline=Deadline((PATIENCE - 1) * ASK_PACE.interval),
            pace=ASK_PACE,
            what="a good answer",
        )
    except Interrupted:
        raise
    except DeliveryError:
        return False
    return True


def check_serving(
    client: DockerClient, routing: ProjectRouting | None, service: str, container_id: str
) -> None:
    """Make sure that a container is healthy and answers, before it gets the traffic.

    :raises DeliveryError: it does not.
    """
    seen = patiently(inspect, client, container_id)
    if not seen.well:
        raise NotServing(f"{seen.name} is {seen.health if seen.running else seen.status}")
    if routing is not None and service in routing.entrances:
        routing.check_answers(service, seen)


def serving_sentence(service: str, names: Sequence[str], wrong: str) -> str:
    """Return the sentence on who serves now."""
    if wrong or not names:
        return f"Nothing serves {service} now" + (f": {wrong}" if wrong else "")
    return f"{service} is served by {enumerate_words(names)}"


def as_before(names: Sequence[str]) -> str:
    """Return the sentence on what an undo left as it was."""
    one = len(names) == 1
    return (
        f"{enumerate_words(names)} {'serves' if one else 'serve'} as before, "
        f"and {'is' if one else 'are'} not verified yet"
    )
