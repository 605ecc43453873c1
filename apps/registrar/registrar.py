# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registrar: what stands in the registry, and who has to know of it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from follow import Follower
from keep import Keeper
from serving import log
from settings import Settings
from watch import watch

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_model import (
    State,
    parse,
)

# Seconds: the registry is asked this often though nobody told of a change, since a member that is
# cut off tells of none.
ASK_ANYWAY = 3.0
# Changes that come within this time are one.
TOGETHER = 0.02


class Registrar:
    """Has everyone know what stands: a change that is watched is only a reason to look."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = settings.store()
        self.reached = False
        self.failed = False
        # Routers may take long; what keeps leases must not wait for them.
        self._routers = ThreadPoolExecutor(32, "router")
        self.pool = ThreadPoolExecutor(8, "registry")
        self._keeper = Keeper(settings, self.store, self.pool)
        self._followers: dict[str, Follower] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def life(self, _app: web.Application) -> AsyncIterator[None]:
        """Work while the application runs."""
        self._task = asyncio.create_task(self._work())
        self._task.add_done_callback(self._ended)
        yield
        failed = self.failed
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, BaseExceptionGroup):
            await self._task
        if self.reached and not failed:
            await self._keeper.leave()
        self.store.ending = True
        # A switch under way ends in its time; Python waits for the threads.
        self._routers.shutdown(wait=False)
        self.pool.shutdown(wait=False)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """End the program where its work has, so that whoever looks after it starts it again."""
        if not task.cancelled() and task.exception() is not None:
            self.failed = True
            signal.raise_signal(signal.SIGTERM)

    async def _work(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keeper.run())
                group.create_task(
                    watch(self.settings.watch(self.store, self.pool), self._changed.set)
                )
                while True:
                    await self._look(group)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(ASK_ANYWAY):
                            await self._changed.wait()
                            await asyncio.sleep(TOGETHER)
        except BaseExceptionGroup as group_error:
            log(f"failed: {group_error.exceptions[0]!r}")
            raise

    async def _look(self, group: asyncio.TaskGroup) -> None:
        """Read what stands, and tell those whom it concerns."""
        self._changed.clear()
        try:
            state = await asyncio.get_running_loop().run_in_executor(self.pool, self._read)
        except DeliveryError as error:
            if self.reached:
                log(f"the registry is lost, and routers keep what they do: {error}")
            self.reached = False
            return
        if not self.reached:
            log(f"{self.settings.node} follows {len(state.decisions)} services")
        self.reached = True
        for service in (state.decisions.keys() | state.candidates.keys()) - self._followers.keys():
            follower = Follower(service, self.settings, self.store, self._routers)
            self._followers[service] = follower
            group.create_task(follower.run())
        for follower in self._followers.values():
            follower.look(state)
        self._keeper.look(state)

    def _read(self) -> State:
        return parse(self.settings.keys, self.store.read(self.settings.keys.root))
