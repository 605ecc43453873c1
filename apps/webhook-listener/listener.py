# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes webhooks and remembers the latest of them: a stand-in for adapter, mailer and chatbot."""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from serving import BadSettings, log

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
REMEMBERED = 1000
MAX_BODY = 256 * 1024


class Listener:
    """One listener: its name, and what it was told."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Raises BadSettings."""
        self.name = environment.get("LISTENER_NAME") or "webhook-listener"
        if not NAME.fullmatch(self.name):
            raise BadSettings(
                "LISTENER_NAME must consist of letters, digits, dots, dashes and underscores."
            )
        self.received = 0
        self.events: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)

    async def health(self, _request: web.Request) -> web.Response:
        """Say how it is."""
        return web.json_response({"status": "ok", "name": self.name, "received": self.received})

    async def take(self, request: web.Request) -> web.Response:
        """Remember one event, or several in a list."""
        try:
            document = json.loads(await request.read())
        except (ValueError, RecursionError):
            return web.json_response({"error": "The body is not JSON."}, status=400)
        events = document if isinstance(document, list) else [document]
        for event in events:
            self.received += 1
            self.events.append({"number": self.received, "path": request.path, "event": event})
        log(f"{self.name} took {len(events)} event(s) at {request.path}")
        return web.json_response({"received": self.received})

    async def show(self, _request: web.Request) -> web.Response:
        """List what is remembered, the oldest first."""
        return web.json_response({"received": self.received, "events": list(self.events)})

    async def forget(self, _request: web.Request) -> web.Response:
        """Drop what is remembered; the count goes on."""
        self.events.clear()
        return web.Response(status=204)


def build(environment: Mapping[str, str] | None = None) -> web.Application:
    """The application. Raises BadSettings."""
    environment = os.environ if environment is None else environment
    listener = Listener(environment)
    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_get("/health", listener.health)
    app.router.add_get("/events", listener.show)
    app.router.add_delete("/events", listener.forget)
    app.router.add_post("/{path:.*}", listener.take)
    return app
