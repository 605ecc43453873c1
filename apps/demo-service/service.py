# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recommendation service: `GET /ID` recommends something to whoever ID is."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping

from aiohttp import web
from serving import BadSettings

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
ID = r"{id:[A-Za-z0-9_-]{1,64}}"
# How many things there are to recommend.
THINGS = 10_000
# To try a deploy with a version that is no good: what each of them does is in README.md.
FAULTS = ("", "crash", "unhealthy", "wrong", "error")


def _label(environment: Mapping[str, str], name: str, default: str) -> str:
    value = environment.get(name) or default
    if not LABEL.fullmatch(value):
        raise BadSettings(
            f"{name} must consist of letters, digits, dots, dashes, plus signs and underscores."
        )
    return value


class Service:
    """Which version this is, and what it answers."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Raises BadSettings."""
        self.version = _label(environment, "DEMO_VERSION", "dev")
        self.release = _label(environment, "DEMO_RELEASE", self.version)
        self.fault = environment.get("DEMO_FAULT", "")
        if self.fault not in FAULTS:
            raise BadSettings(f"DEMO_FAULT must be one of {', '.join(FAULTS[1:])}.")
        if self.fault == "crash":
            raise BadSettings("DEMO_FAULT asks for an end at the start.")

    async def health(self, _request: web.Request) -> web.Response:
        """Say how it is."""
        sick = self.fault == "unhealthy"
        return web.json_response(
            {
                "status": "sick" if sick else "ok",
                "version": self.version,
                "release": self.release,
            },
            status=503 if sick else 200,
        )

    async def recommend(self, _request: web.Request) -> web.Response:
        """Recommend one of the things, by its number."""
        if self.fault == "error":
            return web.json_response({"error": "Nothing can be recommended."}, status=500)
        number = secrets.randbelow(THINGS)
        return web.json_response({"rec": str(number) if self.fault == "wrong" else number})

    async def name_version(self, _request: web.Request, response: web.StreamResponse) -> None:
        """Let every answer tell which version gave it."""
        response.headers["X-Version"] = self.version


def build(environment: Mapping[str, str] | None = None) -> web.Application:
    """The application. Raises BadSettings."""
    environment = os.environ if environment is None else environment
    service = Service(environment)
    app = web.Application()
    app.router.add_get("/health", service.health)
    app.router.add_get(f"/{ID}", service.recommend)
    app.on_response_prepare.append(service.name_version)
    return app
