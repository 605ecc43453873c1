# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service for tests: says its version, and misbehaves as the variable MODE says.

``well``; ``ill``: unhealthy; ``broken``: ends at once; ``wrong``: healthy, and its answers are not
those that the tests want; ``unroutable``: well, but not where it is asked for what only the router
asks.
"""

from __future__ import annotations

import asyncio
import os
import sys

from aiohttp import web

MODE = os.environ["MODE"]
VERSION = os.environ["VERSION"]


async def health(_request: web.Request) -> web.Response:
    return web.json_response(
        {"status": "ok", "version": VERSION}, status=500 * (MODE == "ill") or 200
    )


async def record(request: web.Request) -> web.Response:
    if MODE == "unroutable" and "X-Forwarded-For" in request.headers:
        raise web.HTTPInternalServerError
    await asyncio.sleep(float(request.query.get("seconds", 0)))
    number = "wrong" if MODE == "wrong" else 7
    return web.json_response({"rec": number, "version": VERSION, "host": os.uname().nodename})


def main() -> None:
    print(f"{VERSION} begins with {os.environ.get('SECRET', 'no secret')}", file=sys.stderr)
    if MODE == "broken":
        sys.exit("this version cannot start")
    app = web.Application()
    app.router.add_get("/health", health)
    app.router.add_route("*", "/{id}", record)
    web.run_app(app, port=int(os.environ.get("PORT", "8080")), shutdown_timeout=20, print=None)


if __name__ == "__main__":
    main()
