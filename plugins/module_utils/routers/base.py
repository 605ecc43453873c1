# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every router can do: whatever sends a service's traffic to one address or another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from ..errors import DeliveryError

DEFAULT_PORTS = {"http": 80, "https": 443}


class RouterError(DeliveryError):
    """A router refused, or gave an answer that cannot be used."""

    kind = "router"


@dataclass(frozen=True)
class Route:
    """Where a service's traffic goes; ``url`` is None where the router does not know the name."""

    service: str
    url: str | None


class Router(Protocol):
    """A router. Each call is bounded in time by the router itself and may raise DeliveryError.

    ``durable`` tells whether ``switch`` and ``remove`` survive a restart of the router without
    ``persist``.
    """

    name: str
    durable: bool

    def observe(self, service: str) -> Route:
        """Ask where the traffic goes now."""

    def switch(self, service: str, url: str) -> None:
        """Send every request to *url* that comes after this has returned."""

    def remove(self, service: str) -> None:
        """Forget the service; satisfied where it is not known."""

    def in_flight(self, service: str) -> int | None:
        """Count the requests on targets that are no longer current; None where it cannot tell."""

    def persist(self, service: str) -> None:
        """Make what stands survive a restart."""

    def entrance(self, service: str) -> str:
        """Return the address at which clients reach the service through the router."""


def same_address(one: str | None, other: str | None) -> bool:
    """Tell whether two addresses mean the same target, however they are spelled."""
    if one is None or other is None:
        return one is other
    return normal(one) == normal(other)


def normal(url: str) -> str:
    """Return *url* in one spelling: lower-case host, no default port, no slash at the end.

    Something that is no address is returned as it is.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url
    if not parts.scheme or not parts.hostname:
        return url
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if port is not None and port != DEFAULT_PORTS.get(parts.scheme):
        host = f"{host}:{port}"
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), parts.query, parts.fragment))
