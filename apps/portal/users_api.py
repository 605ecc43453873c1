# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The portal's own small API: users, applications, subscriptions, and what can be subscribed to."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

from aiohttp import web
from files import Entity, is_safe_id
from index import Row
from store import Store
from web_common import BadRequest, json_object

MAX_TEXT = 254
MAX_PAGE = 1000
# Known to whoever created them, once; never answered again.
SECRETS = ("password", "apikey", "clientSecret")


def public(entity: Entity) -> Entity:
    """entity without its secrets."""
    return {name: value for name, value in entity.items() if name not in SECRETS}


def _text(body: Entity, name: str, required: bool = True) -> str | None:
    value = body.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, str) or not value.strip():
        raise BadRequest(f"The field {name!r} must be a text that is not empty.")
    if len(value) > MAX_TEXT:
        raise BadRequest(f"The field {name!r} is longer than {MAX_TEXT} characters.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"The field {name!r} has a lone surrogate.") from None
    return value.strip()


def _id(body: Entity, name: str, required: bool = True) -> str | None:
    value = body.get(name)
    if value is None and not required:
        return None
    if not is_safe_id(value):
        raise BadRequest(
            f"The field {name!r} must be 1 to 100 letters, digits, '-' and '_', "
            "beginning with a letter or digit."
        )
    return str(value)


def _email(body: Entity) -> str:
    email = _text(body, "email") or ""
    local, at, domain = email.rpartition("@")
    if not (local and at and domain) or any(character.isspace() for character in email):
        raise BadRequest("The field 'email' must be an email address.")
    return email


def _groups(body: Entity) -> list[str]:
    groups = body.get("groups", [])
    if not isinstance(groups, list) or not all(is_safe_id(group) for group in groups):
        raise BadRequest("The field 'groups' must be a list of ids.")
    return groups


def hash_password(password: str) -> str:
    """Nobody signs in to the stand-in; but a password at rest is hashed all the same."""
    salt = os.urandom(16)
    digest = hashlib.scrypt(password.encode(), salt=salt, n=1 << 14, r=8, p=1)
    return f"$scrypt${salt.hex()}${digest.hex()}"


def _page(request: web.Request, rows: list[Row]) -> web.Response:
    numbers: dict[str, int] = {}
    for name, default in (("offset", 0), ("limit", 100)):
        given = request.query.get(name, str(default))
        if not (given.isascii() and given.isdigit() and len(given) < 10):
            raise BadRequest(f"The parameter {name!r} must be a whole number.")
        numbers[name] = int(given)
    offset, limit = numbers["offset"], min(numbers["limit"], MAX_PAGE)
    items = rows[offset : offset + limit]
    return web.json_response({"items": items, "count": len(rows), "offset": offset, "limit": limit})


class UsersApi:
    """The handlers. Store's exceptions become answers in the application's middleware."""

    def __init__(self, store: Store, version: str, release: str) -> None:
        self._store = store
        self._version = version
        self._release = release

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/health", self.health),
            web.get("/counts", self.counts),
            web.get("/apis", self.apis),
            web.get("/plans", self.plans),
            web.post("/users", self.post_user),
            web.get("/users", self.users),
            web.get("/users/{id}", self.user),
            web.post("/applications", self.post_application),
            web.get("/applications", self.applications),
            web.get("/applications/{id}", self.application),
            web.post("/applications/{id}/subscriptions", self.post_subscription),
            web.get("/applications/{id}/subscriptions", self.subscriptions),
        ]

    async def health(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "status": "ok",
                "version": self._version,
                "release": self._release,
                "locked": self._store.lock_reason is not None,
            }
        )

    async def counts(self, _request: web.Request) -> web.Response:
        return web.json_response(self._store.index.counts())

    async def apis(self, _request: web.Request) -> web.Response:
        apis: list[dict[str, Any]] = [
            {"id": api.id, "name": api.name, "plans": list(api.plans), "auth": api.auth}
            for api in self._store.static.apis.values()
        ]
        return web.json_response({"apis": apis})

    async def plans(self, _request: web.Request) -> web.Response:
        plans = [{"id": plan, "name": name} for plan, name in self._store.static.plans.items()]
        return web.json_response({"plans": plans})

    async def post_user(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        fields: Entity = {
            "id": _id(body, "id", required=False),
            "firstName": _text(body, "firstName"),
            "lastName": _text(body, "lastName"),
            "email": _email(body),
            "groups": _groups(body),
        }
        if (password := _text(body, "password", required=False)) is not None:
            fields["password"] = await asyncio.to_thread(hash_password, password)
        user = self._store.create_user(fields)
        return _created(user, f"/users/{user['id']}")

    async def users(self, request: web.Request) -> web.Response:
        index = self._store.index
        if (email := request.query.get("email")) is not None:
            user_id = index.emails.get(email.lower())
            return _page(request, [] if user_id is None else [index.users[user_id]])
        return _page(request, list(index.users.values()))

    async def user(self, request: web.Request) -> web.Response:
        return web.json_response(public(self._store.user(request.match_info["id"])))

    async def post_application(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        application = self._store.create_application(
            {
                "id": _id(body, "id"),
                "name": _text(body, "name"),
                "redirectUri": _text(body, "redirectUri", required=False),
                "userId": _id(body, "userId", required=False),
            }
        )
        return _created(application, f"/applications/{application['id']}")

    async def applications(self, request: web.Request) -> web.Response:
        return _page(request, list(self._store.index.applications.values()))

    async def application(self, request: web.Request) -> web.Response:
        return web.json_response(public(self._store.application(request.match_info["id"])))

    async def post_subscription(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        application_id = request.match_info["id"]
        api, plan = _id(body, "api") or "", _id(body, "plan") or ""
        try:
            subscription = self._store.create_subscription(application_id, api, plan)
        except ValueError as exc:
            raise BadRequest(str(exc)) from None
        location = f"/applications/{application_id}/subscriptions"
        # With its credentials: this once.
        return web.json_response(subscription, status=201, headers={"Location": location})

    async def subscriptions(self, request: web.Request) -> web.Response:
        entries = self._store.subscriptions(request.match_info["id"])
        return web.json_response([public(entry) for entry in entries])


def _created(entity: Entity, location: str) -> web.Response:
    return web.json_response(public(entity), status=201, headers={"Location": location})
