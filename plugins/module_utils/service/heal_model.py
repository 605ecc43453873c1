# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a repair sees of a service: its containers, each in one of a few conditions, and its route.

A *spare* is a container of the live release that was made and never started. It is the engine's own
record of what should stand: image by digest, environment and all options, in the place where those
are kept anyway. It is what a service comes back from when somebody has removed all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..engine.containers import NO_RESTART
from ..engine.inspect import NEVER, RUNNING, SECOND, Container, container_of
from ..routers.base import same_address
from .model import (
    HELPS,
    IMAGE,
    INSTANCES,
    RELEASE,
    ROUTE,
    SPARE,
    UNPROVED,
    live_restart,
    url_at,
)

# One that nothing can be asked of counts as well once it has run for so many seconds.
STEADY = 1.0


class Condition(Enum):
    """How an instance is, in words that follow its name."""

    WELL = "is well"
    STARTING = "has only just been started"
    ILL = "does not work"
    PAUSED = "is paused"
    STOPPED = "is stopped"


@dataclass(frozen=True)
class Instance:
    """A container of a service, a helper or the spare among them.

    :param url: where it is reached; None while it publishes nothing.
    :param says: what the engine says of it, for people.
    :param wanted: how many instances there were to be when it was made; 0 where it does not say.
    :param fixed: whether the host's port was given, and not picked by the engine.
    :param restart: its restart policy now; ``live_restart`` is the one for while it is live.
    """

    id: str
    name: str
    release: str
    condition: Condition
    says: str = ""
    image: str = ""
    helps: str = ""
    route: str = ""
    wanted: int = 0
    fixed: bool = False
    url: str | None = None
    created: int = NEVER
    started: int = NEVER
    restart: str = NO_RESTART
    live_restart: str = NO_RESTART

    @property
    def unproved(self) -> bool:
        """Whether nobody has said yet that it works."""
        return self.name.endswith(UNPROVED)

    @property
    def up(self) -> bool:
        """Whether it runs and nothing is known against it."""
        return self.condition in {Condition.WELL, Condition.STARTING}

    @property
    def coming(self) -> bool:
        """Whether it is something that a deploy makes and does not leave running or unstarted."""
        ended = self.condition is Condition.STOPPED and self.started > NEVER
        return self.helps != SPARE and bool(self.helps or self.unproved) and not ended

    def among(self, urls: Sequence[str]) -> bool:
        """Tell whether one of *urls* leads to it."""
        return self.url is not None and any(same_address(self.url, url) for url in urls)


def instance_of(
    attributes: Mapping[str, Any], address: str, now: int, ill: str | None = None
) -> Instance:
    """Read what the engine says of a container.

    :param address: the host name under which published ports are reached.
    :param now: the engine's time, in nanoseconds since 1970.
    :param ill: what is wrong with the answer to a question of ours, empty for a good one; None
        where it was not asked.
    """
    seen = container_of(attributes)
    labels = seen.labels
    port = next((ports[0] for ports in seen.ports.values() if ports), None)
    wanted = labels.get(INSTANCES, "")
    condition = _condition(seen, now, ill)
    return Instance(
        id=seen.id,
        name=seen.name,
        release=labels.get(RELEASE, ""),
        condition=condition,
        says=_says(seen, condition, ill),
        image=labels.get(IMAGE, ""),
        helps=labels.get(HELPS, ""),
        route=labels.get(ROUTE, ""),
        wanted=int(wanted) if wanted.isdecimal() else 0,
        fixed=bool(seen.fixed_ports),
        url=url_at(address, port) if port else None,
        created=seen.created,
        started=seen.started,
        restart=seen.restart,
        live_restart=live_restart(seen),
    )


def _condition(seen: Container, now: int, ill: str | None) -> Condition:
    if seen.status == "paused":
        return Condition.PAUSED
    if seen.status in {"exited", "created"}:
        return Condition.STOPPED
    if seen.status != RUNNING or seen.health == "unhealthy":
        return Condition.ILL
    # The engine's own check has no result before its first interval is over.
    if ill == "":
        return Condition.WELL
    if seen.health == "starting":
        return Condition.STARTING
    if not seen.checked and now - seen.started < STEADY * SECOND:
        return Condition.STARTING
    return Condition.ILL if ill else Condition.WELL


def _says(seen: Container, condition: Condition, ill: str | None) -> str:
    """Return what is the matter with it, in words that follow its name."""
    if condition is Condition.STOPPED and seen.status == "exited":
        return f"ended with exit code {seen.exit_code}"
    if condition is Condition.ILL:
        if seen.status != RUNNING:
            return f"is {seen.status}"
        return "is unhealthy" if seen.health == "unhealthy" else f"gives no good answer ({ill})"
    return str(condition.value)


@dataclass(frozen=True)
class Standing:
    """What stands of one service.

    :param route: where the router sends the traffic; None where there is none, or it is away.
    :param count: how many instances are asked for; None for as many as there were.
    :param under_way: whether something was made lately that only a deploy makes.
    """

    service: str
    found: tuple[Instance, ...] = ()
    route: tuple[str, ...] | None = None
    count: int | None = None
    under_way: bool = False

    @property
    def instances(self) -> list[Instance]:
        """Those that are proved or have traffic, kept releases among them.

        Without a router, whoever has a fixed port has the traffic.
        """
        return [
            one
            for one in self.found
            if not one.helps and (not one.unproved or self._has_traffic(one))
        ]

    def _has_traffic(self, one: Instance) -> bool:
        if self.route is None and one.fixed:
            return one.condition is not Condition.STOPPED
        return one.among(self.route or ())

    @property
    def spare(self) -> Instance | None:
        """The one that was kept for the day that all others are gone; the newest of several."""
        spares = [one for one in self.found if one.helps == SPARE]
        return max(spares, key=lambda one: one.created, default=None)

    @property
    def routed_as(self) -> str:
        """The service's name at the router; empty where it has none."""
        newest = sorted(self.found, key=lambda one: one.created, reverse=True)
        return next((one.route for one in newest if one.route), "")
