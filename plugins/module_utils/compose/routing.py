# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The traffic of a project's services: which containers a router shall send it to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..engine.inspect import Container
from ..errors import DeliveryError
from ..http import Http
from ..probe import Expectation
from ..routers.base import Router, bracketed, normal, same_targets
from ..routers.check import ANSWERED, Check, answered
from ..routers.drain import NotDrained
from ..routers.peers import Share
from ..routers.routing import Routing


class NoAddress(DeliveryError):
    """A container cannot be reached in the way that the router shall reach it."""

    kind = "no_address"


@dataclass(frozen=True)
class Entrance:
    """How a service is reached: its container's port, and its name at the router."""

    service: str
    port: int
    name: str
    scheme: str = "http"


@dataclass(frozen=True)
class Checks:
    """What is asked of a new container, and through the router, before it is relied on.

    Seconds and paths are those of ``proxy_register``.
    """

    health_path: str | None = None
    health_timeout: float = 30.0
    prove_path: str | None = None
    prove_timeout: float = 10.0
    prove_count: int = 3
    drain_timeout: float = 60.0
    drain_required: bool = False
    host_header: str | None = None


@dataclass
class ProjectRouting:
    """Maps the containers of a project's services to the addresses that a router has of them.

    :param address: where the engine's published ports are reached.
    :param network: the network in which the router reaches containers at their own addresses; None
        for the published ports.
    :param peers: the hosts whose addresses stay on the routes.
    :param http: makes a client for an address.
    """

    router: Router
    entrances: Mapping[str, Entrance]
    address: str
    checks: Checks
    http: Callable[[str], Http]
    network: str | None = None
    peers: tuple[str, ...] = ()
    left: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._routings: dict[str, Routing] = {}

    def of(self, service: str) -> Routing:
        """Return the one service at the router."""
        if service not in self._routings:
            name, checks = self.entrances[service].name, self.checks
            http = self.http(self.router.entrance(name))
            proof = None
            if checks.prove_path:
                expected = Expectation(checks.prove_path)
                proof = Check(http, expected, checks.prove_timeout, checks.prove_count)
            serves = proof.any_version() if proof else answered(http, checks.prove_timeout)
            # In a network, addresses do not tell whose they are.
            share = Share([self.address], self.peers) if self.network is None else None
            self._routings[service] = Routing(self.router, name, proof, serves=serves, share=share)
        return self._routings[service]

    def look(self, service: str) -> tuple[str, ...]:
        """Return where the router sends the service's traffic now, but for peers."""
        one = self.of(service)
        return one.own(one.look())

    def url(self, service: str, container: Container) -> str:
        """Return where the router reaches a container.

        :raises NoAddress: it publishes no such port, or is not in the network.
        """
        entrance = self.entrances[service]
        if self.network is not None:
            address = container.addresses.get(self.network)
            if not address:
                raise NoAddress(
                    f"{container.name} has no address in the network {self.network}",
                    next_step="Check that it runs, and that the network is one of the service's.",
                )
            return f"{entrance.scheme}://{bracketed(address)}:{entrance.port}"
        port = container.host_port(entrance.port, at=self.address)
        if port is None:
            raise NoAddress(
                f"{container.name} does not publish its port {entrance.port}",
                next_step=f"Give service {service} `ports: [{entrance.port}]` in the compose file, "
                "or name in router.network a network that the router shares with it.",
            )
        return f"{entrance.scheme}://{bracketed(self.address)}:{port}"

    def urls(self, service: str, containers: Sequence[Container]) -> list[str]:
        """Return where the router reaches these containers, each at an address of its own.

        :raises NoAddress: it does not reach all of them.
        """
        urls = [self.url(service, container) for container in containers]
        if len(set(map(normal, urls))) < len(urls):
            raise NoAddress(
                f"{len(urls)} containers of {service} have the addresses {', '.join(urls)} only",
                next_step="Check how the service publishes its port.",
            )
        return urls

    def ask(self, services: Iterable[str]) -> str:
        """Look once whether these services answer through the router; return what is wrong."""
        for service in services:
            if wrong := self.of(service).ask():
                return f"{service}: {wrong}"
        return ""

    def known(self, service: str, containers: Iterable[Container]) -> dict[str, str]:
        """Return the ids of those containers that can be reached, by their addresses."""
        found = {}
        for container in containers:
            try:
                found[self.url(service, container)] = container.id
            except NoAddress:
                continue
        return found

    def leads_to(self, service: str, containers: Sequence[Container], route: Sequence[str]) -> bool:
        """Tell whether a route leads to these containers and to nothing else."""
        try:
            urls = [self.url(service, container) for container in containers]
        except NoAddress:
            return False
        return same_targets(route, urls)

    def may_lead_to(self, service: str, containers: Iterable[Container]) -> str:
        """Return why the service's traffic may go to one of these, or an empty string."""
        return self.of(service).may_lead_to(list(self.known(service, containers)))

    def check(self, service: str, container: Container) -> str:
        """Ask a container itself; return what is wrong with it, or an empty string."""
        self._health(self.url(service, container))
        return ""

    def check_answers(self, service: str, container: Container) -> None:
        """Make sure that a container itself answers, if it can be asked.

        :raises DeliveryError: it does not.
        """
        url = self.url(service, container)
        if self.checks.health_path:
            self._health(url)
        elif self.network is None:
            Check(self.http(url), Expectation("/", ANSWERED), self.checks.prove_timeout).run()

    def _health(self, url: str) -> None:
        if self.checks.health_path:
            expected = Expectation(self.checks.health_path)
            Check(self.http(url), expected, self.checks.health_timeout).run()

    def drain(self, service: str, *, undo: bool = False) -> None:
        """Wait until the containers that left the route have answered what they were asked.

        :param undo: whether this is part of an undo, which goes on in any case.
        :raises NotDrained: requests were left, and that was not to be.
        """
        drained = self.of(service).drain(self.checks.drain_timeout)
        if drained.drained:
            return
        text = f"it is not known how many requests are left on former containers of {service}"
        if drained.in_flight:
            text = f"{drained.in_flight} request(s) were left on a former container of {service}"
        if self.checks.drain_required and not undo:
            raise NotDrained(f"{text} after {drained.seconds:.0f} s")
        self.left.append(text)
