# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A router in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ansible_collections.immutable.delivery.plugins.module_utils.http import Unreachable
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import Route


@dataclass
class MemoryRouter:
    """A router in memory. One that is away goes on sending traffic."""

    urls: tuple[str, ...] = ()
    away: bool = False
    name: str = "table"
    on_look: Callable[[], None] = lambda: None

    def observe(self, service: str) -> Route:
        self._answer()
        return Route(service, self.urls)

    def switch(self, service: str, urls: Sequence[str]) -> None:
        self._answer()
        self.urls = tuple(urls)

    def remove(self, service: str) -> None:
        self.switch(service, ())

    def in_flight(self, service: str) -> int | None:
        self._answer()
        return 0

    def entrance(self, service: str) -> str:
        return "http://table.test"

    def _answer(self) -> None:
        self.on_look()
        if self.away:
            raise Unreachable("the table does not answer")
