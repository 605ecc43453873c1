# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway: routes by the path's beginning, and passes requests and answers on as streams."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import (
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
    hdrs,
    web,
)
from multidict import CIMultiDict
from serving import BadSettings, log
from yarl import URL

HOP_BY_HOP = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
CHUNK = 128 * 1024
# Seconds: for a connection, for the longest silence of a backend, between looks for the database.
CONNECT = 5.0
SILENCE = 300.0
LOOK_EVERY = 0.5
# Below what backends grant, so that no request meets a connection that is about to be closed.
KEEP_ALIVE = 1.5
DEPLOY_PREFIX = "/deploy/v1"


@dataclass(frozen=True)
class Route:
    """What begins with `prefix` goes to `base`; with `strip`, what follows the prefix does."""

    prefix: str
    base: str
    strip: bool

    def matches(self, path: str) -> bool:
        """Whether a path is this route's: whole segments count."""
        prefix = self.prefix.rstrip("/")
        return path == prefix or path.startswith(prefix + "/")

    def target(self, raw_path: str) -> str:
        """The backend's address for a path with its query, as it was sent."""
        if not self.strip:
            return self.base + raw_path
        rest = raw_path[len(self.prefix.rstrip("/")) :]
        return self.base + (rest if rest.startswith("/") else f"/{rest}" if rest else "/")


def route_of(text: str) -> Route:
    """A route from PREFIX=URL; a URL with a path, if only a slash, replaces the prefix.

    Raises BadSettings.
    """
    prefix, _equals, url = text.partition("=")
    parts = urlsplit(url)
    if not prefix.startswith("/") or parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadSettings(f"GATEWAY_ROUTES must be PREFIX=URL and so on, not {text!r}.")
    return Route(prefix, url.rstrip("/"), strip=bool(parts.path))


def routes_of(environment: Mapping[str, str]) -> list[Route]:
    """All routes, the longest prefix first. Raises BadSettings."""
    routes = [route_of(text) for text in environment.get("GATEWAY_ROUTES", "").split()]
    api = environment.get("GATEWAY_PORTAL_API", "http://portal-api:3001").rstrip("/")
    if not any(route.prefix.rstrip("/") == DEPLOY_PREFIX for route in routes):
        routes.append(route_of(f"{DEPLOY_PREFIX}={api}"))
    return sorted(routes, key=lambda route: len(route.prefix), reverse=True)


class Database:
    """Whether somebody listens at the database's address; always so where there is none."""

    def __init__(self, address: str) -> None:
        """`address` is HOST:PORT or empty; raises BadSettings."""
        host, _colon, port = address.rpartition(":")
        if address and not (host and re.fullmatch(r"[0-9]{1,5}", port)):
            raise BadSettings(f"GATEWAY_POSTGRES must be HOST:PORT, not {address!r}.")
        self.host, self.port = host, int(port or 0)
        # Requests are passed on from the moment at which it was there for the first time.
        self.seen = not address

    async def answers(self) -> bool:
        """Look now."""
        if not self.host:
            return True
        try:
            async with asyncio.timeout(CONNECT):
                _reader, writer = await asyncio.open_connection(self.host, self.port)
        except (TimeoutError, OSError):
            return False
        writer.close()
        self.seen = True
        return True

    async def wait(self) -> None:
        """Return once it has answered."""
        while not await self.answers():
            await asyncio.sleep(LOOK_EVERY)


class Gateway:
    """Routes requests; 503 until the database has answered."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Raises BadSettings."""
        self.routes = routes_of(environment)
        self.database = Database(environment.get("GATEWAY_POSTGRES", ""))
        self.health_path = environment.get("HEALTH_PATH") or "/health"
        self._session: ClientSession | None = None

    async def running(self, _app: web.Application) -> AsyncIterator[None]:
        """Hold the client, and wait for the database, as long as the app runs."""
        # Containers behind a name are replaced, so no address is remembered.
        connector = TCPConnector(limit=0, use_dns_cache=False, keepalive_timeout=KEEP_ALIVE)
        timeout = ClientTimeout(total=None, sock_connect=CONNECT, sock_read=SILENCE)
        waiting = asyncio.create_task(self._wait())
        async with ClientSession(
            connector=connector,
            timeout=timeout,
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
        ) as session:
            self._session = session
            yield
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting

    async def _wait(self) -> None:
        if not self.database.seen:
            log("waits for the database")
            await self.database.wait()
            log("has seen the database")

    async def health(self) -> web.Response:
        """Say how it is, and whether the database is there."""
        there = await self.database.answers()
        database = "none" if not self.database.host else "ok" if there else "away"
        return web.json_response(
            {"status": "ok" if there else "sick", "database": database},
            status=200 if there else 503,
        )

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request of any kind."""
        if request.path == self.health_path:
            return await self.health()
        raw_path = request.raw_path
        if not raw_path.startswith("/") or "/../" in f"{request.path}/":
            return _refusal(400, "The path cannot be right.")
        path = raw_path.partition("?")[0]
        route = next((one for one in self.routes if one.matches(path)), None)
        if route is None:
            return _refusal(404, "No route matches this path.")
        if not self.database.seen or self._session is None:
            return _refusal(503, "The gateway waits for its database.")
        try:
            async with self._session.request(
                request.method,
                URL(route.target(raw_path), encoded=True),
                headers=_request_headers(request),
                data=request.content.iter_chunked(CHUNK) if request.can_read_body else None,
                allow_redirects=False,
                skip_auto_headers=(hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING),
            ) as answer:
                return await _pass_on(request, answer)
        except (ClientError, TimeoutError, OSError) as exc:
            log(f"{request.method} {path}: {type(exc).__name__}")
            late = isinstance(exc, TimeoutError)
            return _refusal(504 if late else 502, "The backend does not answer.")


def _request_headers(request: web.Request) -> CIMultiDict[str]:
    headers = _end_to_end(request.headers)
    if request.remote:
        before = headers.get("X-Forwarded-For")
        headers["X-Forwarded-For"] = f"{before}, {request.remote}" if before else request.remote
    headers.setdefault("X-Forwarded-Host", request.host)
    headers.setdefault("X-Forwarded-Proto", request.scheme)
    # The body comes from a stream, and aiohttp would not announce its length by itself.
    return headers


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    named = headers.get(hdrs.CONNECTION, "").lower().split(",")
    dropped = HOP_BY_HOP | {name.strip() for name in named}
    return CIMultiDict(
        (name, value) for name, value in headers.items() if name.lower() not in dropped
    )


async def _pass_on(request: web.Request, answer: ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(
        status=answer.status, reason=answer.reason, headers=_end_to_end(answer.headers)
    )
    if request.method == hdrs.METH_HEAD or answer.status in (204, 304):
        return web.Response(
            status=answer.status, reason=answer.reason, headers=_end_to_end(answer.headers)
        )
    await response.prepare(request)
    try:
        async for data in answer.content.iter_any():
            await response.write(data)
        await response.write_eof()
    except (ClientError, TimeoutError, OSError):
        # Half an answer must not pass for a whole one.
        if request.transport is not None:
            request.transport.abort()
    return response


def _refusal(status: int, text: str) -> web.Response:
    response = web.json_response({"message": text}, status=status)
    response.force_close()
    return response


def build(environment: Mapping[str, str] | None = None) -> web.Application:
    """The application. Raises BadSettings."""
    environment = os.environ if environment is None else environment
    gateway = Gateway(environment)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", gateway.handle)
    app.cleanup_ctx.append(gateway.running)
    return app
