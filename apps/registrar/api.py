# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's `/services`, with the registry behind it: what it is told, all routers do."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from urllib.parse import unquote

from aiohttp import web
from registrar import Registrar

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import (
    Overtaken,
    checked_target,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_model import (
    Decision,
    Health,
    State,
    check_name,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_router import KvRouter

T = TypeVar("T")
TAG = re.compile(r'"([0-9]{1,18})"')
Handler = Callable[[web.Request], Awaitable[web.Response]]


class Refused(Exception):
    """What was asked for cannot be done; the message is a sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Api:
    """Answers below /services, and /health."""

    def __init__(self, registrar: Registrar) -> None:
        self._registrar = registrar
        self._settings = registrar.settings

    def add_to(self, app: web.Application) -> None:
        """Answer for *app*."""
        app.router.add_get("/health", self.health)
        app.router.add_get("/services", self._safely(self.list))
        app.router.add_get("/services/{name}", self._safely(self.show))
        app.router.add_put("/services/{name}", self._safely(self.put))
        app.router.add_delete("/services/{name}", self._safely(self.remove))
        app.router.add_get("/services/{name}/drain", self._safely(self.drain))
        app.router.add_post("/services/{name}/{url:.+}", self._safely(self.post))

    async def health(self, _request: web.Request) -> web.Response:
        """Say how it is. Without the registry routers go on, so that is no reason to restart it."""
        failed = self._registrar.failed
        document = {
            "status": "failed" if failed else "ok",
            "node": self._settings.node,
            "registry": self._registrar.reached,
        }
        return web.json_response(document, status=503 if failed else 200)

    async def list(self, _request: web.Request) -> web.Response:
        """All services that go somewhere."""
        state = await self._state()
        return web.json_response(
            [
                {"name": name, "url": decision.urls[0], "urls": decision.urls}
                for name, decision in sorted(state.decisions.items())
                if decision.urls
            ]
        )

    async def show(self, request: web.Request) -> web.Response:
        """One service, as it is registered."""
        name = _name(request)
        decision = (await self._state()).decision(name)
        document: dict[str, object] = {}
        if decision.urls:
            document = {"url": {"url": decision.urls[0], "name": name}, "urls": decision.urls}
        return _tagged(web.json_response(document), decision.revision)

    async def post(self, request: web.Request) -> web.Response:
        """Register one address, which is what follows the name, encoded."""
        tail = request.raw_path.split("/services/", 1)[1].partition("/")[2]
        try:
            url = unquote(tail, errors="strict")
        except UnicodeDecodeError:
            raise Refused(400, "The address is not valid UTF-8.") from None
        return await self._register(request, [url])

    async def put(self, request: web.Request) -> web.Response:
        """Register all addresses in the body."""
        try:
            document = json.loads(await request.read())
        except (ValueError, RecursionError):
            raise Refused(400, "The body is not JSON.") from None
        urls = document.get("urls") if isinstance(document, dict) else None
        if not isinstance(urls, list) or not urls or not all(isinstance(u, str) for u in urls):
            raise Refused(400, 'The body must be {"urls": [...]} with an address at least.')
        return await self._register(request, urls)

    async def remove(self, request: web.Request) -> web.Response:
        """Forget a service."""
        name = _name(request)
        decision = (await self._state()).decision(name)
        if not decision.urls:
            raise Refused(404, f"No service is registered under the name {name!r}.")
        router = self._router(request, name, decision)
        await self._in_thread(lambda: router.remove(name))
        return web.json_response({"success": True})

    async def drain(self, request: web.Request) -> web.Response:
        """What is left on earlier addresses, in all routers."""
        name = _name(request)
        decision = (await self._state()).decision(name)
        count = await self._in_thread(lambda: self._plain().in_flight(name))
        url = decision.urls[0] if decision.urls else None
        return web.json_response(
            {"name": name, "url": url, "urls": decision.urls, "in_flight": count}
        )

    async def _register(self, request: web.Request, given: Sequence[str]) -> web.Response:
        name = _name(request)
        try:
            urls = [checked_target(url, "the address") for url in given]
        except DeliveryError as error:
            raise Refused(400, str(error)) from None
        decision = (await self._state()).decision(name)
        router = self._router(request, name, decision)
        await self._in_thread(lambda: router.switch(name, urls))
        return _tagged(web.json_response({"success": True}), router.seen[name])

    def _router(self, request: web.Request, name: str, decision: Decision) -> KvRouter:
        """Return the registry, for a change of what the caller believes to stand."""
        router = self._plain()
        router.health = decision.health if decision.revision else Health(self._settings.health_path)
        # What stood a moment ago, or what the caller has seen.
        router.seen[name] = decision.revision
        matches = request.headers.getall("If-Match", [])
        if matches and matches != ["*"]:
            tags = TAG.findall(",".join(matches))
            if str(decision.revision) not in tags:
                raise Refused(412, "The service has been changed meanwhile.")
        elif matches and not decision.urls:
            raise Refused(412, "There is no such service.")
        if request.headers.get("If-None-Match") == "*" and decision.urls:
            raise Refused(412, "There is such a service already.")
        return router

    def _plain(self) -> KvRouter:
        return KvRouter(
            self._registrar.store,
            self._settings.keys,
            "",
            follow_timeout=self._settings.follow_timeout,
        )

    async def _state(self) -> State:
        return await self._in_thread(self._plain().state)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(None, call)

    def _safely(self, handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            try:
                return await handler(request)
            except Refused as error:
                return web.json_response({"error": str(error)}, status=error.status)
            except Overtaken as error:
                return web.json_response({"error": str(error)}, status=412)
            except DeliveryError as error:
                return web.json_response({"error": str(error)}, status=502)

        return answer


def _name(request: web.Request) -> str:
    try:
        return check_name(request.match_info["name"])
    except DeliveryError as error:
        raise Refused(400, str(error)) from None


def _tagged(response: web.Response, revision: int) -> web.Response:
    response.headers["ETag"] = f'"{revision}"'
    return response
