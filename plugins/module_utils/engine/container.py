# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A container as the engine shows it, in the words that plans use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RUNNING = "running"
EXITED = "exited"


@dataclass(frozen=True)
class Container:
    """What ``GET /containers/ID/json`` says (Engine API 1.41).

    ``ports`` maps a container's port, such as ``8080/tcp``, to the host's ports. ``health`` is
    empty where no health check is defined. ``created`` and ``started``
    sort by time, as text.
    """

    id: str
    name: str
    image_id: str
    status: str
    created: str = ""
    started: str = ""
    image: str = ""
    health: str = ""
    exit_code: int = 0
    error: str = ""
    restarts: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether it runs and is not about to be started anew."""
        return self.status == RUNNING

    @property
    def checked(self) -> bool:
        """Whether it has a health check."""
        return bool(self.health)

    @property
    def well(self) -> bool:
        """Whether it runs and its health check, where there is one, has succeeded."""
        return self.running and self.health in {"", "healthy"}

    def host_port(self, port: int, protocol: str = "tcp") -> int | None:
        """Return the host's port behind which *port* is published, or None."""
        found = self.ports.get(f"{port}/{protocol}", ())
        return found[0] if found else None


def container_of(attributes: Mapping[str, Any]) -> Container:
    """Read what the engine says of a container."""
    state = attributes.get("State") or {}
    config = attributes.get("Config") or {}
    network = attributes.get("NetworkSettings") or {}
    health = state.get("Health") or {}
    return Container(
        id=attributes["Id"],
        name=attributes["Name"].lstrip("/"),
        image_id=attributes.get("Image", ""),
        status=state.get("Status", ""),
        created=attributes.get("Created", ""),
        started=state.get("StartedAt", ""),
        image=config.get("Image", ""),
        # An engine says "none" of a container whose image's check was switched off.
        health="" if health.get("Status") == "none" else health.get("Status", ""),
        exit_code=int(state.get("ExitCode") or 0),
        error=state.get("Error", ""),
        restarts=int(attributes.get("RestartCount") or 0),
        labels=config.get("Labels") or {},
        ports=_ports(network.get("Ports") or {}),
        addresses={
            name: values.get("IPAddress", "")
            for name, values in (network.get("Networks") or {}).items()
        },
    )


def _ports(published: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return each published port once: IPv4 and IPv6 bindings of one port are one."""
    return {
        port: tuple(dict.fromkeys(int(binding["HostPort"]) for binding in bindings))
        for port, bindings in published.items()
        if bindings
    }
