# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which targets a name stands for, and how many requests each still carries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from .state import State, load, save
from .target import BadRegistration, Target, check_name

MAX_TARGETS = 256
# Decides on the generation that stands (0: no such service) whether a change may be made.
Condition = Callable[[int], bool]


class Conflict(Exception):
    """The service is not what the caller believed; `generation` is what stands (0: nothing)."""

    def __init__(self, generation: int) -> None:
        super().__init__(generation)
        self.generation = generation


class Service:
    """A name: the targets that get its new requests, and earlier ones still finishing theirs."""

    __slots__ = ("_turn", "draining", "generation", "name", "targets", "waiters")

    def __init__(self, name: str) -> None:
        self.name = name
        self.generation = 0
        self.targets: tuple[Target, ...] = ()
        self.draining: list[Target] = []
        self.waiters: set[asyncio.Future[None]] = set()
        self._turn = 0

    @property
    def urls(self) -> list[str]:
        """The addresses that get new requests; none for a name that was removed."""
        return [target.url for target in self.targets]

    @property
    def in_flight(self) -> int:
        """Requests on targets that are no longer current."""
        return sum(target.in_flight for target in self.draining)

    @property
    def current_in_flight(self) -> int:
        """Requests on current targets."""
        return sum(target.in_flight for target in self.targets)

    def claim(self, avoid: Collection[Target] = ()) -> Target | None:
        """Count one request on the current target that has the fewest, in turn among equals.

        One that has lately refused a connection comes last, and one in `avoid` not at all. There
        is no await between choosing and counting, so a request belongs either wholly before a
        switch (and is seen by its drain) or wholly after it.
        """
        targets = self.targets
        if len(targets) > 1:
            target = self._least_busy(avoid)
        else:
            target = targets[0] if targets and targets[0] not in avoid else None
        if target is not None:
            target.in_flight += 1
        return target

    def _least_busy(self, avoid: Collection[Target]) -> Target | None:
        now = time.monotonic()
        self._turn = (self._turn + 1) % len(self.targets)
        in_turn = self.targets[self._turn :] + self.targets[: self._turn]
        candidates = [target for target in in_turn if target not in avoid]
        # min() takes the first of several that are equal.
        return min(candidates, key=lambda t: (t.rests_until > now, t.in_flight), default=None)

    def release(self, target: Target) -> None:
        """Give back one claim."""
        target.in_flight -= 1
        if target.in_flight == 0 and target in self.draining:
            self.draining.remove(target)
            self._tell_drained()

    def switch(self, targets: Sequence[Target]) -> list[Target]:
        """Make `targets` current, all at once, and return those that no longer are."""
        left = [target for target in self.targets if target not in targets]
        self.targets = tuple(targets)
        self._turn = 0
        for target in left:
            target.retired = True
            if target.in_flight:
                self.draining.append(target)
        for target in targets:
            target.retired = False
            if target in self.draining:
                self.draining.remove(target)
        self._tell_drained()
        return left

    def _tell_drained(self) -> None:
        if not self.draining:
            for waiter in self.waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def drained(self, seconds: float) -> None:
        """Return once nothing is left on earlier targets, or after `seconds`."""
        if not self.draining:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.add(waiter)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await waiter
        finally:
            self.waiters.discard(waiter)


class Registry:
    """All services, kept in one JSON file that is complete at every moment."""

    def __init__(self, path: Path, on_retire: Callable[[Target], None]) -> None:
        """Read `path`, or create it empty; raises RegistryError."""
        self._path = path
        self._on_retire = on_retire
        self._saving = asyncio.Lock()
        self._services: dict[str, Service] = {}
        # Counts the changes of all services and never goes back, so that what a generation
        # stood for never comes again, not after a removal and not after a restart.
        self._generation = 0
        state = load(path) if path.exists() else State(0, {}, {})
        self._generation = state.generation
        for name, urls in state.services.items():
            service = self._service(name)
            service.targets = tuple(map(Target, urls))
            service.generation = state.generations.get(name) or self._next()
        save(path, self._state())

    def get(self, name: str) -> Service | None:
        """The service of that name, also one that was removed and still drains."""
        return self._services.get(name)

    def live(self) -> Iterator[Service]:
        """The services that have a current target, by name."""
        for name in sorted(self._services):
            if self._services[name].targets:
                yield self._services[name]

    async def register(
        self, name: str, urls: Sequence[str], condition: Condition | None = None
    ) -> int:
        """Send the new requests of `name` to `urls`; on return the file says so too.

        Returns the service's generation. Raises BadRegistration, Conflict where `condition` does
        not hold, and RegistryError when the file cannot be written: then nothing has changed.
        """
        check_name(name)
        if len(urls) > MAX_TARGETS:
            raise BadRegistration(f"A service has {MAX_TARGETS} addresses at most.")
        if len(set(urls)) != len(urls):
            raise BadRegistration("An address must not be given twice.")
        targets = [Target(url) for url in urls]
        # A caller that hangs up must not leave the file and the memory with different answers.
        return await asyncio.shield(asyncio.ensure_future(self._switch(name, targets, condition)))

    async def remove(self, name: str, condition: Condition | None = None) -> bool:
        """Forget `name`; False when it was not known. Raises Conflict and RegistryError."""
        return bool(await asyncio.shield(asyncio.ensure_future(self._switch(name, [], condition))))

    async def _switch(self, name: str, targets: list[Target], condition: Condition | None) -> int:
        """Returns the service's generation; 0 where there was nothing to remove."""
        async with self._saving:
            service = self._services.get(name)
            standing = service.urls if service else []
            generation = service.generation if service and standing else 0
            if [target.url for target in targets] == standing:
                return generation
            if condition is not None and not condition(generation):
                raise Conflict(generation)
            state = self._state()
            state.generation += 1
            state.services.pop(name, None)
            if targets:
                state.services[name] = [target.url for target in targets]
                state.generations[name] = state.generation
            else:
                state.generations.pop(name, None)
            await asyncio.to_thread(save, self._path, state)
            self._generation = state.generation
            service = self._service(name)
            service.generation = state.generation
            # One that is current already, or still drains, keeps its connections and its count.
            known = {target.url: target for target in (*service.draining, *service.targets)}
            for left in service.switch([known.get(target.url, target) for target in targets]):
                self._on_retire(left)
            self._forget_removed()
            return state.generation

    def _next(self) -> int:
        self._generation += 1
        return self._generation

    def _service(self, name: str) -> Service:
        return self._services.setdefault(name, Service(name))

    def _state(self) -> State:
        live = list(self.live())
        return State(
            self._generation,
            {service.name: service.urls for service in live},
            {service.name: service.generation for service in live},
        )

    def _forget_removed(self) -> None:
        # Names come and go at run time: without this a year of them would pile up.
        for name, service in list(self._services.items()):
            if not service.targets and not service.draining and not service.waiters:
                del self._services[name]
