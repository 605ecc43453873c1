# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serves one large file by the calls of the deploy API that export and import make.

Stands in for a portal with a gigabyte of data: a server that does no work of its own, so that what
is measured is the client.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from aiohttp import web

DONE = {"status": 2, "message": "done"}


def application(archive: Path, sha256: str) -> web.Application:
    """The calls; every export and every import is done at once."""

    async def begin_export(request: web.Request) -> web.Response:
        return web.json_response({"exportId": "e1"}, status=201)

    async def status(request: web.Request) -> web.Response:
        return web.json_response(DONE)

    async def data(request: web.Request) -> web.FileResponse:
        return web.FileResponse(archive, headers={"X-SHA256-Hash": sha256})

    async def cancel(request: web.Request) -> web.Response:
        return web.Response(status=204)

    async def take_import(request: web.Request) -> web.Response:
        async for _chunk in request.content.iter_any():
            pass
        return web.json_response({"importId": "i1"}, status=201)

    app = web.Application()
    app.router.add_post("/deploy/v1/export", begin_export)
    app.router.add_get("/deploy/v1/{job}/{id}/status", status)
    app.router.add_get("/deploy/v1/export/{id}/data", data)
    app.router.add_delete("/deploy/v1/export/{id}", cancel)
    app.router.add_post("/deploy/v1/import", take_import)
    return app


def main() -> None:
    """Listen on a free port of the loopback interface and print its URL."""

    async def serve() -> None:
        runner = web.AppRunner(application(Path(sys.argv[1]), sys.argv[2]))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        print(f"http://{host}:{port}", flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
