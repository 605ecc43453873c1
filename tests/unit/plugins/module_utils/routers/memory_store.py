# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store in memory, with registrars that answer at once, or as a test tells them to."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_model import (
    Applied,
    Keys,
    parse,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_store import (
    Changed,
    Entry,
    StoreAway,
)

KEYS = Keys("/delivery")


class MemoryStore:
    """Keeps keys; ``lost`` says before which writes, and after which, its answer is lost.

    :param errors: what a node says it cannot do, by its name.
    """

    name = "memory"

    def __init__(self, *nodes: str) -> None:
        self.entries: dict[str, Entry] = {}
        self.revision = 0
        self.leases = 0
        self.lost: Callable[[str], str] = lambda key: ""
        self.away = False
        self.errors: dict[str, str] = {}
        self.in_flight: dict[str, int | None] = {}
        self.silent: set[str] = set()
        for node in nodes:
            self.put(KEYS.of("nodes", node), "{}")
            self.put(KEYS.of("running", node), "{}")

    def read(self, prefix: str) -> dict[str, Entry]:
        if self.away:
            raise StoreAway("the store is away")
        return {key: entry for key, entry in self.entries.items() if key.startswith(prefix)}

    def swap(self, key: str, value: str, revision: int) -> int:
        when = self.lost(key)
        if when == "before":
            raise StoreAway("the request was lost")
        now = self.entries.get(key)
        if (now.revision if now else 0) != revision:
            raise Changed(key)
        self.put(key, value)
        self.follow(key)
        if when == "after":
            raise StoreAway("the answer was lost")
        if when == "repeated":
            # The client did it again, and of two equal swaps the second fails.
            raise Changed(key)
        return self.entries[key].revision

    def put(self, key: str, value: str, lease: str = "") -> int:
        self.revision += 1
        written = self.revision
        self.entries[key] = Entry(value, written)
        if key.startswith(KEYS.of("candidates")):
            self.follow(key)
        return written

    def delete(self, key: str, revision: int) -> None:
        now = self.entries.get(key)
        if now is not None and now.revision != revision:
            raise Changed(key)
        self.revision += 1
        self.entries.pop(key, None)

    def grant(self, seconds: float) -> str:
        self.leases += 1
        return str(self.leases)

    def keep_alive(self, lease: str) -> bool:
        return True

    def follow(self, key: str) -> None:
        """Have every registrar say what it does about a decision or a candidate."""
        kind, service = KEYS.parts(key)
        state = parse(KEYS, self.entries)
        decision = (state.decisions if kind == "services" else state.candidates)[service]
        what = "applied" if kind == "services" else "prepared"
        for node in state.running - self.silent:
            said = Applied(
                decision.revision,
                () if node in self.errors else decision.urls,
                decision.urls,
                self.in_flight.get(node, 0),
                self.errors.get(node, ""),
                None if node in self.errors else decision.tried,
            )
            self.put(KEYS.of(what, service, node), said.text())
