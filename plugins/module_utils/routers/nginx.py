# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nginx by a file a service, its own test of it, and a reload.

A switch is done when new workers serve and the old ones take nothing more. What they still work on
is counted by the workers that are left, since nginx does not tell how many requests each has.

For no loss the servers that clients connect to need ``keepalive_timeout 0`` (or, from nginx 1.27.4
on, ``keepalive_min_timeout``): an old worker closes idle connections when it leaves, and a client
may be sending its next request at that moment. Nor may they have ``reuseport``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..change import undoing
from ..errors import enumerate_words
from ..exclusive import exclusive
from .base import APART, Candidate, Overtaken, Route, RouterError, same_route, same_targets
from .canary import check_weight
from .files import replace_file
from .nginx_config import Header, State, Version, check_upstreams, parse, render, variable
from .nginx_process import NginxProcess, boot_id, now
from .plan import where


class Nginx:
    """One nginx.

    :param url: the address at which clients reach the service.
    :param folder: where the services' files are; nginx includes ``*.conf`` of it.
    """

    name = "nginx"

    def __init__(
        self, process: NginxProcess, url: str, folder: Path, header: Header | None = None
    ) -> None:
        self.process = process
        self.url = url
        self.folder = folder
        self.header = header or Header()
        # What each service was when it was last observed; a switch holds for that only.
        self.seen: dict[str, Route] = {}

    def observe(self, service: str) -> Route:
        """Find out where the traffic goes now, by the file and by who has read it.

        :raises RouterError: nginx does not run, or somebody else changed the file.
        """
        self.seen[service] = _route(service, self._standing(service))
        return self.seen[service]

    def switch(self, service: str, urls: Sequence[str]) -> None:
        """Send everything to *urls*; on return it is durable.

        :raises Overtaken: the service is no longer what was observed; nothing was switched.
        :raises RouterError: nginx refuses the configuration or does not reload; the old file is
            back in its place.
        """
        if not urls:
            raise RouterError("nginx needs at least one address")
        self._change(service, lambda before: Version(tuple(urls)))

    def remove(self, service: str) -> None:
        """Answer the service's clients that there is no such service.

        Its file stays, since nginx's servers use the variables that it defines.
        """
        self._change(service, lambda before: Version())

    def in_flight(self, service: str) -> int | None:
        """Count the workers that began before the last switch: each has a request at least."""
        state = self._read(service)
        if state is None or state.boot != boot_id():
            return 0
        return sum(worker.started < state.written for worker in self.process.workers())

    def entrance(self, service: str) -> str:
        """Return where clients reach the service."""
        return self.url

    @property
    def asks(self) -> tuple[str, str]:
        """The header, and its value, by which a client asks for the candidate."""
        return self.header.name, self.header.candidate

    def check_targets(self, urls: Sequence[str]) -> None:
        """Make sure that nginx can have these addresses.

        :raises RouterError: it cannot.
        """
        check_upstreams(urls)

    def stage(self, service: str, urls: Sequence[str], weight: int = 0) -> None:
        """Make *urls* the candidate, with that share of the clients.

        :raises RouterError: there is no live version, or these are its addresses.
        """
        check_weight(weight)
        if not urls:
            raise RouterError("nginx needs at least one address")

        def beside(before: Version) -> Version:
            if not before.live:
                raise RouterError(
                    f"{service} has no live version that a candidate could stand beside",
                    next_step="Switch to a first version.",
                )
            if same_targets(before.live, urls):
                raise RouterError(
                    f"{enumerate_words(urls)} is live, and so cannot be the candidate"
                )
            return replace(before, candidate=tuple(urls), weight=weight)

        self._change(service, beside)

    def unstage(self, service: str) -> None:
        """Send everything to the live version; satisfied where there is no candidate."""
        self._change(service, lambda before: Version(before.live))

    def _change(self, service: str, follow: Callable[[Version], Version]) -> None:
        path = self._path(service)
        with exclusive(self.folder):
            state = self._read(service)
            standing = self._standing(service)
            route = _route(service, standing)
            if service in self.seen and not same_route(route, self.seen[service]):
                raise Overtaken(f"somebody else was first: {where(route)}", next_step=APART)
            version = follow(standing)
            following_route = _route(service, version)
            if state is not None and version == standing == state.version:
                self.seen[service] = following_route
                return
            old = path.read_text(encoding="utf-8") if state is not None else None
            following = State(standing).next(version, boot_id(), now())
            replace_file(path, render(service, following, self.header))
            with undoing(partial(self._put_back, path, old, False)):
                self.process.test()
            with undoing(partial(self._put_back, path, old, True)):
                self.process.reload()
            self.seen[service] = following_route

    def _put_back(self, path: Path, old: str | None, told: bool) -> str:
        if old is None:
            path.unlink(missing_ok=True)
        else:
            replace_file(path, old)
        if told:
            # It may have been slow rather than unwilling, and must not end with the new file.
            self.process.reload()
        return f"{path} is as it was before."

    def _standing(self, service: str) -> Version:
        """Return what nginx runs with, which is the file where its workers are younger."""
        state = self._read(service)
        workers = self.process.workers()
        if state is None:
            return Version()
        if state.boot != boot_id():
            return state.version
        serving = [worker for worker in workers if not worker.leaving]
        if any(worker.started < state.written for worker in serving):
            return state.previous
        return state.version

    def _read(self, service: str) -> State | None:
        path = self._path(service)
        try:
            return parse(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RouterError(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise RouterError(
                f"{path} is not as a switch has written it: {error}",
                next_step="Put it back, or move it away and switch again.",
            ) from error

    def _path(self, service: str) -> Path:
        variable(service)
        return self.folder / f"{service}.conf"


def _route(service: str, version: Version) -> Route:
    tried = Candidate(version.candidate, version.weight) if version.candidate else None
    return Route(service, version.live, tried)
