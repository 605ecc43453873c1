# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading what stands of a service: the engine, the router, and the instances themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..deadline import Deadline, Pace
from ..engine.errors import EngineError
from ..engine.images import Images, Reference
from ..engine.inspect import Container
from ..http import Http
from ..probe import Expectation, Unhealthy, shortcoming, wait_healthy
from ..routers.base import same_address
from ..routers.peers import Share, host_of
from ..routers.routing import Routing
from .canary import release_of
from .containers import Engine
from .model import (
    ADDRESS,
    CANARY,
    HELPS,
    PROMOTED,
    RELEASE,
    Member,
    Observed,
    Release,
    Wanted,
    find_release,
    instances,
    left_over,
    member_of,
)

# One answer that is late is no reason to replace an instance; this many seconds of none are.
PATIENCE = 5.0
PACE = Pace(interval=1.0, first=0.0)


class RouterAway(EngineError):
    """The router is away, and what stands may have its traffic."""

    kind = "router_away"


def know_hosts(share: Share, containers: Sequence[Container]) -> None:
    """Let a service's part of its route have the addresses that it had earlier."""
    peers = {host_of(name) for name in share.peers or ()}
    earlier = {one.labels.get(ADDRESS, "") for one in containers} - {""}
    share.hosts = {*share.hosts, *(host for host in earlier if host_of(host) not in peers)}


@dataclass
class Observer:
    """Where to look.

    :param image: what is to be deployed; None where nothing is.
    :param tests: the image of its tests, where there are any.
    :param release: what is to be deployed, once :meth:`observe` has found it.
    """

    wanted: Wanted
    engine: Engine
    images: Images
    image: Reference | None = None
    tests: Reference | None = None
    routing: Routing | None = None
    digest: str = ""
    tests_digest: str = ""
    release: Release | None = None
    check_mode: bool = False
    # The addresses of the candidate, where it has to be well.
    tried: tuple[str, ...] = ()

    @property
    def image_name(self) -> str:
        """The image by digest."""
        return self.images.name(self.image, self.digest) if self.image else ""

    @property
    def tests_name(self) -> str:
        """The tests' image by digest."""
        return self.images.name(self.tests, self.tests_digest) if self.tests else ""

    def observe(self) -> Observed:
        """Look at everything.

        :raises DeliveryError: something that is needed cannot be asked.
        """
        if self.routing is not None and self.routing.share is not None:
            know_hosts(self.routing.share, self.engine.of_service(self.wanted.name))
        route = self.routing.observe() if self.routing else None
        candidate = self.routing.candidate() if self.routing else None
        if candidate is not None and self.wanted.state in (CANARY, PROMOTED):
            self.tried = candidate.urls
        if self.image is not None:
            self.digest = self.images.resolve(self.image)
        self.release = None
        members = tuple(self.members())
        observed = Observed(members, route, self.release, candidate=candidate)
        self._require_router(observed)
        if self.release is None:
            return replace(observed, release=release_of(observed, self.wanted))
        return replace(observed, image_here=self.images.has(self.image_name))

    def find_tests(self) -> bool:
        """Resolve the tests' image; tell whether the engine has it."""
        if self.tests is None:
            return True
        self.tests_digest = self.images.resolve(self.tests)
        return self.images.has(self.tests_name)

    def members(self) -> Sequence[Member]:
        """Return the containers of the service; those of the wanted release have been asked."""
        containers = self.engine.of_service(self.wanted.name)
        if self.release is None and self.digest and self.wanted.shape is not None:
            self.release = find_release(
                containers, self.digest, self.wanted.shape, make=not self.check_mode
            )
        return [member_of(one, self.wanted, self._ill(one)) for one in containers]

    def _ill(self, container: Container) -> bool:
        """Tell whether an instance of the wanted release gives no good answer."""
        release, path = self.release, self.wanted.health_path
        url = self.url_of(container)
        asked = release is not None and container.labels.get(RELEASE) == release.id
        asked = asked or any(same_address(url, one) for one in self.tried)
        if not asked or not path or url is None or container.labels.get(HELPS):
            return False
        try:
            wait_healthy(Http(url), Expectation(path), deadline=Deadline(PATIENCE), pace=PACE)
        except Unhealthy:
            return True
        return False

    def url_of(self, container: Container) -> str | None:
        """Return where a container is reached now."""
        return member_of(container, self.wanted).url

    def shortcoming(self, container: Container) -> str:
        """Ask an instance once; return what is wrong with its answer."""
        url = self.url_of(container)
        if url is None:
            return "publishes no port"
        return shortcoming(Http(url), Expectation(self.wanted.health_path), Deadline(PATIENCE))

    def _require_router(self, observed: Observed) -> None:
        """Refuse to replace what a router that is away may send traffic to.

        :raises RouterAway: there is something of another release.
        """
        routing = self.routing
        if routing is None or not routing.away:
            return
        release = observed.release.id if observed.release else ""
        others = [one.name for one in instances(observed) if one.release != release]
        # A deploy that was killed, or whose undo was not told to the router, leaves such ones.
        others += [one.name for one in left_over(observed) if one.alive and not one.helps]
        if others:
            raise RouterAway(
                f"{routing.away}, and it may send traffic to {others[0]}",
                next_step="Bring the router back, then run this again.",
            )
