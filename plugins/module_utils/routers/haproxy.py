# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HAProxy through its runtime API: a backend a version, and a map that says which one is live.

A switch fills a backend that carries nothing, waits until HAProxy's own checks find it up, and
then changes one entry of the map. Requests that are under way stay in the backend that they began
in, and are counted there.

The map has these entries for a service, and ``:`` cannot be in a service's name::

    SERVICE             the backend of the live version
    SERVICE:candidate   the backend of the candidate, where there is one
    SERVICE:weight      its share of the clients in percent

HAProxy has no compare-and-set for one entry. So changes are made under flock(2) of the folder of
the map's file, and a switch is refused where the service is no longer what ``observe`` saw.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..change import OnUndo
from ..errors import enumerate_words
from ..exclusive import exclusive
from .base import APART, Candidate, Overtaken, Route, RouterError, same_route, same_targets
from .canary import check_weight
from .files import Prepared
from .haproxy_backends import Backends, CandidateDown, as_targets, is_slot, parsed
from .haproxy_parse import parse_map
from .haproxy_runtime import Runtime
from .plan import where

NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
Changes = Sequence["tuple[str, str | None]"]
# How often an HAProxy is told again that was restarted meanwhile.
TRIES = 3
HEADER = "# Written at each switch, so that a restart keeps what stands.\n"


