# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The traffic of a project's services: which containers a router shall send it to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..engine.container import Container
from ..errors import DeliveryError
from ..http import Http
from ..probe import Expectation
from ..routers.base import Route, Router, bracketed, same_targets
from ..routers.plan import Wanted
from ..routers.switch import Check, Drained, NotDrained, RouteChange


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
class Routing:
    """Sends the traffic of services to containers.

    :param address: where the engine's published ports are reached.
    :param network: the network in which the router reaches containers at their own addresses; None
        for the published ports.
    :param http: makes a client for an address.
    """

    router: Router
    entrances: Mapping[str, Entrance]
    address: str
    checks: Checks
    http: Callable[[str], Http]
    network: str | None = None
    left: list[str] = field(default_factory=list)

    def url(self, service: str, container: Container) -> str:
        """Return where the router reaches a container.

        :raises NoAddress: it publishes no such port, or is not in the network.
        """
        entrance = self.entrances[service]
        if self.network is not None:
            address = container.addresses.get(self.network)
            if not address:
                raise NoAddress(f"{container.name} has no address in the network {self.network}")
            return f"{entrance.scheme}://{bracketed(address)}:{entrance.port}"
        port = container.host_port(entrance.port)
        if port is None:
            raise NoAddress(
                f"{container.name} does not publish its port {entrance.port}",
                next_step=f"Give service {service} `ports: [{entrance.port}]` in the compose file, "
                "or name in router.network a network that the router shares with it.",
            )
        return f"{entrance.scheme}://{bracketed(self.address)}:{port}"

    def observe(self, service: str) -> Route:
        """Ask where the traffic goes."""
        return self.router.observe(self.entrances[service].name)

    def known(self, service: str, containers: Iterable[Container]) -> dict[str, str]:
        """Return the ids of those containers that can be reached, by their addresses."""
        found = {}
        for container in containers:
            try:
                found[self.url(service, container)] = container.id
            except NoAddress:
                continue
        return found

    def leads_to(self, service: str, containers: Sequence[Container]) -> bool:
        """Tell whether the traffic goes to these containers and to nothing else."""
        try:
            urls = [self.url(service, container) for container in containers]
        except NoAddress:
            return False
        return same_targets(self.observe(service).urls, urls)

    def check(self, service: str, container: Container) -> str:
        """Ask a container itself; return what is wrong with it, or an empty string."""
        self._health(self.url(service, container))
        return ""

    def _health(self, url: str) -> None:
        if self.checks.health_path:
            expected = Expectation(self.checks.health_path)
            Check(self.http(url), expected, self.checks.health_timeout).run()

    def send(self, service: str, urls: Sequence[str], *, prove: bool = True) -> None:
        """Send the traffic to *urls*, read it back, and prove it.

        :raises DeliveryError: the router refused, or does not answer as it should.
        """
        name = self.entrances[service].name
        if not urls:
            if self.router.observe(name).urls:
                self.router.remove(name)
            return
        proof = None
        if prove and self.checks.prove_path:
            proof = Check(
                self.http(self.router.entrance(name)),
                Expectation(self.checks.prove_path),
                self.checks.prove_timeout,
                self.checks.prove_count,
            )
        wanted = Wanted(name, tuple(urls), proof is not None, not self.router.durable)
        change = RouteChange(self.router, wanted, proof=proof)
        seen = change.observe()
        steps = change.plan(seen)
        for step in steps:
            change.apply(step, _no_undo)
        change.verify(seen, steps)

    def drain(self, service: str) -> None:
        """Wait until the containers that left the route have answered what they were asked.

        :raises NotDrained: requests were left, and that was not to be.
        """
        name = self.entrances[service].name
        timeout = self.checks.drain_timeout
        drained: Drained = RouteChange(self.router, Wanted(name)).drain(timeout)
        if drained.drained:
            return
        text = f"it is not known how many requests are left on former containers of {service}"
        if drained.in_flight:
            text = f"{drained.in_flight} request(s) were left on a former container of {service}"
        if self.checks.drain_required:
            raise NotDrained(f"{text} after {drained.seconds:.0f} s")
        self.left.append(text)


def _no_undo(undo: Callable[[], object], state: str = "") -> None:
    """Note nothing: a container that was stopped and started has another port by then."""
