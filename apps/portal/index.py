# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The portal's indexes: derived from the entities, kept in memory, written now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crypto import unseal
from files import Entity, is_safe_id, read_json, write_json
from sanity import Insane, Subscription

# Everything an export carries; a portal's archive has these folders and no others.
FOLDERS = (
    "applications",
    "approvals",
    "subscription_api_index",
    "subscription_index",
    "subscriptions",
    "users",
    "verifications",
    "webhooks",
)
SUBS_SUFFIX = ".subs.json"

Row = dict[str, str]
Cancelled = Callable[[], bool]


class Abandoned(Exception):
    """The work was told to stop."""


@dataclass
class Index:
    """Users, applications and subscriptions, without their contents; small enough for memory."""

    users: dict[str, Row] = field(default_factory=dict)
    emails: dict[str, str] = field(default_factory=dict)
    applications: dict[str, Row] = field(default_factory=dict)
    subscriptions: dict[str, list[Subscription]] = field(default_factory=dict)

    def add_user(self, user: Entity) -> None:
        name = f"{user.get('firstName', '')} {user.get('lastName', '')}".strip()
        self.users[user["id"]] = {
            "id": user["id"],
            "name": str(user.get("name") or name),
            "email": user["email"],
        }
        self.emails[user["email"].lower()] = user["id"]

    def add_application(self, application: Entity) -> None:
        self.applications[application["id"]] = {"id": application["id"]}

    def set_subscriptions(self, application: str, subscriptions: list[Entity]) -> None:
        self.subscriptions[application] = [
            Subscription(application, entry["api"], entry["plan"], entry.get("clientId"))
            for entry in subscriptions
        ]

    def all_subscriptions(self) -> Iterator[Subscription]:
        for subscriptions in self.subscriptions.values():
            yield from subscriptions

    def counts(self) -> dict[str, int]:
        return {
            "users": len(self.users),
            "applications": len(self.applications),
            "subscriptions": sum(map(len, self.subscriptions.values())),
        }

    def copy(self) -> Index:
        """A snapshot that another thread may read while this one changes."""
        return Index(
            users=dict(self.users),
            applications=dict(self.applications),
            subscriptions=dict(self.subscriptions),
        )


def _read(path: Path, root: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError):
        raise Insane(f"{path.relative_to(root)} cannot be read as JSON") from None


def _entities(root: Path, folder: str, cancelled: Cancelled) -> Iterator[Entity]:
    """The entities of a folder, oldest first. Raises Insane for one that cannot be served."""
    found: list[Entity] = []
    for path in sorted((root / folder).glob("*.json")):
        if path.name.startswith(("_", ".")):
            continue
        if cancelled():
            raise Abandoned
        entity = _read(path, root)
        if (
            not isinstance(entity, dict)
            or entity.get("id") != path.stem
            or not is_safe_id(path.stem)
        ):
            raise Insane(f"{folder}/{path.name} is not an entity whose id is its file's name")
        found.append(entity)
    found.sort(key=lambda entity: (_seconds(entity), entity["id"]))
    yield from found


def _seconds(entity: Entity) -> float:
    changed = entity.get("changedDate")
    return changed if isinstance(changed, int | float) else 0


def load_index(root: Path, cancelled: Cancelled = lambda: False) -> Index:
    """Read every entity below root. Raises Insane (naming the file) and Abandoned."""
    index = Index()
    for user in _entities(root, "users", cancelled):
        email = user.get("email")
        if not isinstance(email, str):
            raise Insane(f"users/{user['id']}.json has no email")
        if email.lower() in index.emails:
            raise Insane(f"users/{user['id']}.json has the email of another user")
        index.add_user(user)
    for application in _entities(root, "applications", cancelled):
        index.add_application(application)
        name = f"{application['id']}{SUBS_SUFFIX}"
        # A crash between an application's two files leaves none: it has no subscriptions then.
        path = root / "subscriptions" / name
        entries = _read(path, root) if path.exists() else []
        if not isinstance(entries, list) or not all(
            isinstance(entry, dict)
            and isinstance(entry.get("api"), str)
            and isinstance(entry.get("plan"), str)
            for entry in entries
        ):
            raise Insane(f"subscriptions/{name} is not a list of subscriptions")
        index.set_subscriptions(application["id"], entries)
    for path in (root / "subscriptions").glob(f"*{SUBS_SUFFIX}"):
        # One that a creation cut short left behind is empty; anything else would be lost silently.
        if path.name.removesuffix(SUBS_SUFFIX) not in index.applications and _read(path, root):
            raise Insane(f"subscriptions/{path.name} belongs to no application")
    return index


def write_index(root: Path, index: Index, apis: list[str], key: str, cancelled: Cancelled) -> None:
    """Write all derived files below root from a snapshot. Raises OSError and Abandoned."""
    for folder in ("users", "applications"):
        write_json(root / folder / "_index.json", list(getattr(index, folder).values()))
        if cancelled():
            raise Abandoned
    for name in ("approvals/_index.json", "verifications/_index.json", "webhooks/_listeners.json"):
        if not (root / name).exists():
            write_json(root / name, [])
    by_api: dict[str, list[dict[str, str]]] = {api: [] for api in apis}
    by_client: dict[str, dict[str, str]] = {}
    for entry in index.all_subscriptions():
        by_api.setdefault(entry.api, []).append(
            {"application": entry.application, "plan": entry.plan}
        )
        client = unseal(entry.client_id, key) if entry.client_id else None
        if client is not None and is_safe_id(client):
            by_client[client] = {"application": entry.application, "api": entry.api}
    for folder, wanted in (("subscription_api_index", by_api), ("subscription_index", by_client)):
        for stale in {path.stem for path in (root / folder).glob("*.json")} - set(wanted):
            (root / folder / f"{stale}.json").unlink(missing_ok=True)
        for name, value in wanted.items():
            if cancelled():
                raise Abandoned
            write_json(root / folder / f"{name}.json", value)
