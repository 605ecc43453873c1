# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The undo of a redeploy in place: the very same containers as before serve again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from ..engine.containers import NO_RESTART
from ..engine.errors import Missing
from ..engine.health import check_unchanged, grace_after
from ..engine.inspect import Container
from ..engine.parallel import patiently, together
from ..errors import DeliveryError, enumerate_words, join_sentences
from ..routers.base import StillServing
from .containers import Containers
from .decision import Wanted
from .engine_state import GRACE, Instance
from .naming import aside, due_name, plain_name
from .traffic import Traffic
from .unverified import NotServing, as_before, serving_sentence, still_well

LEFT = "Make sure that the router answers, then run this again."


@dataclass
class Progress:
    """What a redeploy has done so far. Each is noted before it is done.

    :param made: the new containers, by service.
    :param names: the names that they have once nobody else has them, by id.
    :param own: the restart policies that the files give them, by id.
    :param healthy: those that were found healthy, as they were seen then.
    :param started: ids of the new containers that were started.
    :param stopped: the former containers that were told to stop, by id, each with its policy.
    :param unproved: ids of those that a killed run has started: an undo stops them, unless they
        are still healthy or the former ones do not serve.
    :param halted: ids of those among them that were told to stop.
    """

    made: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    own: dict[str, str] = field(default_factory=dict)
    healthy: dict[str, Container] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    stopped: dict[str, tuple[Instance, str]] = field(default_factory=dict)
    unproved: set[str] = field(default_factory=set)
    halted: set[str] = field(default_factory=set)

    def stop(self, one: Instance, restart: str = "") -> None:
        """Note that a former container is told to stop.

        :param restart: the policy that it gets when it is started again, if it has lost its own.
        """
        own = one.container.restart
        self.stopped.setdefault(one.id, (one, restart if restart and own == NO_RESTART else own))


