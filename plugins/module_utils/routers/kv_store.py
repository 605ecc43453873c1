# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a registry apart from the router is kept in: keys with revisions, and leases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from .base import RouterDown, RouterError

if TYPE_CHECKING:
    from .kv_model import Health


class StoreAway(RouterDown):
    """No member of the store answers, or they have no leader; asking again later may help."""

    kind = "away"


class StoreFull(RouterError):
    """The store has no room left, and takes no writes until somebody frees some."""

    kind = "store_full"


class Changed(Exception):
    """The key is no longer at the revision that was given; nothing was written."""


class LeaseLost(Exception):
    """The store does not know the lease, or no longer."""


@dataclass(frozen=True)
class Entry:
    """A key's value, and the revision that last changed it."""

    value: str
    revision: int


class Store(Protocol):
    """A store. Each call is bounded in time and raises StoreAway or another RouterError.

    Each may be carried out although it failed, since an answer may be lost. Set ``ending`` from
    another thread, and what is under way ends without waiting for servers.
    """

    name: str
    ending: bool

    def read(self, prefix: str) -> dict[str, Entry]:
        """Return all keys that begin with *prefix*, as they stand after all earlier writes."""

    def swap(self, key: str, value: str, revision: int) -> int:
        """Write *value* where the key is still at *revision*; 0 is a key that is not there.

        Returns its new revision.

        :raises Changed: it is at another one.
        """

    def put(self, key: str, value: str, lease: str = "") -> int:
        """Write *value*, which goes when *lease* ends where one is given; returns its revision.

        :raises LeaseLost: there is no such lease.
        """

    def delete(self, key: str, revision: int) -> None:
        """Delete a key that is still at *revision*; satisfied if it is not there.

        :raises Changed: it is at another one.
        """

    def grant(self, seconds: float) -> str:
        """Return a lease that ends after *seconds* unless it is kept alive."""

    def keep_alive(self, lease: str) -> bool:
        """Begin a lease's time again; False where it has ended already."""


@runtime_checkable
class Announcing(Protocol):
    """A store that also has a catalogue of services, for others than us."""

    def announce(self, service: str, url: str, health: Health) -> None:
        """List an instance."""

    def withdraw(self, service: str, url: str) -> None:
        """List an instance no more; satisfied where it is not."""