class HaProxy:
    """One HAProxy.

    :param url: the address at which clients reach the service.
    :param map_name: the map's file as HAProxy's configuration names it.
    :param map_file: the same file as it is to be written from here.
    :param state_file: where HAProxy reads its servers' state from when it starts.
    :param check_timeout: seconds that HAProxy's checks may take to find new addresses up.
    :param asks: the header, and its value, that the configuration sends to the candidate.
    """

    name = "haproxy"

    def __init__(
        self,
        runtime: Runtime,
        url: str,
        *,
        map_name: str,
        map_file: Path,
        state_file: Path,
        check_timeout: float,
        asks: tuple[str, str] = ("x-client-mode", "green"),
    ) -> None:
        self.runtime = runtime
        self.backends = Backends(runtime)
        self.url = url
        self.map_name = map_name
        self.map_file = map_file
        self.state_file = state_file
        self.check_timeout = check_timeout
        self.asks = asks
        # What each service was when it was last observed; a switch holds for that only.
        self.seen: dict[str, Route] = {}

    def observe(self, service: str) -> Route:
        """Ask where the traffic goes now.

        :raises RouterError: HAProxy cannot be asked, or its map names a backend it does not have.
        """
        self.seen[service] = self._route(service)
        return self.seen[service]

    def prepare(self, service: str, urls: Sequence[str], on_undo: OnUndo) -> None:
        """Give *urls* to a backend that carries nothing, and wait until HAProxy finds them up.

        :raises CandidateDown: they are not up in time; the backend is empty again.
        :raises RouterError: HAProxy cannot be changed.
        """
        name, given = self._fill(service, urls)
        if given:
            on_undo(lambda: self._empty(name), f"HAProxy's backend {name} is empty again")
        self.backends.wait_up(name, self.check_timeout)

    def switch(self, service: str, urls: Sequence[str]) -> None:
        """Send everything to *urls*, once HAProxy itself finds them up; on return it is durable.

        :raises CandidateDown: they are not up in time; nothing was switched.
        :raises Overtaken: the service is no longer what was observed; nothing was switched.
        :raises RouterError: HAProxy or the files cannot be changed.
        """
        live, candidate, weight = _keys(service)
        self._carry(service, urls, lambda name: [[(live, name), (weight, None), (candidate, None)]])
        # It may be undone, and then this is what must be found.
        self.seen[service] = Route(service, tuple(urls))

    def remove(self, service: str) -> None:
        """Forget the service; what is under way ends where it is.

        :raises Overtaken: the service is no longer what was observed; nothing was changed.
        """
        with self._alone():
            self._check_seen(service)
            known = self._set([(key, None) for key in _keys(service)])
            busy = self.backends.sessions()
            for slot in self.backends.of(service):
                if slot.name not in known.values() and not busy.get(slot.name):
                    self.backends.out_of_service(slot)
        self.seen[service] = Route(service)

    def in_flight(self, service: str) -> int | None:
        """Count the requests in backends of the service that are neither live nor candidate."""
        known = self._map()
        used = {known.get(key) for key in _keys(service)}
        return sum(
            count
            for backend, count in self.backends.sessions().items()
            if is_slot(backend, service) and backend not in used
        )

    def entrance(self, service: str) -> str:
        """Return where clients reach the service."""
        return self.url

    def check_targets(self, urls: Sequence[str]) -> None:
        """Make sure that servers of HAProxy's can have these addresses.

        :raises RouterError: they cannot.
        """
        as_targets(urls)

    def stage(self, service: str, urls: Sequence[str], weight: int = 0) -> None:
        """Make *urls* the candidate, once HAProxy itself finds them up.

        What lowers the share of one that is the candidate already does not wait: it may be down.

        :raises CandidateDown: they are not up in time; nothing was changed.
        :raises RouterError: there is no live version, or these are its addresses.
        """
        check_weight(weight)
        live = self._route(service)
        if not live.urls:
            raise RouterError(
                f"{service} has no live version that a candidate could stand beside",
                next_step="Switch to a first version.",
            )
        if same_targets(live.urls, urls):
            raise RouterError(f"{enumerate_words(urls)} is live, and so cannot be the candidate")
        _live, candidate, share = _keys(service)
        if self._lower(service, urls, weight):
            return

        def changes(name: str) -> list[Changes]:
            first: list[Changes] = []
            if self._map().get(candidate) != name:
                # Lest an earlier candidate's share went to this one for a moment.
                first = [[(share, None), (candidate, name)]]
            return [*first, [(share, str(weight))]]

        self._carry(service, urls, changes)
        self.seen[service] = replace(live, candidate=Candidate(tuple(urls), weight))

    def _lower(self, service: str, urls: Sequence[str], weight: int) -> bool:
        with self._alone():
            self._check_seen(service)
            now = self._route(service)
            having = now.candidate
            if having is None or not same_targets(having.urls, urls) or weight > having.weight:
                return False
            self._set([(_keys(service)[2], str(weight))])
            self.seen[service] = replace(now, candidate=replace(having, weight=weight))
            return True

    def unstage(self, service: str) -> None:
        """Send everything to the live version; satisfied where there is no candidate."""
        _live, candidate, weight = _keys(service)
        with self._alone():
            self._check_seen(service)
            self._set([(weight, None), (candidate, None)])
            self.seen[service] = self._route(service)

    def _carry(
        self, service: str, urls: Sequence[str], changes: Callable[[str], Sequence[Changes]]
    ) -> None:
        """Change the map once a backend has *urls*.

        An HAProxy that is restarted in between forgets them. Then the map is as it was before
        until they are up again.
        """
        for _attempt in range(TRIES):
            with self._filled(service, urls) as name:
                known = self._map()
                for change in changes(name):
                    self._set(change)
                if self.backends.named(name).holds(as_targets(urls)):
                    return
                self._set([(key, known.get(key)) for key in _keys(service)])
        raise self._restarted()

    def _restarted(self) -> RouterError:
        return RouterError(
            f"HAProxy lost the change {TRIES} times, as it does when it is restarted",
            next_step="See its log, then run this again.",
        )

    @contextmanager
    def _filled(self, service: str, urls: Sequence[str]) -> Iterator[str]:
        """Yield the backend that has *urls*, up, while nobody else changes anything."""
        name, given = self._fill(service, urls)
        try:
            # Without the lock, since checks may take long.
            self.backends.wait_up(name, self.check_timeout)
        except CandidateDown:
            if given:
                self._empty(name)
            raise
        with self._alone():
            if not self.backends.named(name).holds(as_targets(urls)):
                raise Overtaken(
                    f"somebody else took the backend {name} for {service} meanwhile",
                    next_step=APART,
                )
            self._check_seen(service)
            yield name

    def _fill(self, service: str, urls: Sequence[str]) -> tuple[str, bool]:
        targets = as_targets(urls)
        live, _candidate, _weight = _keys(service)
        with self._alone():
            return self.backends.fill(live, targets, self._map().values())

    def _empty(self, name: str) -> None:
        with self._alone():
            if name not in self._map().values() and not self.backends.sessions().get(name):
                self.backends.out_of_service(self.backends.named(name))

    def _set(self, changes: Changes) -> dict[str, str]:
        """Change entries of the map, in this order, and both files; None removes one.

        The files are written first and renamed last: that a disk is full must not be found out
        after the switch. An HAProxy that is restarted before they are renamed has the earlier map,
        and is told again: at its next restart it would have another one than it has now.
        """
        for _attempt in range(TRIES):
            known = self._map()
            wanted = {**known, **dict(changes)}
            kept = {name: value for name, value in sorted(wanted.items()) if value is not None}
            lines = (f"{name} {value}\n" for name, value in kept.items())
            state = self.runtime.ask("show servers state") + "\n"
            prepared = Prepared({self.state_file: state, self.map_file: HEADER + "".join(lines)})
            try:
                self._tell(known, changes)
                prepared.commit()
            finally:
                prepared.discard()
            if self._map() == kept:
                return kept
        raise self._restarted()

    def _tell(self, known: Mapping[str, str], changes: Changes) -> None:
        for name, value in changes:
            if value is None and name in known:
                self.runtime.tell(f"del map {self.map_name} {name}")
            elif value is not None and known.get(name) != value:
                verb = "set" if name in known else "add"
                self.runtime.tell(f"{verb} map {self.map_name} {name} {value}")

    def _check_seen(self, service: str) -> None:
        seen = self.seen.get(service)
        if seen is None:
            return
        now = self._route(service)
        if not same_route(now, seen):
            raise Overtaken(f"somebody else was first: {where(now)}", next_step=APART)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self.map_file.is_file():
            raise RouterError(
                f"HAProxy's map file {self.map_file} is not there",
                next_step="Run this on HAProxy's host (delegate_to), and name the file as it is "
                "found there.",
            )
        with exclusive(self.map_file.parent):
            yield

    def _map(self) -> dict[str, str]:
        return parsed(self.runtime, parse_map, f"show map {self.map_name}")

    def _route(self, service: str) -> Route:
        keys = _keys(service)
        known = self._map()
        live, candidate, weight = (known.get(key) for key in keys)
        tried = None
        if candidate is not None:
            share = weight or "0"
            if not share.isdecimal():
                raise self.runtime.garbage(f"show map {self.map_name}")
            tried = Candidate(self._urls(service, candidate), int(share))
        return Route(service, self._urls(service, live), tried)

    def _urls(self, service: str, backend: str | None) -> tuple[str, ...]:
        if backend is None:
            return ()
        slot = self.backends.named(backend)
        if not slot.servers:
            raise RouterError(
                f"HAProxy's map sends {service} to the backend {backend}, which does not exist",
                next_step=f"Correct {self.map_file}, and reload HAProxy.",
            )
        return slot.urls


def _keys(service: str) -> tuple[str, str, str]:
    """Return the map's entries of a service: live, candidate and weight."""
    if not NAME.fullmatch(service):
        raise RouterError(
            f"{service!r} cannot be the name of a service",
            next_step="Give letters, digits, '.', '_' and '-'.",
        )
    return service, f"{service}:candidate", f"{service}:weight"