class PutBack:
    """Undoes what :class:`Progress` has noted, once, however many steps ask for it."""

    def __init__(
        self, containers: Containers, wanted: Wanted, traffic: Traffic, progress: Progress
    ) -> None:
        self.containers = containers
        self.wanted = wanted
        self.traffic = traffic
        self.progress = progress
        self.former: Mapping[str, Instance] = {}
        self.done = False
        # The new containers that are left running, since they may have the traffic.
        self.left: set[str] = set()
        # Whether something could not be put back.
        self.failed = False

    def __call__(self) -> str:
        """Bring the former containers back; return who serves again.

        :raises DeliveryError: not all of it could be done; the rest has been.
        """
        if self.done:
            return ""
        self.done = True
        failed: list[DeliveryError] = []

        def attempt(call: Callable[[], object]) -> None:
            try:
                call()
            except DeliveryError as error:
                failed.append(error)

        unproved = [self.former[one] for one in sorted(self.progress.unproved)]
        services = {one.service for one in unproved}
        if unproved and self._still_well(unproved, services):
            said = as_before([one.name for one in unproved])
            self._leave(unproved)
        else:
            said = ""
            attempt(partial(self._check_running, services))
            if failed:
                self._serve_instead(unproved)
        # Those that still run can have the traffic at once.
        for name in sorted(self.traffic.written):
            attempt(partial(self._send_back_now, name))
        in_turn = {name for name in self._touched() if not self.wanted.rolls(name)}
        self._check_router(in_turn)
        # A port, a name or a volume may be for one of them only.
        attempt(partial(self._stop_new, in_turn))
        attempt(self.restore_names)
        attempt(self._start_former)
        if self.progress.unproved:
            try:
                self._check_started(services)
            except DeliveryError as error:
                failed.append(error)
                attempt(partial(self._stop_former, services))
                self._serve_instead(unproved)
                attempt(partial(self._start_former, services))
        names = {one.service for one, _policy in self.progress.stopped.values()}
        for name in sorted(names | self.traffic.written):
            attempt(partial(self.traffic.send_back, name))
        rolled = self._touched() - in_turn
        for name in sorted(self.traffic.written & rolled):
            attempt(partial(self.traffic.drain, name, undo=True))
        attempt(partial(self._leave_serving, rolled))
        attempt(partial(self._stop_new, rolled))
        if failed:
            self.failed = True
            raise failed[0].with_state(
                said or join_sentences(*map(self._serving, sorted(services)))
            )
        back = self._back()
        again = f"{enumerate_words(back)} {'serves' if len(back) == 1 else 'serve'} again" * bool(
            back
        )
        return join_sentences(said, again) if said else again

    # What a killed run has started: see unverified.py

    def _still_well(self, unproved: Sequence[Instance], services: set[str]) -> bool:
        noted = [one.container for one in unproved]
        return still_well(self.containers.client, noted, partial(self.traffic.ask, services))

    def _leave(self, unproved: Sequence[Instance]) -> None:
        """Leave those that a killed run has started, and what they serve, as they are."""
        ids, services = {one.id for one in unproved}, {one.service for one in unproved}
        self.progress.unproved -= ids
        for service in services:
            made = self.progress.made.get(service, [])
            self.progress.made[service] = [one for one in made if one not in ids]
        for one, _policy in list(self.progress.stopped.values()):
            if one.service in services:
                del self.progress.stopped[one.id]
        self.traffic.written -= services

    def _serve_instead(self, unproved: Sequence[Instance]) -> None:
        """Let those that a killed run has started serve again: the former ones do not."""
        services = {one.service for one in unproved}
        written = self.traffic.written & services
        self._leave(unproved)
        self.traffic.written |= written
        for service in services & set(self.traffic.former):
            self.traffic.former[service] = [one.id for one in unproved if one.service == service]
        for one in unproved:
            if one.id in self.progress.halted:
                self.progress.stop(one, self.wanted.project.services[one.service].restart)

    def _check_running(self, services: Iterable[str]) -> None:
        """Make sure that the former containers that run answer, before they get the traffic."""
        elsewhere = {*self.progress.stopped, *self.progress.unproved}
        for service in services:
            there = [
                one.id
                for one in self.former.values()
                if one.service == service and one.container.well and one.id not in elsewhere
            ]
            for one in self.traffic.former.get(service, there):
                if one in self.former and one not in self.progress.stopped:
                    self.traffic.check_serving(service, one)

    def _check_started(self, services: Iterable[str]) -> None:
        """Make sure that the former containers that were started again serve."""
        for one, _policy in self.progress.stopped.values():
            if one.service in services:
                if again := patiently(self.containers.inspect, one.id).restarts:
                    raise NotServing(f"{one.name} ended, and was restarted {again} time(s)")
                self.traffic.check_serving(one.service, one.id)

    def _stop_former(self, services: Iterable[str]) -> None:
        together(
            partial(patiently, self.containers.stop_and_keep, one.id, one.grace, one.name)
            for one, _policy in self.progress.stopped.values()
            if one.service in services
        )

    def _serving(self, service: str) -> str:
        ids = self.traffic.former.get(service) or [
            one.id for one, _policy in self.progress.stopped.values() if one.service == service
        ]
        try:
            wrong = self.traffic.ask([service])
        except DeliveryError:  # somebody else changed the route
            return ""
        names = [self.former[one].name if one in self.former else one for one in ids]
        return serving_sentence(service, names, wrong)

    def _back(self) -> list[str]:
        """Return the names of those that were started again, or have the traffic again."""
        ids = list(self.progress.stopped)
        ids += [one for name in self.traffic.written for one in self.traffic.former.get(name, ())]
        return sorted({self.former[one].name for one in ids if one in self.former})

    def _touched(self) -> set[str]:
        """Return the services of which there are new containers, or some that were killed."""
        unproved = {self.former[one].service for one in self.progress.unproved}
        return {*self.progress.made, *unproved, *self.traffic.written}

    def _send_back_now(self, name: str) -> None:
        if self.traffic.send_back(name, self.progress.stopped) and not self.wanted.rolls(name):
            self.traffic.drain(name, undo=True)

    def _check_router(self, services: Collection[str]) -> None:
        """Make sure that the traffic can be sent elsewhere than to the new containers.

        :param services: those whose new containers are stopped before the former ones start.
        :raises StillServing: it cannot, and they are healthy; so they go on.
        """
        try:
            for name in sorted(self.traffic.written & set(services)):
                self.traffic.look(name)
        except DeliveryError as error:
            try:
                check_unchanged(self.containers.client, list(self.progress.healthy.values()))
            except DeliveryError:
                return
            self.left = {one for ids in self.progress.made.values() for one in ids}
            raise StillServing(
                f"the new containers were left running: {error.message}", next_step=LEFT
            ) from error

    def _leave_serving(self, services: Collection[str]) -> None:
        """Find the new containers of these that still have the traffic, or may have it.

        :raises StillServing: there are any.
        """
        why = {
            one: said
            for name in services
            for one in self.progress.made.get(name, ())
            if (said := self.traffic.may_lead_to(name, one))
        }
        self.left |= set(why)
        if why:
            said = next(iter(why.values()))
            raise StillServing(f"new containers were left running: {said}", next_step=LEFT)

    def _stop_new(self, services: Collection[str]) -> None:
        made = {one for name in services for one in self.progress.made.get(name, ())}
        unproved = {one for one in self.progress.unproved if self.former[one].service in services}
        together(
            partial(patiently, self._stop, container_id)
            for container_id in (made & self.progress.started | unproved) - self.left
        )

    def _stop(self, container_id: str) -> None:
        try:
            seen = self.containers.inspect(container_id)
            if container_id in self.progress.unproved:
                self.progress.halted.add(container_id)
            grace = grace_after(seen, self.progress.healthy.get(container_id), GRACE)
            self.containers.stop_and_keep(container_id, grace, seen.name)
        except Missing:
            return  # it does not run, then

    def _start_former(self, services: Collection[str] | None = None) -> None:
        """Start them in the order of their dependencies, each level healthy before the next.

        :param services: those whose containers are started; None for all.
        :raises DeliveryError: one could not be started; all others have been.
        """
        failed: list[DeliveryError] = []
        stopped = [
            (one, policy)
            for one, policy in self.progress.stopped.values()
            if services is None or one.service in services
        ]
        for level in self.wanted.project.levels({one.service for one, _policy in stopped}):
            try:
                self._start_level([(one, p) for one, p in stopped if one.service in level])
            except DeliveryError as error:
                failed.append(error)
        if failed:
            raise failed[0]

    def _start_level(self, ones: Sequence[tuple[Instance, str]]) -> None:
        together(
            partial(
                patiently,
                self.containers.start_again,
                one.id,
                one.grace,
                one.name,
                restart=policy,
            )
            for one, policy in ones
        )
        # One that was not healthy before is not waited for; one that a killed run stopped is.
        self.containers.wait([one.id for one, _p in ones if self._was_good(one)])

    def _was_good(self, one: Instance) -> bool:
        return one.container.well or not one.container.alive

    def restore_names(self) -> None:
        """Give the former containers their names; others that have one of them get another."""
        names = self._names()
        new = [one for ids in self.progress.made.values() for one in ids]
        for container_id in self._known([*self.former, *new]):
            now = patiently(self.containers.inspect, container_id).name
            if names.get(now, container_id) != container_id:
                patiently(self.containers.rename, container_id, aside(now, container_id))
        for name, container_id in names.items():
            if self._known([container_id]):
                patiently(self.containers.rename, container_id, name)

    def _names(self) -> dict[str, str]:
        """Return the names of the former containers, with the id of who is to have each.

        One that serves again gets the name that a killed run gave to the one in its place.
        """
        names = {one.name: one.id for one in self.former.values()}
        for one, _policy in self.progress.stopped.values():
            due = due_name(self.wanted.project.services[one.service], one)
            free = names.get(due, "") in {"", *self.progress.unproved}
            if due == plain_name(one.name) and free:
                names.pop(one.name, None)
                names[due] = one.id
        return names

    def _known(self, ids: Iterable[str]) -> Sequence[str]:
        found = []
        for container_id in ids:
            try:
                patiently(self.containers.inspect, container_id)
            except Missing:
                continue
            found.append(container_id)
        return found
