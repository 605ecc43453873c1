# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The portal's web page: it has no data of its own and asks the portal's API for all of it."""

from __future__ import annotations

import html
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web
from serving import BadSettings, log

# Seconds that the API may take.
PATIENCE = 5.0
PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>API Portal</title></head>
<body>
<h1>API Portal</h1>
<p>Version <span id="version">{version}</span>, with <span id="users">{users}</span> users.</p>
</body>
</html>
"""
SORRY = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>API Portal</title></head>
<body><h1>API Portal</h1><p>The portal is not available at the moment.</p></body>
</html>
"""


class Unavailable(Exception):
    """The API did not answer as it should; the message is for the log."""


class WebUi:
    """The page, and the connection to the API behind it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Raises BadSettings."""
        self._api = environment.get("PORTAL_API_URL", "http://portal-api:3001").rstrip("/")
        parts = urlsplit(self._api)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadSettings(f"PORTAL_API_URL must be an http or https URL, not {self._api!r}.")
        host = environment.get("PORTAL_API_HOST", "")
        self._headers = {"Host": host} if host else {}
        self._session: ClientSession | None = None

    async def connected(self, _app: web.Application) -> AsyncIterator[None]:
        """Hold the client as long as the app runs."""
        # Containers behind a name are replaced: no address is remembered, no connection kept.
        connector = TCPConnector(use_dns_cache=False, force_close=True)
        timeout = ClientTimeout(total=PATIENCE)
        async with ClientSession(
            connector=connector, timeout=timeout, cookie_jar=DummyCookieJar()
        ) as session:
            self._session = session
            yield

    async def _ask(self, path: str) -> dict[str, Any]:
        if self._session is None:
            raise Unavailable("the client is closed")
        try:
            async with self._session.get(self._api + path, headers=self._headers) as answer:
                if answer.status != 200:
                    raise Unavailable(f"{path} is answered with {answer.status}")
                document = await answer.json()
        except (ClientError, TimeoutError, OSError, ValueError) as exc:
            raise Unavailable(f"{path}: {type(exc).__name__}") from None
        if not isinstance(document, dict):
            raise Unavailable(f"{path} is not answered with an object")
        return document

    async def page(self, _request: web.Request) -> web.Response:
        """The page for people."""
        try:
            health, counts = await self._ask("/health"), await self._ask("/counts")
        except Unavailable as exc:
            log(f"no page: {exc}")
            return web.Response(status=503, text=SORRY, content_type="text/html")
        text = PAGE.format(
            version=html.escape(str(health.get("version", "unknown"))),
            users=html.escape(str(counts.get("users", "unknown"))),
        )
        return web.Response(text=text, content_type="text/html")

    async def health(self, _request: web.Request) -> web.Response:
        """Say how it is: it can do nothing without the API."""
        try:
            health = await self._ask("/health")
        except Unavailable as exc:
            return web.json_response({"status": "sick", "api": str(exc)}, status=503)
        return web.json_response({"status": "ok", "version": health.get("version")})


def build(environment: Mapping[str, str] | None = None) -> web.Application:
    """The application. Raises BadSettings."""
    environment = os.environ if environment is None else environment
    ui = WebUi(environment)
    app = web.Application()
    app.router.add_get("/", ui.page)
    app.router.add_get("/health", ui.health)
    app.cleanup_ctx.append(ui.connected)
    return app
