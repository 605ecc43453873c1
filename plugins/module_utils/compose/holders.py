# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who else has ports of the host, or names: other containers, and programs on the engine's host."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..engine.errors import engine_errors
from .claims import Holder, Port, port_of
from .containers import Containers
from .decision import State, Wanted, decide
from .engine_state import ONEOFF, PROJECT, SERVICE

if TYPE_CHECKING:
    from docker import DockerClient

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def foreign_holders(containers: Containers, wanted: Wanted, seen: State) -> list[Holder]:
    """Return who has what the new containers need, but for the containers of the services.

    Nobody is asked if the new containers need nothing in particular.
    """
    decisions = decide(wanted, seen)
    fresh = [wanted.project.services[name] for name, one in decisions.items() if one.news]
    ports = [port for service in fresh for port in service.ports]
    if not ports and not any(service.container_name for service in fresh):
        return []
    found = _other_containers(containers.client, wanted)
    if _engine_is_here(containers):
        held = [port for holder in found for port in holder.ports]
        for ones in seen.instances.values():
            held += [port for one in ones if one.container.alive for port in one.ports]
        single = [
            port
            for service in fresh
            # The engine does not know the ports of a container in the host's network.
            if not any("host" in one.container.addresses for one in decisions[service.name].alive)
            for port in service.ports
            if port.first == port.last
        ]
        found += [
            Holder("another program", (part,))
            for port in single
            for part in port.families()
            if not any(map(part.overlaps, held)) and _is_taken(part)
        ]
    return found


def _other_containers(client: DockerClient, wanted: Wanted) -> list[Holder]:
    with engine_errors("list the containers"):
        listed = client.api.containers(all=True)
    found = []
    for entry in listed:
        labels = entry.get("Labels") or {}
        if (
            labels.get(PROJECT) == wanted.project.name
            and labels.get(SERVICE) in wanted.project.services
            and labels.get(ONEOFF) == "False"
        ):
            continue
        name = str((entry.get("Names") or [entry["Id"][:12]])[0]).lstrip("/")
        project = labels.get(PROJECT)
        who = f"the container {name}" + (f" of the project {project}" if project else "")
        ports = _listed_ports(entry.get("Ports") or ())
        found.append(Holder(who, ports, name, entry["Id"]))
    return found


def _listed_ports(entries: Iterable[dict[str, object]]) -> tuple[Port, ...]:
    found = (
        port_of(
            str(entry.get("PublicPort") or ""),
            str(entry.get("Type") or ""),
            str(entry.get("IP") or ""),
        )
        for entry in entries
    )
    return tuple(port for port in found if port is not None)


def _engine_is_here(containers: Containers) -> bool:
    """Tell whether the engine's host is the one that this runs on, in no container of its own."""
    if not containers.compose.connection.host.startswith("unix://"):
        return False
    with engine_errors("ask the engine for its host"):
        return bool(containers.client.api.info().get("Name") == socket.gethostname())


def _is_taken(port: Port) -> bool:
    """Try to have a port; only that somebody has it counts, not that it cannot be had."""
    kind = KINDS.get(port.protocol)
    if kind is None:
        return False
    family = socket.AF_INET6 if ":" in port.address else socket.AF_INET
    try:
        with socket.socket(family, kind) as probe:
            if family == socket.AF_INET6:
                # As the engine does it: "::" leaves IPv4 to others.
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((port.address, port.first))
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False
