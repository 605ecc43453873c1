# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shop's web service: takes orders, and tells which ones it has."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import database
from aiohttp import web

VERSION = os.environ["SHOP_VERSION"]
PRICES = Path("/etc/shop/prices.json")


async def health(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def about(request: web.Request) -> web.Response:
    pool = request.app["pool"]
    count = await database.wait(lambda: pool.fetchval("SELECT count(*) FROM orders"))
    return answer(
        {
            "version": VERSION,
            "orders": count,
            "currency": os.environ["CURRENCY"],
            "prices": request.app["prices"],
        }
    )


async def find(request: web.Request) -> web.Response:
    """The orders whose ids begin as asked."""
    pool, prefix = request.app["pool"], request.match_info["prefix"]
    ask = "SELECT id FROM orders WHERE starts_with(id, $1)"
    rows = await database.wait(lambda: pool.fetch(ask, prefix))
    return answer({"version": VERSION, "ids": [row["id"] for row in rows]})


async def order(request: web.Request) -> web.Response:
    """Acknowledge an order once it is in the database.

    Its id is the client's. So an order that is sent twice is taken once.
    """
    wanted = await request.json()
    pool, name, item = request.app["pool"], str(wanted["id"]), str(wanted["item"])
    if item not in request.app["prices"]:
        return answer({"error": f"there is no {item}"}, 404)
    insert = "INSERT INTO orders (id, item) VALUES ($1, $2) ON CONFLICT DO NOTHING"
    await database.wait(lambda: pool.execute(insert, name, item))
    return answer({"version": VERSION, "id": name}, 201)


def answer(content: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(
        text=json.dumps(content) + "\n", status=status, content_type="application/json"
    )


async def start() -> web.Application:
    app = web.Application()
    app["prices"] = json.loads(PRICES.read_text())
    # Nobody is healthy before this, since nothing listens yet.
    app["pool"] = await database.connect()
    app.add_routes(
        [
            web.get("/health", health),
            web.get("/orders", about),
            web.get("/orders/{prefix}", find),
            web.post("/orders", order),
        ]
    )
    return app


web.run_app(start(), port=8080, print=None)
