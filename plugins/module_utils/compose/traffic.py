# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The routes of a project's services while its containers are replaced in their place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..change import OnUndo
from ..engine.errors import Missing
from ..engine.health import blaming, check_unchanged
from ..engine.inspect import Container, inspect
from ..engine.parallel import patiently
from ..routers.base import normal
from .engine_state import Instance
from .routing import ProjectRouting
from .unverified import check_serving

if TYPE_CHECKING:
    from docker import DockerClient


class Traffic:
    """Sends traffic to containers, and back to those that had it before.

    :param routed: the services that a router sends traffic to.
    """

    def __init__(
        self,
        client: DockerClient,
        routing: ProjectRouting | None,
        routed: frozenset[str],
    ) -> None:
        self.client = client
        self.routing = routing
        self.routed = routed
        # What each service's route led to before: ids of its containers, or addresses of others.
        self.former: dict[str, list[str]] = {}
        self.written: set[str] = set()
        # Told of each service whose traffic goes to other containers now.
        self.told: Callable[[str], None] = lambda name: None

    def observe(self, name: str, ones: Sequence[Instance]) -> Sequence[str]:
        """Return the service's route, to go back to if a later step fails."""
        if self.routing is None:
            return ()
        urls = self.routing.of(name).observe() or ()
        known = self.routing.known(name, [one.container for one in ones])
        there = {normal(url): container_id for url, container_id in known.items()}
        self.former[name] = [there.get(normal(url), url) for url in urls]
        return urls

    def look(self, name: str) -> Sequence[str]:
        """Return the service's route as it is now."""
        return self.routing.look(name) if self.routing is not None else ()

    def send(
        self,
        name: str,
        ids: Sequence[str],
        healthy: Mapping[str, Container],
        on_undo: OnUndo,
    ) -> None:
        """Send a service's traffic to these containers, all of which must still be healthy.

        What had the traffic before gets it back by :meth:`send_back` alone; a service that had no
        route loses it as *on_undo* is told.

        :param healthy: by id, those that were found healthy, as they were seen then.
        :raises DeliveryError: one is not healthy any more, or the router refused.
        """
        known = [healthy[one] for one in ids if one in healthy]
        check_unchanged(self.client, known)
        routing = self.routing
        if routing is None or name not in self.routed:
            return
        one_route = routing.of(name)
        one_route.watch = partial(check_unchanged, self.client, known)
        with blaming(self.client, known):
            urls = routing.urls(name, [self._seen(one) for one in ids])
            self.written.add(name)
            one_route.switch(urls, not_noted if self.former.get(name) else on_undo)
        self.told(name)

    def send_back(self, name: str, stopped: Collection[str] = ()) -> bool:
        """Send the traffic back to what had it before; return whether there was any.

        A container that was started again may have another port than it had.

        :param stopped: ids of those that do not run.
        """
        targets = [one for one in self.former.get(name, ()) if one not in stopped]
        routing = self.routing
        if routing is None or not targets:
            return False

        def back() -> list[str]:
            return [one if "://" in one else routing.url(name, self._seen(one)) for one in targets]

        patiently(routing.of(name).restore, back)
        return True

    def may_lead_to(self, name: str, container_id: str) -> str:
        """Return why the service's traffic may go to a container, or an empty string."""
        if self.routing is None or name not in self.written:
            return ""
        try:
            return self.routing.may_lead_to(name, [self._seen(container_id)])
        except Missing:
            return ""

    def drain(self, name: str, *, undo: bool = False) -> None:
        """Wait for the last requests of those that have lost the traffic."""
        if self.routing is not None and name in self.routed:
            self.routing.drain(name, undo=undo)

    def ask(self, names: Collection[str]) -> str:
        """Look once whether these services answer through the router; return what is wrong."""
        return self.routing.ask(sorted(self.routed & set(names))) if self.routing else ""

    def check(self, name: str) -> Callable[[Container], str] | None:
        """Return what asks a new container itself; None if there is nothing to ask."""
        routing = self.routing
        if routing is None or name not in self.routed or not routing.checks.health_path:
            return None
        return lambda container: routing.check(name, container)

    def check_serving(self, name: str, container_id: str) -> None:
        """Make sure that a container serves, before it gets the traffic back.

        :raises DeliveryError: it does not.
        """
        routing = self.routing if name in self.routed else None
        check_serving(self.client, routing, name, container_id)

    def _seen(self, container_id: str) -> Container:
        return patiently(inspect, self.client, container_id)


def not_noted(undo: Callable[[], object], state: str = "") -> None:
    """Forget how a write is undone: :meth:`Traffic.send_back` or its like does it in its time."""
