# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The static configuration, and whether dynamic data fits it.

The checks are those a portal makes at start and at import: every API names known plans only; every
subscription's API and plan exist, and the plan is one of those that the API allows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from files import is_safe_id, read_json


class Subscription(NamedTuple):
    """What the checks and the indexes need to know of a subscription."""

    application: str
    api: str
    plan: str
    client_id: str | None


class Insane(Exception):
    """Static configuration and dynamic data do not fit; the message says which entry and why."""


@dataclass(frozen=True)
class Api:
    """An API of the static configuration; auth is `key-auth` or `oauth2`."""

    id: str
    name: str
    plans: tuple[str, ...]
    auth: str


@dataclass(frozen=True)
class StaticConfig:
    """APIs and plans by id; fixed for the life of the process."""

    apis: dict[str, Api]
    plans: dict[str, str]

    def problem(self, application: str, api_id: str, plan: str) -> str | None:
        """Why a subscription is not possible, or None where it is."""
        whose = f"application {application!r} subscribes to API {api_id!r} with plan {plan!r}"
        api = self.apis.get(api_id)
        if api is None:
            return f"{whose}, but the static configuration has no such API"
        if plan not in self.plans:
            return f"{whose}, but the static configuration has no such plan"
        if plan not in api.plans:
            return f"{whose}, but that API allows only {', '.join(api.plans) or 'no plan'}"
        return None

    def check(self, subscriptions: Iterable[Subscription]) -> None:
        """Raise Insane, naming the first problem and how many more there are."""
        problems = [
            problem
            for subscription in subscriptions
            if (problem := self.problem(*subscription[:3])) is not None
        ]
        if problems:
            more = f" ({len(problems) - 1} more like it)" if len(problems) > 1 else ""
            raise Insane(f"{problems[0]}{more}")


def _entries(folder: Path, kind: str) -> list[dict[str, Any]]:
    path = folder / f"{kind}.json"
    try:
        entries = read_json(path)[kind]
    except OSError as exc:
        raise Insane(f"the static configuration {path} cannot be read ({exc.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise Insane(f"the static configuration {path} is not JSON with a list {kind!r}") from None
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and is_safe_id(entry.get("id")) for entry in entries
    ):
        raise Insane(f"the static configuration {path} has an entry without a usable id")
    return entries


def load_static(folder: Path) -> StaticConfig:
    """Read `apis.json` and `plans.json` of folder. Raises Insane where they are unusable."""
    plans = {plan["id"]: str(plan.get("name", plan["id"])) for plan in _entries(folder, "plans")}
    apis: dict[str, Api] = {}
    for entry in _entries(folder, "apis"):
        allowed = entry.get("plans", [])
        if not isinstance(allowed, list) or not all(isinstance(plan, str) for plan in allowed):
            raise Insane(f"the plans of API {entry['id']!r} are not a list of ids")
        for plan in allowed:
            if plan not in plans:
                raise Insane(f"API {entry['id']!r} allows plan {plan!r}, which does not exist")
        apis[entry["id"]] = Api(
            id=entry["id"],
            name=str(entry.get("name", entry["id"])),
            plans=tuple(allowed),
            auth=str(entry.get("auth", "key-auth")),
        )
    return StaticConfig(apis=apis, plans=plans)
