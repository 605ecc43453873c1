# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping instances registered while they live, and this registrar while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp
from serving import log
from settings import Network, Settings

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_model import (
    Health,
    State,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_store import (
    Announcing,
    Changed,
    LeaseLost,
    Store,
)

T = TypeVar("T")
Instance = tuple[str, str, Health]
# So many times the time between checks an instance may take to answer one.
PATIENCE = 5
AGAIN = 1.0


class Keeper:
    """Has one lease for all that this registrar has registered."""

    def __init__(self, settings: Settings, store: Store, pool: ThreadPoolExecutor) -> None:
        self._settings = settings
        self._store = store
        self._pool = pool
        self._answer = PATIENCE * settings.check_interval
        self._lease = ""
        self._tasks: dict[Instance, asyncio.Task[None]] = {}
        # By which lease an instance is registered.
        self._registered: dict[Instance, str] = {}
        # The revision at which this registrar said that it runs.
        self._running = 0
        self._leaving: set[asyncio.Task[None]] = set()
        self._client: aiohttp.ClientSession | None = None

    def look(self, state: State) -> None:
        """Take note of what there is to keep: what is decided, and what is about to be."""
        wanted: set[Instance] = set()
        for of_kind in (state.decisions, state.candidates):
            for service, decision in of_kind.items():
                wanted |= {
                    (service, url, decision.health)
                    for url in decision.instances
                    if _within(url, self._settings.watched)
                }
        places = {(service, url) for service, url, _health in wanted}
        for instance in self._tasks.keys() - wanted:
            self._tasks.pop(instance).cancel()
            if instance[:2] not in places:
                leaving = asyncio.create_task(self._leave(instance))
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)
        for instance in wanted - self._tasks.keys():
            task = asyncio.create_task(self._keep(instance))
            self._tasks[instance] = task
        for service, url, health in list(self._registered):
            nodes = state.instances.get(service, {}).get(url, set())
            if self._settings.node not in nodes:
                # Somebody has deleted it, or it was written just now: then once more does no harm.
                del self._registered[service, url, health]

    async def run(self) -> None:
        """Keep, until cancelled; then everything but the registrar itself is left to its lease."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=self._answer),
        ) as client:
            self._client = client
            try:
                while True:
                    await asyncio.sleep(await self._renew())
            finally:
                for task in self._tasks.values():
                    task.cancel()
                await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def leave(self) -> None:
        """Say that this registrar does not run; its router does, and is not forgotten."""
        with contextlib.suppress(DeliveryError):
            key = self._settings.keys.of("running", self._settings.node)
            # One that was started meanwhile has written it anew, and runs.
            with contextlib.suppress(Changed):
                await self._in_thread(lambda: self._store.delete(key, self._running))

    async def _renew(self) -> float:
        """Keep the lease, or get one; return when to do so again."""
        settings, lease = self._settings, self._lease
        try:
            if lease:
                kept = await self._in_thread(lambda: self._store.keep_alive(lease))
                if kept:
                    return settings.ttl / 3
                log("the lease was lost; all is registered again by a new one")
            lease = await self._in_thread(lambda: self._store.grant(settings.ttl))
            node, keys = settings.node, settings.keys
            about = json.dumps({"router": settings.kind})
            await self._in_thread(lambda: self._store.put(keys.of("nodes", node), about))
            self._running = await self._in_thread(
                lambda: self._store.put(keys.of("running", node), about, lease)
            )
        except (DeliveryError, LeaseLost) as error:
            log(f"the lease cannot be kept: {error}")
            return AGAIN
        self._lease = lease
        return settings.ttl / 3

    async def _keep(self, instance: Instance) -> None:
        """Ask one instance again and again, and register it while it answers."""
        _service, url, health = instance
        failures = 0
        while True:
            failures = 0 if await self._answers(url, health) else failures + 1
            # What could not be told is at the next check; the lease has its own way of telling.
            with contextlib.suppress(DeliveryError, LeaseLost):
                await self._tell(instance, failures)
            await asyncio.sleep(self._settings.check_interval)

    async def _tell(self, instance: Instance, failures: int) -> None:
        service, url, _health = instance
        if not failures:
            if self._lease and self._registered.get(instance) != self._lease:
                await self._register(instance)
        elif failures == self._settings.check_failures or (
            failures > self._settings.check_failures and instance in self._registered
        ):
            # Also where it is not ours any more: an earlier run of this registrar may have left it.
            await self._unregister(instance)
            log(f"{service}: {url} did not answer {failures} times, and is registered no more")

    async def _leave(self, instance: Instance) -> None:
        """Unregister what is not decided any more; if that fails, it does no harm."""
        with contextlib.suppress(DeliveryError):
            await self._unregister(instance)

    async def _unregister(self, instance: Instance) -> None:
        key = self._key(instance)
        await self._in_thread(lambda: self._remove(key))
        self._registered.pop(instance, None)
        store = self._store
        if isinstance(store, Announcing):
            await self._in_thread(lambda: store.withdraw(*instance[:2]))

    def _remove(self, key: str) -> None:
        """Delete a key as it is now; what is written meanwhile stays."""
        entry = self._store.read(key).get(key)
        if entry is not None:
            with contextlib.suppress(Changed):
                self._store.delete(key, entry.revision)

    def _key(self, instance: Instance) -> str:
        service, url, _health = instance
        return self._settings.keys.of("instances", service, url, self._settings.node)

    async def _register(self, instance: Instance) -> None:
        lease = self._lease
        first = instance not in self._registered
        key, value = self._key(instance), json.dumps({"url": instance[1]})
        await self._in_thread(lambda: self._store.put(key, value, lease))
        self._registered[instance] = lease
        store = self._store
        if first and isinstance(store, Announcing):
            await self._in_thread(lambda: store.announce(*instance))
        if first:
            log(f"{instance[0]}: {instance[1]} answers")

    async def _answers(self, url: str, health: Health) -> bool:
        try:
            if not health.path:
                parts = urlsplit(url)
                port = parts.port or (443 if parts.scheme == "https" else 80)
                async with asyncio.timeout(self._answer):
                    _reader, writer = await asyncio.open_connection(parts.hostname, port)
                writer.close()
                return True
            assert self._client is not None
            headers = {"Host": health.host} if health.host else {}
            # Whether it lives is asked, and not who it is: that the deploy has made sure of.
            async with self._client.get(
                url + health.path, headers=headers, ssl=False, allow_redirects=False
            ) as answer:
                return 200 <= answer.status < 300
        except (OSError, TimeoutError, ValueError, aiohttp.ClientError, ssl.SSLError):
            return False

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)


def _within(url: str, networks: tuple[Network, ...]) -> bool:
    if not networks:
        return True
    try:
        address = ipaddress.ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return False
    return any(address in network for network in networks)
