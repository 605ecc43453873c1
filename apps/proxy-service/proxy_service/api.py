# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy's own API: which service stands behind a name, and what an earlier one still does."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import parse_qs, unquote

from aiohttp import web

from .forward import refusal
from .registry import BadRegistration, Registry, RegistryError, Service, check_name

LOG = logging.getLogger("proxy")

# The longest that one call may wait for a drain, in seconds: below what clients and routers in
# between wait for an answer.
_LONGEST_WAIT = 60.0


class Api:
    """Answers everything under /services."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def handle(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        """`rest` is what follows `/services` in the path as it was sent: encoded slashes count."""
        try:
            return await self._route(request, rest)
        except BadRegistration as exc:
            return refusal(request, 400, str(exc))
        except RegistryError as exc:
            LOG.error("%s", exc)
            return refusal(request, 507, f"{exc} Nothing has been changed.")

    async def _route(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        path, _mark, query = rest.partition("?")
        name, slash, tail = path.removeprefix("/").partition("/")
        method = "GET" if request.method == "HEAD" else request.method
        if not name:
            return self._list() if method == "GET" else _not_allowed(request, "GET")
        name = check_name(unquote(name))
        if not slash:
            if method == "GET":
                return self._show(name)
            if method == "DELETE":
                return await self._remove(request, name)
            return _not_allowed(request, "GET, DELETE")
        if method == "GET" and tail == "drain":
            return await self._drain(name, query)
        if method == "POST":
            if query:
                tail = rest.removeprefix("/").partition("/")[2]
            return await self._register(name, tail)
        return _not_allowed(request, "GET" if tail == "drain" else "POST")

    def _list(self) -> web.Response:
        return web.json_response(
            [
                {"name": s.name, "url": s.current.url, "in_flight": s.current.in_flight}
                for s in self._registry.live()
                if s.current is not None
            ]
        )

    def _show(self, name: str) -> web.Response:
        service = self._registry.get(name)
        if service is None or service.current is None:
            return web.json_response({})
        return web.json_response({"url": {"url": service.current.url, "name": name}})

    async def _register(self, name: str, encoded: str) -> web.Response:
        try:
            url = unquote(encoded, errors="strict")
        except UnicodeDecodeError:
            raise BadRegistration("The address is not valid UTF-8.") from None
        await self._registry.register(name, url)
        LOG.info("%s is served by %s", name, url)
        return web.json_response({"success": True})

    async def _remove(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        if not await self._registry.remove(name):
            return refusal(request, 404, f"No service is registered under the name {name!r}.")
        LOG.info("%s is no longer served", name)
        return web.json_response({"success": True})

    async def _drain(self, name: str, query: str) -> web.Response:
        wait = _seconds(query)
        service = self._registry.get(name)
        if service is not None and wait > 0:
            await service.drained(wait)
        return web.json_response(_drain_state(name, service))


def _drain_state(name: str, service: Service | None) -> dict[str, Any]:
    current = service.current if service is not None else None
    draining = service.draining if service is not None else []
    return {
        "name": name,
        "url": current.url if current is not None else None,
        "in_flight": sum(target.in_flight for target in draining),
        "draining": [{"url": t.url, "in_flight": t.in_flight} for t in draining],
        "current_in_flight": current.in_flight if current is not None else 0,
    }


def _seconds(query: str) -> float:
    values = parse_qs(query).get("wait", ["0"])
    try:
        wait = float(values[-1])
    except ValueError:
        wait = -1.0
    if not 0 <= wait <= _LONGEST_WAIT:
        raise BadRegistration(f"wait must be a number of seconds from 0 to {_LONGEST_WAIT:g}.")
    return wait


def _not_allowed(request: web.BaseRequest, allow: str) -> web.Response:
    response = refusal(request, 405, f"This address of the API answers {allow} only.")
    response.headers["Allow"] = allow
    return response
