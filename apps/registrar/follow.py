# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Following what is decided of one service: its router, and what is said of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from serving import log
from settings import Settings

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import (
    Candidate,
    Preparing,
    same_candidate,
    same_targets,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.canary import CanaryRouter
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_model import (
    Applied,
    Decision,
    Liveness,
    State,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_store import Store
from ansible_collections.immutable.delivery.plugins.module_utils.routers.trial import share_of

T = TypeVar("T")
Undo = Callable[[], object]

# In seconds: between two looks at a router that has nothing to do, and at one that drains.
VERIFY = 10.0
COUNT = 0.3
# After a failure, growing up to VERIFY.
AGAIN = 1.0


class Follower:
    """Has the router follow one service's decision.

    :param pool: where calls to the router run, which may take long.
    """

    def __init__(
        self, service: str, settings: Settings, store: Store, pool: ThreadPoolExecutor
    ) -> None:
        self._service = service
        self._settings = settings
        self._store = store
        self._router = settings.router()
        self._pool = pool
        self._news = asyncio.Event()
        self._candidate_news = asyncio.Event()
        self._decision = Decision()
        self._candidate: Decision | None = None
        self._alive: set[str] = set()
        self._liveness: Liveness | None = None
        self._said: Applied | None = None
        self._wrote: dict[str, str] = {}
        self._failures = 0

    def look(self, state: State) -> None:
        """Take note of what stands now."""
        decision = state.decisions.get(self._service, self._decision)
        alive = state.alive(self._service)
        if self._liveness is None:
            self._begin(state, decision)
        if (decision, alive) != (self._decision, self._alive):
            self._decision, self._alive = decision, alive
            self._news.set()
        candidate = state.candidates.get(self._service)
        if candidate != self._candidate:
            self._candidate = candidate
            self._candidate_news.set()

    async def run(self) -> None:
        """Follow, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._prepare())

    def _begin(self, state: State, decision: Decision) -> None:
        """Remember what this registrar said before it was restarted; a new one believes others."""
        applied = state.applied.get(self._service, {})
        self._said = applied.get(self._settings.node)
        told = [self._said] if self._said is not None else list(applied.values())
        told = [said for said in told if said.revision == decision.revision and not said.error]
        living = {url for said in told for url in said.targets}
        self._liveness = Liveness(set(decision.urls) - living if told else set())

    async def _follow(self) -> None:
        wait = VERIFY
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._news.wait()
            self._news.clear()
            wait = await self._step() if self._decision.revision else VERIFY

    async def _step(self) -> float:
        """Bring the router to what is decided, and say so; return when to look again."""
        decision = self._decision
        assert self._liveness is not None
        targets = self._liveness.targets(decision.urls, self._alive)
        try:
            count = await self._in_thread(lambda: self._apply(targets, decision.tried))
        except Exception as error:
            self._failures += 1
            wait = min(VERIFY, AGAIN * 2 ** (self._failures - 1))
            stood = self._said or Applied(0)
            text = _text(error)
            if stood.error != text:
                log(f"{self._service}: the router does not follow: {text}")
            said = replace(stood, revision=decision.revision, in_flight=None, error=text)
        else:
            self._failures = 0
            wait = COUNT if count else VERIFY
            said = Applied(decision.revision, decision.urls, targets, count, tried=decision.tried)
            if self._said is None or said.targets != self._said.targets or self._said.error:
                log(f"{self._service}: goes to {', '.join(targets) or 'nowhere'}")
            if self._said is None or said.tried != self._said.tried:
                log(f"{self._service}: {share_of(said.tried)}")
        self._said = said
        return wait if await self._say("applied", said) else AGAIN

    def _apply(self, targets: tuple[str, ...], tried: Candidate | None) -> int | None:
        router, service = self._router, self._service
        found = router.observe(service).urls
        if not same_targets(found, targets):
            said = self._said
            if said is not None and not said.error and same_targets(said.targets, targets):
                log(f"{service}: somebody else sent it to {', '.join(found) or 'nowhere'}")
            if targets:
                router.switch(service, targets)
            else:
                router.remove(service)
        # After the switch, which ends whoever was tried.
        if isinstance(router, CanaryRouter):
            self._try(router, tried)
        try:
            return router.in_flight(service)
        except DeliveryError:
            # The switch is made; that it cannot be counted at the moment does not unmake it.
            return None

    def _try(self, router: CanaryRouter, tried: Candidate | None) -> None:
        if same_candidate(router.observe(self._service).candidate, tried):
            return
        if tried is None:
            router.unstage(self._service)
        else:
            router.stage(self._service, tried.urls, tried.weight)

    async def _prepare(self) -> None:
        """Have the router find candidates healthy, and forget those that were given up."""
        held: Decision | None = None
        undos: list[Undo] = []
        while True:
            await self._candidate_news.wait()
            self._candidate_news.clear()
            candidate = self._candidate
            if held is not None and held != candidate:
                # Prepared once more, as by a deploy that is repeated, it stays as it is.
                again = candidate is not None and same_targets(held.urls, candidate.urls)
                if not again:
                    tried = self._decision.tried
                    served = (self._decision.urls, tried.urls if tried is not None else ())
                    if not any(same_targets(held.urls, urls) for urls in served):
                        await self._undo(undos)
                    undos.clear()
                held = None
            if candidate is None or held is not None:
                continue
            held, error = candidate, ""
            urls = candidate.urls
            try:
                await self._in_thread(partial(self._find_healthy, urls, undos))
            except Exception as exc:
                error = _text(exc)
                log(f"{self._service}: the candidate is refused: {error}")
                await self._undo(undos)
            said = Applied(candidate.revision, urls, urls, None, error)
            while self._candidate == candidate and not await self._say("prepared", said):
                await asyncio.sleep(AGAIN)

    def _find_healthy(self, urls: tuple[str, ...], undos: list[Undo]) -> None:
        router = self._settings.router()
        if isinstance(router, Preparing):
            router.prepare(self._service, urls, lambda undo, state="": undos.append(undo))

    async def _undo(self, undos: list[Undo]) -> None:
        while undos:
            try:
                await self._in_thread(undos.pop())
            except Exception as error:
                log(f"{self._service}: the candidate could not be taken back: {_text(error)}")

    async def _say(self, kind: str, said: Applied) -> bool:
        """Write what the router does, where that is news; False where it could not be."""
        text = said.text()
        if self._wrote.get(kind) == text:
            return True
        key = self._settings.keys.of(kind, self._service, self._settings.node)
        try:
            await self._in_thread(lambda: self._store.put(key, text))
        except Exception as error:
            log(f"{self._service}: what the router does cannot be told: {_text(error)}")
            return False
        self._wrote[kind] = text
        return True

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)


def _text(error: Exception) -> str:
    if isinstance(error, DeliveryError):
        return str(error)
    return f"{type(error).__name__}: {error}"
