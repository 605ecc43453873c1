# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The backends of a service in HAProxy, one for each version that it can hold at a time.

The configuration (``roles/proxy/templates/haproxy.cfg.j2``) declares ``SERVICE-a``, ``SERVICE-b``
..., each with room for some servers, all out of service.

Why they are declared beforehand: HAProxy 2.6 to 3.0 cannot make a backend without a reload. Why
their servers are given addresses with ``set server addr`` and not made with ``add server``: the
latter are not in what HAProxy restores when it starts. It is done in backends without traffic
only, since on one in use connections would stay with the former address.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from ..deadline import Deadline, Pace, wait_for
from ..errors import TimeoutExceeded, enumerate_words
from .base import DEFAULT_PORTS, RouterError, same_targets
from .haproxy_parse import Count, Garbage, Server, parse_counts, parse_servers, url_of
from .haproxy_runtime import Runtime

T = TypeVar("T")
SLOT = re.compile(r"-[a-z]")
CHECK_PACE = Pace(interval=0.2, first=0.02)


class CandidateDown(RouterError):
    """HAProxy's own checks did not find the new addresses up in time."""

    kind = "unhealthy"


@dataclass(frozen=True)
class Slot:
    """A backend, its servers in HAProxy's order."""

    name: str
    servers: tuple[Server, ...]

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses that are in service."""
        return tuple(server.url for server in self.servers if server.url is not None)

    def holds(self, urls: Sequence[str]) -> bool:
        """Tell whether these and no other addresses are in service."""
        return same_targets(self.urls, urls)


class Backends:
    """The backends of one HAProxy."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def of(self, service: str) -> list[Slot]:
        """Return the service's backends, by name.

        :raises RouterError: there are none.
        """
        slots = self._grouped(lambda name: is_slot(name, service))
        if not slots:
            raise RouterError(
                f"HAProxy has no backends for {service}: {service}-a, {service}-b and so on",
                next_step="Declare them with roles/proxy, or as its template does.",
            )
        return slots

    def named(self, name: str) -> Slot:
        """Return a backend; one that does not exist has no servers."""
        return next(iter(self._grouped(lambda backend: backend == name)), Slot(name, ()))

    def sessions(self) -> dict[str, int]:
        """Count the requests under way in each backend."""
        return {count.backend: count.sessions for count in self._counts() if count.whole}

    def fill(self, service: str, urls: Sequence[str], used: Collection[str]) -> tuple[str, bool]:
        """Return the backend that has *urls*, and whether it was given them now.

        :param used: the backends that the map names. One that carries nothing is given *urls*
            where none has them.
        :raises RouterError: none is free, or HAProxy does not take the addresses.
        """
        slots = self.of(service)
        for slot in slots:
            if slot.holds(urls):
                return slot.name, False
        busy = self.sessions()
        free = [slot for slot in slots if slot.name not in used and not busy.get(slot.name)]
        if not free:
            raise RouterError(
                f"each backend of {service} is in use: "
                + enumerate_words(slot.name for slot in slots),
                next_step="Wait until the requests on earlier versions have ended, or declare a "
                "backend more.",
            )
        # One that is empty or has ended first: the previous version stays ready for going back.
        alive = [count.backend for count in self._counts() if count.up and not count.whole]
        slot = min(free, key=lambda slot: alive.count(slot.name))
        self._give(slot, urls)
        return slot.name, True

    def wait_up(self, name: str, timeout: float) -> None:
        """Wait until HAProxy's checks find each server of the backend up.

        :raises CandidateDown: they do not within *timeout* seconds.
        """
        down: list[Count] = []

        def look() -> bool | None:
            mine = [count for count in self._counts() if count.backend == name and not count.whole]
            down[:] = [count for count in mine if not count.up and not count.maintained]
            return None if down else True

        try:
            wait_for(look, deadline=Deadline(timeout), pace=CHECK_PACE, what="the checks")
        except TimeoutExceeded:
            seen = "; ".join(f"{count.name} is {count.status}, {count.check}" for count in down)
            raise CandidateDown(
                f"HAProxy does not find {enumerate_words(self.named(name).urls)} up after "
                f"{timeout:g} s: {seen}",
                next_step="See whether HAProxy's host reaches it, and which check its backend "
                "declares.",
            ) from None

    def out_of_service(self, slot: Slot) -> None:
        """Take every server of a backend out of service; satisfied where they are."""
        for server in slot.servers:
            if server.url is not None:
                self.runtime.tell(f"set server {slot.name}/{server.name} state maint")

    def _give(self, slot: Slot, urls: Sequence[str]) -> None:
        if len(urls) > len(slot.servers):
            raise RouterError(
                f"{slot.name} has room for {len(slot.servers)} addresses, not for {len(urls)}",
                next_step="Declare more servers for each backend.",
            )
        for server, url in zip(slot.servers, urls, strict=False):
            if url.startswith("https:") != server.tls:
                has = "TLS" if server.tls else "plain HTTP"
                raise RouterError(
                    f"{slot.name} is declared for {has}, so {url} cannot be its server",
                    next_step="Declare the service's backends otherwise, or give another address.",
                )
        self.out_of_service(slot)
        for server, url in zip(slot.servers, urls, strict=False):
            parts = urlsplit(url)
            one = f"{slot.name}/{server.name}"
            port = parts.port or DEFAULT_PORTS[parts.scheme]
            self.runtime.tell(f"set server {one} addr {parts.hostname} port {port}")
            # Out of maintenance a server counts as up before it was ever asked.
            self.runtime.tell(f"set server {one} state ready; set server {one} health down")
        if not self.named(slot.name).holds(urls):
            raise RouterError(f"HAProxy did not take {enumerate_words(urls)} for {slot.name}")

    def _grouped(self, wanted: Callable[[str], bool]) -> list[Slot]:
        found: dict[str, list[Server]] = {}
        for server in parsed(self.runtime, parse_servers, "show servers state"):
            if wanted(server.backend):
                found.setdefault(server.backend, []).append(server)
        return [Slot(name, tuple(group)) for name, group in sorted(found.items())]

    def _counts(self) -> list[Count]:
        return parsed(self.runtime, parse_counts, "show stat")


