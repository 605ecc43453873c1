# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Being told that something has changed, by etcd or by Consul: what it is, is asked for then."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import aiohttp

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.http import Http
from ansible_collections.immutable.delivery.plugins.module_utils.routers.consul import Consul
from ansible_collections.immutable.delivery.plugins.module_utils.routers.etcd import Etcd, range_of

# In seconds.
AGAIN = 0.5
CONNECT = 3.0
CONSUL_WAITS = 30


class Watch(Protocol):
    """Watches one prefix."""

    async def once(self, client: aiohttp.ClientSession, changed: Callable[[], None]) -> None:
        """Call *changed* at each change, until the server ends it; any error may be raised."""


class EtcdWatch:
    """A stream of changes, of each member in turn."""

    def __init__(self, store: Etcd, prefix: str, pool: ThreadPoolExecutor) -> None:
        self._store = store
        self._prefix = prefix
        self._pool = pool
        self._turn = 0

    async def once(self, client: aiohttp.ClientSession, changed: Callable[[], None]) -> None:
        """Watch by one member."""
        members = self._store.members
        http = members[self._turn % len(members)]
        self._turn += 1
        loop = asyncio.get_running_loop()
        headers = await loop.run_in_executor(self._pool, self._store.headers)
        body = json.dumps({"create_request": range_of(self._prefix)})
        async with client.post(
            f"{http.base_url}/v3/watch", data=body, headers=headers, **tls_of(http)
        ) as answer:
            answer.raise_for_status()
            # The first message says that the watch stands, from when on nothing is missed.
            async for _chunk in answer.content.iter_any():
                changed()


class ConsulWatch:
    """Questions that are answered once the index is another one."""

    def __init__(self, store: Consul, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    async def once(self, client: aiohttp.ClientSession, changed: Callable[[], None]) -> None:
        """Ask again and again."""
        http = self._store.http
        index = 0
        while True:
            query = f"recurse&index={index}&wait={CONSUL_WAITS}s"
            async with client.get(
                f"{http.base_url}/v1/kv{self._prefix}?{query}",
                headers=http.headers,
                **tls_of(http),
            ) as answer:
                if answer.status != 404:
                    answer.raise_for_status()
                index = int(answer.headers.get("X-Consul-Index", "0"))
                # What there is, is read by those whom it concerns.
                await answer.read()
            changed()
            if index < 1:
                return


async def watch(it: Watch, changed: Callable[[], None]) -> None:
    """Watch for ever; a watch that ends is begun again."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT)
    async with aiohttp.ClientSession(timeout=timeout) as client:
        while True:
            with contextlib.suppress(
                DeliveryError, aiohttp.ClientError, OSError, TimeoutError, ValueError
            ):
                await it.once(client, changed)
            await asyncio.sleep(AGAIN)


def tls_of(http: Http) -> dict[str, Any]:
    """Whom *http* trusts and who it is, as aiohttp takes it."""
    if not http.base_url.startswith("https:"):
        return {}
    context = ssl.create_default_context(cafile=http.ca_path)
    if http.client_cert is not None:
        # With an empty password for a key that has one, or Python would ask a person for it.
        context.load_cert_chain(*http.client_cert, password="")
    return {"ssl": context}
