# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only one container can have at a time, ports of the host and names, and who has it: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address
from typing import Any

from ..routers.base import bracketed

# All addresses of one family. The engine listens on "::" for IPv6 only, and on both for no address.
ALL_IPV4 = "0.0.0.0"
ALL_IPV6 = "::"


@dataclass(frozen=True)
class Port:
    """A port of the host, or a range of which any free one will do.

    :param address: the host's address, or all of a family; empty for all of both.
    """

    first: int
    last: int
    protocol: str = "tcp"
    address: str = ""

    def __str__(self) -> str:
        number = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        number = f"{number}/{self.protocol}" if self.protocol != "tcp" else number
        return f"{bracketed(self.address)}:{number}" if self.address else f"port {number}"

    def overlaps(self, other: Port) -> bool:
        """Tell whether both cannot be had at once, or only as far as a range has others."""
        same = self._covers(other) or other._covers(self)
        ranges = self.first <= other.last and other.first <= self.last
        return same and ranges and self.protocol == other.protocol

    def _covers(self, other: Port) -> bool:
        everywhere = ALL_IPV6 if ":" in other.address else ALL_IPV4
        return self.address in {"", everywhere, other.address}

    def families(self) -> list[Port]:
        """Return the port at the addresses of each family it is wanted at."""
        addresses = [self.address] if self.address else [ALL_IPV4, ALL_IPV6]
        return [replace(self, address=address) for address in addresses]


@dataclass(frozen=True)
class Holder:
    """Who has ports or a name.

    :param who: for a message.
    :param id: of the container; empty for a program.
    """

    who: str
    ports: tuple[Port, ...] = ()
    name: str = ""
    id: str = ""


def port_of(number: str, protocol: str, address: str) -> Port | None:
    """Read a port or a range; None if the engine picks one."""
    first, _dash, last = number.partition("-")
    if not first.isdecimal() or not int(first):
        return None
    address = address.strip("[]")
    with suppress(ValueError):
        read = ip_address(address)
        mapped = read.ipv4_mapped if isinstance(read, IPv6Address) else None
        address = str(mapped or read)
    return Port(int(first), int(last or first), protocol or "tcp", address)


def wanted_ports(spec: Mapping[str, Any]) -> tuple[Port, ...]:
    """Return the ports that a container of a service needs, as compose renders the service."""
    found = (
        port_of(str(p.get("published") or ""), p.get("protocol") or "", p.get("host_ip") or "")
        for p in spec.get("ports") or ()
    )
    return tuple(port for port in found if port is not None)


def held_ports(attributes: Mapping[str, Any]) -> tuple[Port, ...]:
    """Return the ports that a container has while it runs, as the engine shows the container."""
    now = (attributes.get("NetworkSettings") or {}).get("Ports") or {}
    # One that is about to be started anew has none right now, but those that it was made with.
    made = (attributes.get("HostConfig") or {}).get("PortBindings") or {}
    found = {}
    for inner, wished in {**now, **made}.items():
        for binding in now.get(inner) or wished or ():
            protocol = inner.partition("/")[2]
            port = port_of(binding.get("HostPort") or "", protocol, binding.get("HostIp") or "")
            # A range is a wish: the port that it came to is among those of now.
            if port is not None and port.first == port.last:
                found[port] = True
    return tuple(found)


def blockers(ports: Iterable[Port], count: int, holders: Iterable[Holder]) -> dict[Port, Holder]:
    """Return which ports *count* containers cannot have, each with somebody who has it.

    Of a range, as many ports must be free as there are containers.
    """
    known = list(holders)
    found = {}
    for port in ports:
        by = [one for one in known if any(port.overlaps(held) for held in one.ports)]
        taken = {
            number
            for one in by
            for held in one.ports
            if port.overlaps(held)
            for number in range(max(port.first, held.first), min(port.last, held.last) + 1)
        }
        if by and port.last - port.first + 1 - len(taken) < count:
            found[port] = by[0]
    return found
