# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What both APIs share: answers with a message, and reading a JSON object."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web


def message(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer that only says something."""
    return web.json_response({"message": text}, status=status, headers=headers)


class BadRequest(Exception):
    """The request is answered 400 with this message."""


async def json_object(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object. Raises BadRequest."""
    try:
        value = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON.") from None
    if not isinstance(value, dict):
        raise BadRequest("The body is not a JSON object.")
    return value
