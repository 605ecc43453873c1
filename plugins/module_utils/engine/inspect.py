# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A container as the engine shows it, in the words that plans use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .errors import engine_errors

if TYPE_CHECKING:
    from docker import DockerClient

CREATED = "created"
RUNNING = "running"
EXITED = "exited"
SECOND = 1_000_000_000
# What never happened, in the engine's words: 0001-01-01T00:00:00Z.
NEVER = 0
TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)?")


def parse_time(text: str) -> int:
    """Return a time of the engine (RFC 3339) in nanoseconds since 1970; :data:`NEVER` for none.

    The engine leaves out zeros at the end, so its times do not sort as text.
    """
    found = TIME.match(text)
    if found is None:
        return NEVER
    zone = (found[3] or "Z").replace("Z", "+00:00")
    moment = datetime.fromisoformat(f"{found[1]}{zone}").astimezone(UTC)
    return max(NEVER, int(moment.timestamp()) * SECOND + int(f"{found[2] or '0':0<9}"))


# The addresses that a port is published at if it is published at all of the host's.
EVERYWHERE = {"0.0.0.0", "::"}


@dataclass(frozen=True)
class Container:
    """What ``GET /containers/ID/json`` says (Engine API 1.41).

    ``ports`` maps a container's port, such as ``8080/tcp``, to the host's ports; ``fixed_ports``
    are those of the host that the engine did not pick, running or not. ``bound`` has the host's
    addresses beside the ports of ``ports``. ``health`` is
    empty where no health check is defined. ``created``, ``started`` and ``finished`` are
    nanoseconds since 1970, :data:`NEVER` for what has not happened. ``restart`` is the restart
    policy as the CLI writes it: ``no``, ``always``, ``unless-stopped`` or ``on-failure:3``.
    """

    id: str
    name: str
    image_id: str
    status: str
    created: int = NEVER
    started: int = NEVER
    finished: int = NEVER
    restart: str = "no"
    image: str = ""
    health: str = ""
    exit_code: int = 0
    error: str = ""
    restarts: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fixed_ports: tuple[int, ...] = ()
    addresses: Mapping[str, str] = field(default_factory=dict)
    bound: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether it runs and is not about to be started anew."""
        return self.status == RUNNING

    @property
    def alive(self) -> bool:
        """Whether its process runs, or the engine is about to start it anew."""
        return self.status in {RUNNING, "paused", "restarting"}

    @property
    def checked(self) -> bool:
        """Whether it has a health check."""
        return bool(self.health)

    @property
    def well(self) -> bool:
        """Whether it runs and its health check, where there is one, has succeeded."""
        return self.running and self.health in {"", "healthy"}

    def made_way_for(self, other: Container) -> bool:
        """Whether it ran when *other* was created, and ended before *other* started, if ever."""
        ended_first = other.started == NEVER or self.finished <= other.started
        return self.started < other.created <= self.finished and ended_first

    def host_port(self, port: int, protocol: str = "tcp", at: str = "") -> int | None:
        """Return the host's port behind which *port* is published, or None.

        :param at: the host's address that is asked. A port that is published at this address, or
            at all, is preferred to one that is published at another address.
        """
        name = f"{port}/{protocol}"
        for addresses in ({at}, EVERYWHERE):
            for address, number in self.bound.get(name, ()):
                if address in addresses:
                    return number
        found = self.ports.get(name, ())
        return found[0] if found else None


def container_of(attributes: Mapping[str, Any]) -> Container:
    """Read what the engine says of a container."""
    state = attributes.get("State") or {}
    config = attributes.get("Config") or {}
    network = attributes.get("NetworkSettings") or {}
    host = attributes.get("HostConfig") or {}
    health = state.get("Health") or {}
    return Container(
        id=attributes["Id"],
        name=attributes["Name"].lstrip("/"),
        image_id=attributes.get("Image", ""),
        status=state.get("Status", ""),
        created=parse_time(attributes.get("Created") or ""),
        started=parse_time(state.get("StartedAt") or ""),
        finished=parse_time(state.get("FinishedAt") or ""),
        restart=_restart(host.get("RestartPolicy") or {}),
        image=config.get("Image", ""),
        # An engine says "none" of a container whose image's check was switched off.
        health="" if health.get("Status") == "none" else health.get("Status", ""),
        exit_code=int(state.get("ExitCode") or 0),
        error=state.get("Error", ""),
        restarts=int(attributes.get("RestartCount") or 0),
        labels=config.get("Labels") or {},
        ports=_ports(network.get("Ports") or {}),
        bound=_bound(network.get("Ports") or {}),
        fixed_ports=_fixed_ports(host.get("PortBindings") or {}),
        addresses={
            name: values.get("IPAddress", "")
            for name, values in (network.get("Networks") or {}).items()
        },
    )


def inspect(client: DockerClient, container_id: str, name: str = "") -> Container:
    """Ask the engine for a container by its id or name.

    :param name: what to call it in a message.
    :raises Missing: there is none.
    """
    with engine_errors(f"inspect the container {name or container_id[:12]}"):
        return container_of(client.api.inspect_container(container_id))


def _restart(policy: Mapping[str, Any]) -> str:
    name, most = policy.get("Name") or "no", policy.get("MaximumRetryCount") or 0
    return f"{name}:{most}" if most else name


def _fixed_ports(bindings: Mapping[str, Any]) -> tuple[int, ...]:
    ports = (one.get("HostPort") for several in bindings.values() for one in several or ())
    return tuple(
        dict.fromkeys(int(port) for port in ports if port and port.isdecimal() and int(port))
    )


def _bound(published: Mapping[str, Any]) -> dict[str, tuple[tuple[str, int], ...]]:
    return {
        port: tuple((one.get("HostIp") or "0.0.0.0", int(one["HostPort"])) for one in bindings)
        for port, bindings in published.items()
        if bindings
    }


def _ports(published: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return each published port once: IPv4 and IPv6 bindings of one port are one."""
    return {
        port: tuple(dict.fromkeys(int(binding["HostPort"]) for binding in bindings))
        for port, bindings in published.items()
        if bindings
    }
