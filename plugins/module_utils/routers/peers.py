# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A route that several hosts serve: which of its addresses are whose.

Each host replaces its own addresses and leaves those of its peers. Hosts are compared by the name
as it is given, then by the addresses that it resolves to. Two hosts of the same address, such as
127.0.0.1, are the same host.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..errors import enumerate_words
from .base import Route, RouterError, normal
from .plan import where

# A name server that does not answer must not hold up a deploy.
RESOLVE_SECONDS = 5.0
Addresses = Callable[[str], frozenset[str]]


class ForeignAddress(RouterError):
    """The route leads to a host that is neither the caller's own nor one of its peers."""

    kind = "foreign_address"


@dataclass(frozen=True)
class Parts:
    """The addresses of a route, in its order, by whose they are."""

    own: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()

    @property
    def others(self) -> tuple[str, ...]:
        """All but our own."""
        return self.peers + self.foreign


def divide(
    route: Sequence[str],
    hosts: Collection[str],
    peers: Collection[str],
    earlier: Collection[str] = (),
    addresses: Addresses = lambda name: frozenset(),
) -> Parts:
    """Tell whose each address of a route is. Pure.

    :param hosts: the names of the caller's own host.
    :param earlier: addresses that are the caller's own wherever they are.
    :param addresses: what a host's name resolves to.
    """
    own, named = {host_of(name) for name in hosts}, {host_of(name) for name in peers}
    known = {normal(url) for url in earlier}

    def reached(names: Iterable[str]) -> set[str]:
        return {address for name in names for address in addresses(name)}

    parts: dict[str, list[str]] = {"own": [], "peers": [], "foreign": []}
    for url in route:
        host = host_of(url)
        if normal(url) in known or host in own:
            whose = "own"
        elif host in named:
            whose = "peers"
        else:
            at = {host, *addresses(host)}
            if at & (own | reached(own)):
                whose = "own"
            else:
                whose = "peers" if at & (named | reached(named)) else "foreign"
        parts[whose].append(url)
    return Parts(*(tuple(parts[whose]) for whose in ("own", "peers", "foreign")))


def merge(others: Sequence[str], own: Sequence[str]) -> tuple[str, ...]:
    """Return a route with *others* as they are and *own* beside them, each once. Pure."""
    return tuple({normal(url): url for url in (*others, *own)}.values())


def host_of(name: str) -> str:
    """Return the host of an address, or of a name with or without a port, in one spelling."""
    text = name.strip().lower()
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        pass
    try:
        host = urlsplit(text if "://" in text else f"//{text}").hostname or text
    except ValueError:
        return text
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.rstrip(".")


def resolve(name: str) -> frozenset[str]:
    """Return the addresses of a host; none if it cannot be resolved in time."""
    found: list[str] = []

    def ask() -> None:
        try:
            answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        found.extend(str(answer[4][0]) for answer in answers)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(RESOLVE_SECONDS)
    return frozenset(found)


@dataclass
class Share:
    """The caller's part of a route that several hosts serve.

    :param hosts: the names of its own host.
    :param peers: the hosts whose addresses stay on the route; None to leave whatever is others'.
    :param earlier: addresses that are its own wherever they are, such as those of its containers.
    """

    hosts: Collection[str]
    peers: Collection[str] | None = None
    earlier: Collection[str] = ()
    addresses: Addresses = resolve
    _known: dict[str, frozenset[str]] = field(default_factory=dict, init=False, repr=False)

    def own(self, route: Sequence[str]) -> tuple[str, ...]:
        """Return those addresses of a route that are its own."""
        return self._parts(route).own

    def merge(self, route: Sequence[str], own: Sequence[str]) -> tuple[str, ...]:
        """Return the route with *own* instead of its own addresses; all others stay."""
        return merge(self._parts(route).others, own)

    def foreign(self, route: Sequence[str]) -> tuple[str, ...]:
        """Return those addresses of a route that are neither its own nor a peer's."""
        return self._parts(route).foreign

    def check(self, route: Route) -> None:
        """Make sure that the route leads to its own host and to peers only.

        :raises ForeignAddress: it leads elsewhere too.
        """
        foreign = self.foreign(route.urls)
        if self.peers is None or not foreign:
            return
        peers = enumerate_words(sorted(self.peers)) or "none were given"
        raise ForeignAddress(
            f"{where(route)}; {enumerate_words(foreign)} is neither of this host "
            f"({enumerate_words(sorted(self.hosts))}) nor of a peer ({peers})",
            next_step="Name its host in peers to keep it on the route, or take it off the route.",
        )

    def _parts(self, route: Sequence[str]) -> Parts:
        return divide(route, self.hosts, self.peers or (), self.earlier, self._addresses)

    def _addresses(self, name: str) -> frozenset[str]:
        if name not in self._known:
            self._known[name] = self.addresses(name)
        return self._known[name]
