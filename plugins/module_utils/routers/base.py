# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every router can do: whatever sends a service's traffic to one address or another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit, urlunsplit

from ..change import OnUndo
from ..errors import BadOption, DeliveryError
from ..http import check_url

APART = "Find out who else deploys, and keep deploys apart with deploy_lock."
DEFAULT_PORTS = {"http": 80, "https": 443}


class RouterError(DeliveryError):
    """A router refused, or gave an answer that cannot be used."""

    kind = "router"


class RouterDown(RouterError):
    """The router does not run, or does not answer; it may be restarting."""


class Overtaken(RouterError):
    """Somebody else switched the same service meanwhile."""

    kind = "overtaken"


class StillServing(DeliveryError):
    """An undo left something running, since it may be the only one that serves."""

    kind = "still_serving"
    usual_step = "Make sure that the router and the engine answer, then run this again."


@dataclass(frozen=True)
class Candidate:
    """A version beside the live one.

    :param weight: the share of the clients that get it, in percent. At 0 it is staged: only
        requests that ask for it by header get there.
    """

    urls: tuple[str, ...]
    weight: int


@dataclass(frozen=True)
class Route:
    """Where a service's traffic goes.

    :param urls: empty if the router does not know the service.
    :param candidate: what is tried beside them, at a router that can.
    """

    service: str
    urls: tuple[str, ...] = ()
    candidate: Candidate | None = None

    @property
    def url(self) -> str | None:
        """Return the first address, which is the only one of most services."""
        return self.urls[0] if self.urls else None


class Router(Protocol):
    """A router. Each call is bounded in time by the router itself and may raise DeliveryError.

    What is written survives a restart of the router.
    """

    name: str

    def observe(self, service: str) -> Route:
        """Ask where the traffic goes now."""

    def switch(self, service: str, urls: Sequence[str]) -> None:
        """Spread every request over *urls*, one at least, that comes after this has returned.

        There is no candidate any more then.

        :raises Overtaken: the service is no longer what the last ``observe`` saw; nothing was
            changed. So it is for all that writes.
        """

    def remove(self, service: str) -> None:
        """Forget the service; satisfied where it is not known."""

    def in_flight(self, service: str) -> int | None:
        """Count the requests on targets that are no longer current; None where it cannot tell."""

    def entrance(self, service: str) -> str:
        """Return the address at which clients reach the service through the router."""


@runtime_checkable
class Preparing(Protocol):
    """A router that needs time before it can send traffic to new targets, to see them healthy."""

    def prepare(self, service: str, urls: Sequence[str], on_undo: OnUndo) -> None:
        """Do what takes time, without giving *urls* traffic; it may be interrupted."""


@runtime_checkable
class Timed(Protocol):
    """A router that does not count requests, and knows what time they get to end."""

    def drains_in(self, service: str) -> float:
        """Return the seconds until the requests on former targets have had that time."""


@runtime_checkable
class Particular(Protocol):
    """A router that can send traffic to some addresses only."""

    def check_targets(self, urls: Sequence[str]) -> None:
        """Make sure that it can have these; asks nobody.

        :raises RouterError: it cannot.
        """


def bracketed(host: str) -> str:
    """Return *host* as it stands in an address: one of IPv6 in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def same_address(one: str | None, other: str | None) -> bool:
    """Tell whether two addresses mean the same target, however they are spelled."""
    if one is None or other is None:
        return one is other
    return normal(one) == normal(other)


def same_targets(some: Sequence[str], others: Sequence[str]) -> bool:
    """Tell whether two sets of addresses mean the same targets, in whatever order."""
    return sorted(map(normal, some)) == sorted(map(normal, others))


def same_candidate(one: Candidate | None, other: Candidate | None) -> bool:
    """Tell whether two candidates are the same, with the same share."""
    if one is None or other is None:
        return one is other
    return one.weight == other.weight and same_targets(one.urls, other.urls)


def same_route(one: Route, other: Route) -> bool:
    """Tell whether two routes lead to the same targets, for everybody."""
    return same_targets(one.urls, other.urls) and same_candidate(one.candidate, other.candidate)


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
    host = bracketed(parts.hostname)
    if port is not None and port != DEFAULT_PORTS.get(parts.scheme):
        host = f"{host}:{port}"
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), parts.query, parts.fragment))


def checked_target(given: str, what: str) -> str:
    """Return an address that a router can take, without a slash at the end.

    :raises DeliveryError: it is none.
    """
    url = check_url(given, what)
    if "?" in url or "#" in url or not url.isascii() or not url.isprintable() or " " in url:
        raise BadOption(
            f"{what} {url!r} must not have a query, a fragment, spaces or characters beyond ASCII"
        )
    return url