def parsed(runtime: Runtime, parse: Callable[[str], T], command: str) -> T:
    """Ask, and return what *parse* makes of the answer.

    :raises RouterError: HAProxy cannot be asked, or the answer is garbage.
    """
    answer = runtime.ask(command)
    try:
        return parse(answer)
    except Garbage:
        raise runtime.garbage(command) from None


def is_slot(backend: str, service: str) -> bool:
    """Tell whether *backend* is one of the service's, by its name."""
    return backend.startswith(service) and SLOT.fullmatch(backend, len(service)) is not None


def as_targets(urls: Sequence[str]) -> tuple[str, ...]:
    """Return *urls* as HAProxy can have them.

    :raises RouterError: there are none, one is there twice, or one has a path, or a name where
        HAProxy needs numbers.
    """
    targets = tuple(map(_target, urls))
    if not targets or len(set(targets)) != len(targets):
        raise RouterError("HAProxy needs at least one address, and none of them twice")
    return targets


def _target(url: str) -> str:
    parts = urlsplit(url)
    try:
        host = str(ipaddress.ip_address(parts.hostname or ""))
        port = parts.port or DEFAULT_PORTS[parts.scheme]
    except (KeyError, ValueError):
        raise RouterError(
            f"HAProxy cannot send traffic to {url}",
            next_step="Give http or https, an IP address and a port: HAProxy does not look up "
            "names while it runs.",
        ) from None
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise RouterError(
            f"HAProxy cannot send traffic to {url}: a backend has no path",
            next_step="Give the address without a path.",
        )
    return url_of(parts.scheme == "https", host, port)
