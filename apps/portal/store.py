# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dynamic data: entities as files, their index in memory, and the lock on changing them.

Every change is one synchronous step of the event loop: is it locked, is it a duplicate, write the
file, update the index. So no lock can begin in the middle of a change: it is either in the next
export completely, or refused. A change is written to the file system before it is answered (a
killed process loses nothing; surviving a power cut would take an fsync, which is not done).
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import time
from pathlib import Path
from typing import IO, Any

import swap
from archive import LOCK_FILE
from crypto import new_id, seal
from files import Entity, read_json, write_json
from index import SUBS_SUFFIX, Abandoned, Cancelled, Index, load_index, write_index
from sanity import StaticConfig

# How long derived files may lag behind the entities, in seconds.
FLUSH_AFTER = 30.0


class Locked(Exception):
    """The portal is read-only for now; the message says what for."""


class Duplicate(Exception):
    """There is one already; the message says of what."""


class Unknown(Exception):
    """There is none; the message says of what."""


class DataUnusable(Exception):
    """The data folder cannot be used; the message says why."""


class Store:
    """All reads and writes of the dynamic data. To be used from one event loop only."""

    def __init__(self, root: Path, static: StaticConfig, key: str) -> None:
        """Recover and read root. Raises DataUnusable and Insane."""
        self.root = root
        self.static = static
        self.lock_reason: str | None = None
        self._key = key
        self._dirty = True  # the derived files of before may be missing or stale
        self._writing_derived = asyncio.Lock()
        self._flush_timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        try:
            (root / swap.TEMPORARY).mkdir(exist_ok=True)
            self._claim: IO[bytes] = self._claim_root()
            swap.prepare(root)
            self.index = self.load_checked(root)
        except OSError as exc:
            raise DataUnusable(f"the data folder {root} cannot be used ({exc.strerror})") from None

    def _claim_root(self) -> IO[bytes]:
        """Two portals on one folder would overwrite each other. The claim ends with the process."""
        claim = (self.root / swap.TEMPORARY / swap.CLAIM).open("ab")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            claim.close()
            if exc.errno != errno.EWOULDBLOCK:
                raise
            raise DataUnusable(f"the data folder {self.root} is in use by another portal") from None
        return claim

    def load_checked(self, root: Path, cancelled: Cancelled = lambda: False) -> Index:
        """The index of the data below root. Raises Insane where it is broken or does not fit."""
        index = load_index(root, cancelled)
        self.static.check(index.all_subscriptions())
        return index

    # -- the lock -----------------------------------------------------------------------------

    def lock(self, reason: str) -> None:
        """Refuse changes from now on. Raises OSError where the lock file cannot be written."""
        (self.root / LOCK_FILE).touch()
        self.lock_reason = reason

    def unlock(self) -> None:
        self.lock_reason = None
        (self.root / LOCK_FILE).unlink(missing_ok=True)

    def _may_write(self) -> None:
        if self.lock_reason is not None:
            raise Locked(f"The portal is read-only for now: {self.lock_reason}.")

    # -- reading ------------------------------------------------------------------------------

    def user(self, user_id: str) -> Entity:
        return self._read("users", user_id, "user")

    def application(self, application_id: str) -> Entity:
        return self._read("applications", application_id, "application")

    def _read(self, folder: str, entity_id: str, kind: str) -> Entity:
        if entity_id not in getattr(self.index, folder):
            raise Unknown(f"There is no {kind} {entity_id!r}.")
        entity: Entity = read_json(self.root / folder / f"{entity_id}.json")
        return entity

    def subscriptions(self, application_id: str) -> list[Entity]:
        if application_id not in self.index.applications:
            raise Unknown(f"There is no application {application_id!r}.")
        path = self._subscriptions_path(application_id)
        entries: list[Entity] = read_json(path) if path.exists() else []
        return entries

    def _subscriptions_path(self, application_id: str) -> Path:
        return self.root / "subscriptions" / f"{application_id}{SUBS_SUFFIX}"

    # -- changes ------------------------------------------------------------------------------

    def create_user(self, fields: Entity) -> Entity:
        """fields: firstName, lastName, email, and where wanted id, password (hashed), groups."""
        self._may_write()
        user_id = fields.get("id") or new_id()
        if user_id in self.index.users:
            raise Duplicate(f"There is a user {user_id!r} already.")
        if fields["email"].lower() in self.index.emails:
            raise Duplicate("There is a user with this email address already.")
        user = {
            "id": user_id,
            "firstName": fields["firstName"],
            "lastName": fields["lastName"],
            "validated": False,
            "email": fields["email"],
            **({"password": fields["password"]} if fields.get("password") else {}),
            "applications": [],
            "groups": fields.get("groups", []),
            "changedBy": user_id,
            "changedDate": int(time.time()),
        }
        write_json(self.root / "users" / f"{user_id}.json", user)
        self.index.add_user(user)
        self._changed()
        return user

    def create_application(self, fields: Entity) -> Entity:
        """fields: id, name, and where wanted redirectUri and userId (the owner)."""
        self._may_write()
        application_id, owner_id = fields["id"], fields.get("userId")
        if application_id in self.index.applications:
            raise Duplicate(f"There is an application {application_id!r} already.")
        owner = self.user(owner_id) if owner_id else None
        link = {"href": f"/applications/{application_id}"}
        application: Entity = {
            "id": application_id,
            "name": fields["name"],
            **({"redirectUri": fields["redirectUri"]} if fields.get("redirectUri") else {}),
            "owners": [],
            "_links": {"self": link},
            "changedBy": owner_id,
            "changedDate": int(time.time()),
        }
        write_json(self._subscriptions_path(application_id), [])
        if owner is not None:
            application["owners"].append(
                {
                    "userId": owner["id"],
                    "email": owner["email"],
                    "role": "owner",
                    "_links": {"user": {"href": f"/users/{owner['id']}"}},
                }
            )
            mine = {"id": application_id, "_links": {"application": link}}
            others = [one for one in owner["applications"] if one["id"] != application_id]
            write_json(
                self.root / "users" / f"{owner['id']}.json",
                {**owner, "applications": [*others, mine]},
            )
        # Last: the application exists from here on, and a crash before leaves nothing that counts.
        write_json(self.root / "applications" / f"{application_id}.json", application)
        self.index.add_application(application)
        self.index.set_subscriptions(application_id, [])
        self._changed()
        return application

    def create_subscription(self, application_id: str, api_id: str, plan: str) -> Entity:
        """Subscribe; the answer carries the new credentials in clear, the file has them sealed.

        Raises ValueError where the static configuration does not allow it.
        """
        self._may_write()
        existing = self.subscriptions(application_id)
        if (problem := self.static.problem(application_id, api_id, plan)) is not None:
            raise ValueError(f"{problem[0].upper()}{problem[1:]}.")
        if any(one["api"] == api_id for one in existing):
            raise Duplicate(f"Application {application_id!r} subscribes to {api_id!r} already.")
        auth = self.static.apis[api_id].auth
        names = ("clientId", "clientSecret") if auth == "oauth2" else ("apikey",)
        clear: dict[str, Any] = {"apikey": None, "clientId": None, "clientSecret": None}
        clear.update({name: new_id() for name in names})
        application = f"/applications/{application_id}"
        subscription: Entity = {
            "id": new_id(),
            "application": application_id,
            "api": api_id,
            "plan": plan,
            **{name: value and seal(value, self._key) for name, value in clear.items()},
            "auth": auth,
            "approved": True,
            "changedBy": None,
            "changedDate": int(time.time()),
            "_links": {
                "self": {"href": f"{application}/subscriptions/{api_id}"},
                "application": {"href": application},
                "apis": {"href": "/apis"},
                "plans": {"href": "/plans"},
            },
        }
        write_json(self._subscriptions_path(application_id), [*existing, subscription])
        self.index.set_subscriptions(application_id, [*existing, subscription])
        self._changed()
        return {**subscription, **clear}

    # -- derived files ------------------------------------------------------------------------

    def _changed(self) -> None:
        self._dirty = True
        if self._flush_timer is None:
            loop = asyncio.get_running_loop()
            self._flush_timer = loop.call_later(FLUSH_AFTER, self._flush_soon)

    def _flush_soon(self) -> None:
        self._flush_timer = None
        self._flushing = asyncio.get_running_loop().create_task(self._flush_quietly())

    async def _flush_quietly(self) -> None:
        try:
            await self.flush()
        except (OSError, Abandoned):
            self._dirty = True  # derived: the next flush, or the next start, makes up for it

    async def flush(self, cancelled: Cancelled = lambda: False) -> None:
        """Write the derived files as of now, where something changed. Raises OSError, Abandoned."""
        async with self._writing_derived:
            if not self._dirty:
                return
            self._dirty = False
            snapshot, apis = self.index.copy(), list(self.static.apis)
            try:
                await asyncio.to_thread(
                    write_index, self.root, snapshot, apis, self._key, cancelled
                )
            except BaseException:
                self._dirty = True
                raise

    # -- replacing everything -----------------------------------------------------------------

    async def replace(self, staging: Path, index: Index) -> None:
        """Put checked data from staging in place of all there is. Raises OSError."""
        async with self._writing_derived:
            swap.decide(self.root, staging)
            swap.finish(self.root)
            self.index = index
            self._dirty = True

    async def close(self) -> None:
        """Write the derived files and give the data folder up."""
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        if self._flushing is not None:
            await self._flushing
        self.unlock()
        await self._flush_quietly()
        self._claim.close()
