# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy's own API: which service stands behind a name, and what an earlier one still does."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import Any
from urllib.parse import parse_qs, unquote

from aiohttp import hdrs, web

from .forward import refusal
from .registry import Condition, Conflict, Registry, Service
from .state import RegistryError
from .target import BadRegistration, check_name

LOG = logging.getLogger("proxy")

# The longest that one call may wait for a drain, in seconds: below what clients and routers in
# between wait for an answer.
_LONGEST_WAIT = 60.0
# In seconds, and for a body of at most aiohttp's limit of 1 MiB.
_BODY_WAIT = 30.0
_ENTITY_TAG = re.compile(r'(?:W/)?"[^"]*"')
_ENTITY_TAGS = re.compile(r'(?:W/)?"[^"]*"(?:\s*,\s*(?:W/)?"[^"]*")*')


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
        except Conflict as exc:
            text = "The service has been changed meanwhile. Nothing has been changed now."
            return _tagged(refusal(request, 412, text), exc.generation)
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
            if method == "PUT":
                return await self._register(request, name, await _urls_of(request))
            return _not_allowed(request, "GET, PUT, DELETE")
        if method == "GET" and tail == "drain":
            return await self._drain(name, query)
        if method == "POST":
            if query:
                tail = rest.removeprefix("/").partition("/")[2]
            return await self._register(request, name, [_decoded(tail)])
        return _not_allowed(request, "GET" if tail == "drain" else "POST")

    def _list(self) -> web.Response:
        return web.json_response(
            [
                {
                    "name": service.name,
                    "url": service.urls[0],
                    "urls": service.urls,
                    "in_flight": service.current_in_flight,
                }
                for service in self._registry.live()
            ]
        )

    def _show(self, name: str) -> web.Response:
        service = self._registry.get(name)
        if service is None or not service.targets:
            return _tagged(web.json_response({}), 0)
        document = {"url": {"url": service.urls[0], "name": name}, "urls": service.urls}
        return _tagged(web.json_response(document), service.generation)

    async def _register(
        self, request: web.BaseRequest, name: str, urls: list[str]
    ) -> web.StreamResponse:
        generation = await self._registry.register(name, urls, _condition(request))
        LOG.info("%s is served by %s", name, ", ".join(urls))
        return _tagged(web.json_response({"success": True}), generation)

    async def _remove(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        if not await self._registry.remove(name, _condition(request)):
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
    service = service or Service(name)
    return {
        "name": name,
        "url": service.urls[0] if service.targets else None,
        "urls": service.urls,
        "in_flight": service.in_flight,
        "draining": [{"url": t.url, "in_flight": t.in_flight} for t in service.draining],
        "current_in_flight": service.current_in_flight,
    }


def _decoded(encoded: str) -> str:
    try:
        return unquote(encoded, errors="strict")
    except UnicodeDecodeError:
        raise BadRegistration("The address is not valid UTF-8.") from None


async def _urls_of(request: web.BaseRequest) -> list[str]:
    """The addresses in a PUT's body; raises BadRegistration."""
    try:
        async with asyncio.timeout(_BODY_WAIT):
            document = json.loads(await request.read())
    except TimeoutError:
        raise BadRegistration("The body did not arrive in time.") from None
    except web.HTTPRequestEntityTooLarge:
        raise BadRegistration("The body is too large.") from None
    except (ValueError, RecursionError, web.RequestPayloadError):
        raise BadRegistration("The body is not JSON.") from None
    urls = document.get("urls") if isinstance(document, dict) else None
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise BadRegistration('The body must be {"urls": [...]} with addresses.')
    if not urls:
        raise BadRegistration("A service has one address at least; DELETE removes it.")
    return urls


def _condition(request: web.BaseRequest) -> Condition | None:
    """What the caller believes to stand (RFC 9110, 13.1.1 and 13.1.2); raises BadRegistration."""
    wanted = _tags(request, hdrs.IF_MATCH)
    unwanted = _tags(request, hdrs.IF_NONE_MATCH)
    if wanted is None and unwanted is None:
        return None

    def holds(generation: int) -> bool:
        return (wanted is None or _among(generation, wanted)) and not (
            unwanted is not None and _among(generation, unwanted)
        )

    return holds


def _tags(request: web.BaseRequest, header: str) -> list[str] | None:
    given = request.headers.getall(header, [])
    if not given:
        return None
    text = ",".join(given).strip()
    if text == "*":
        return ["*"]
    if not _ENTITY_TAGS.fullmatch(text):
        raise BadRegistration(f"{header} must be * or entity tags in quotes.")
    # A weak one never matches: generations are strong.
    return _ENTITY_TAG.findall(text)


def _among(generation: int, tags: list[str]) -> bool:
    return (generation > 0 and tags == ["*"]) or _tag(generation) in tags


def _tag(generation: int) -> str:
    return f'"{generation}"'


def _tagged(response: web.Response, generation: int) -> web.Response:
    response.headers[hdrs.ETAG] = _tag(generation)
    return response


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
