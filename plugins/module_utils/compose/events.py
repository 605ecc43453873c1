# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long a service had nobody to answer, by the engine's own events and clock.

A service that clients reach by a router has nobody for them until the router knows of the new
container.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .engine_state import PROJECT, SERVICE

if TYPE_CHECKING:
    from docker import DockerClient

# From the moment it is told to end, a container may turn clients away.
ENDING = ("2", "3", "9", "15", "SIGINT", "SIGQUIT", "SIGKILL", "SIGTERM")
SECOND = 1e9
PATIENCE = 5.0
# No event of the engine's: the router sends the traffic to the containers that are ready.
ROUTED = "routed"


@dataclass(frozen=True)
class Event:
    """One event; ``time`` is nanoseconds on the engine's clock."""

    time: int
    service: str
    container: str
    action: str


def event_of(document: Mapping[str, Any]) -> Event | None:
    """Read an event of ``GET /events``; None for one that says nothing here."""
    actor = document.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    action = str(document.get("Action") or "")
    if action == "kill" and str(attributes.get("signal")) not in ENDING:
        return None
    if action not in {"start", "kill", "die", "health_status: healthy"}:
        return None
    return Event(
        int(document.get("timeNano") or 0), attributes.get(SERVICE, ""), actor.get("ID", ""), action
    )


def downtimes(
    events: Iterable[Event],
    ready: Mapping[str, Collection[str]],
    checked: Collection[str],
    routed: Collection[str] = (),
) -> dict[str, float | None]:
    """Return for each service the longest time, in seconds, that none of its containers was ready.

    :param ready: by service, the containers that were ready at first. A service that had none was
        not there, and so was not down.
    :param checked: the containers that have a health check, and are ready only once it succeeds.
    :param routed: the services that clients reach by a router.

    None stands for a service that is down still.
    """
    now = {service: set(ids) for service, ids in ready.items()}
    unknown: dict[str, set[str]] = {service: set() for service in routed}
    since: dict[str, int] = {}
    longest: dict[str, float | None] = dict.fromkeys(ready, 0.0)
    for event in sorted(events, key=lambda event: event.time):
        ids = now.get(event.service)
        if ids is None:
            continue
        had = bool(ids)
        if event.action in {"kill", "die"}:
            ids.discard(event.container)
            unknown.get(event.service, set()).discard(event.container)
        elif event.action == ROUTED:
            ids |= unknown.get(event.service, set())
        elif event.action != "start" or event.container not in checked:
            unknown.get(event.service, ids).add(event.container)
        if had and not ids:
            since[event.service] = event.time
        elif ids and not had and event.service in since:
            down = (event.time - since.pop(event.service)) / SECOND
            longest[event.service] = max(longest[event.service] or 0.0, down)
    for service in since:
        longest[service] = None
    return longest


class Watch:
    """Listens to the events of a project's containers while it is used in a ``with``."""

    def __init__(self, client: DockerClient, *projects: str) -> None:
        self.client = client
        self.projects = projects
        self.events: list[Event] = []
        self.broken = False
        # How much this host's clock is ahead of the engine's, and what an event takes to come.
        self._ahead: int | None = None
        self._stream: Any = None
        self._thread: threading.Thread | None = None
        self._seen = threading.Condition()

    def __enter__(self) -> Watch:
        try:
            self._stream = self.client.events(decode=True, filters={"type": "container"})
        except Exception:  # a measurement must not keep a deploy from being done
            self.broken = True
            return self
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._stream is not None:
            with suppress(Exception):
                self._stream.close()
        if self._thread is not None:
            self._thread.join(PATIENCE)

    def _listen(self) -> None:
        try:
            for document in self._stream:
                attributes = (document.get("Actor") or {}).get("Attributes") or {}
                event = event_of(document)
                if event is None or attributes.get(PROJECT) not in self.projects:
                    continue
                with self._seen:
                    ahead = time.time_ns() - event.time
                    self._ahead = ahead if self._ahead is None else min(self._ahead, ahead)
                    self.events.append(event)
                    self._seen.notify_all()
        except Exception:  # however the stream ends, what came of it is what there is
            self.broken = True
        else:
            self.broken = True
        finally:
            with self._seen:
                self._seen.notify_all()

    def routed(self, service: str) -> None:
        """Note that the router sends the service's traffic to its containers from now on."""
        with self._seen:
            now = time.time_ns() - (self._ahead or 0)
            self.events.append(Event(now, service, "", ROUTED))

    def downtimes(
        self,
        ready: Mapping[str, Collection[str]],
        checked: Collection[str],
        routed: Collection[str] = (),
    ) -> dict[str, float | None]:
        """Return what :func:`downtimes` does, once the last event has come."""

        def known() -> dict[str, float | None]:
            return downtimes(self.events, ready, checked, routed)

        with self._seen:
            self._seen.wait_for(lambda: self.broken or None not in known().values(), PATIENCE)
            return known()
