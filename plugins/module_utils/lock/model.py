# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a lock file says, and what it means to somebody who wants the lock; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from ..change import Step
from ..errors import DeliveryError
from ..identity import Machine, ProcessId

LONGEST_TOKEN = 64


class Held(DeliveryError):
    """Somebody else holds the lock.

    :param lock: what the file says, if it was read.
    """

    kind = "held"

    def __init__(
        self, message: str, *, state: str = "", next_step: str = "", lock: Lock | None = None
    ) -> None:
        super().__init__(message, state=state, next_step=next_step)
        self.lock = lock

    def result(self) -> dict[str, Any]:
        """Return what a module returns of it, and the lock."""
        return {**super().result(), "blocked_by": self.lock.as_dict() if self.lock else None}


@dataclass(frozen=True)
class Lock:
    """What the file holds.

    :param name: what is being deployed.
    :param holders: for whom the owner holds it: hosts of its play, and roles on them.
    :param ttl: seconds after ``since`` at which an owner that cannot be looked up counts as dead.
    :param token: tells this acquisition from any other.
    """

    name: str
    owner: ProcessId
    user: str
    holders: tuple[str, ...]
    since: datetime
    ttl: float
    token: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "name": self.name,
            "user": self.user,
            "holders": list(self.holders),
            "since": self.since.isoformat(timespec="seconds"),
            "ttl": self.ttl,
            "token": self.token,
            **self.owner.as_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Lock:
        """Return what ``as_dict`` gave.

        :raises ValueError: it is something else.
        """
        texts = {name: values.get(name) for name in ("name", "user", "since", "token")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise ValueError("a lock is incomplete")
        # It becomes part of a file's name.
        token = str(texts["token"])
        if not (token.isascii() and token.isalnum() and len(token) <= LONGEST_TOKEN):
            raise ValueError("a lock's token is not one")
        holders = values.get("holders")
        if not (isinstance(holders, list) and all(isinstance(one, str) for one in holders)):
            raise ValueError("a lock has no holders")
        ttl = values.get("ttl")
        if not isinstance(ttl, (int, float)) or isinstance(ttl, bool) or not math.isfinite(ttl):
            raise ValueError("a lock has no time to live")
        since = datetime.fromisoformat(str(texts["since"]))
        try:
            since = since.astimezone(UTC) if since.tzinfo else since.replace(tzinfo=UTC)
        except OverflowError as error:
            raise ValueError("a lock is older than time") from error
        return cls(
            name=str(texts["name"]),
            owner=ProcessId.from_dict(values),
            user=str(texts["user"]),
            holders=tuple(holders),
            since=since,
            ttl=float(ttl),
            token=token,
        )

    @property
    def holder(self) -> str:
        """Say who holds it, and since when."""
        owner = f"{self.user}@{self.owner.machine.host} (pid {self.owner.pid})"
        return f"{owner} since {format_time(self.since)}"


def format_time(when: datetime) -> str:
    """Return a moment for a sentence."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


class State(Enum):
    """What the lock is to somebody who wants it."""

    FREE = "free"
    MINE = "held by this play"
    HELD = "held by somebody else"
    STALE = "stale"


class Reason(Enum):
    """Why a lock is stale."""

    DEAD = "held by a process that has ended"
    REBOOTED = "held since before this machine was booted"
    EXPIRED = "held from another machine for longer than its time to live"
    EMPTY = "an empty file"
    FOREIGN = "a file that is not a lock"


@dataclass(frozen=True)
class Observed:
    """The lock, and what it is to the one who asks.

    :param reason: why it is stale; None if it is not.
    """

    state: State
    lock: Lock | None = None
    reason: Reason | None = None

    @property
    def token(self) -> str | None:
        """Which acquisition this is."""
        return self.lock.token if self.lock is not None else None

    @property
    def text(self) -> str:
        """Say it in words."""
        return self.reason.value if self.reason is not None else self.state.value


def judge(
    lock: Lock, owner: ProcessId, *, here: Machine, owner_alive: bool | None, now: datetime
) -> Observed:
    """Return what *lock* is to *owner*.

    :param here: the machine that the lock lies on, which need not be the owner's.
    :param owner_alive: whether the lock's owner runs; None if it cannot be looked up.
    """
    if lock.owner == owner:
        return Observed(State.MINE, lock)
    if owner_alive is not None:
        return (
            Observed(State.HELD, lock) if owner_alive else Observed(State.STALE, lock, Reason.DEAD)
        )
    if here.was(lock.owner.machine):
        return Observed(State.STALE, lock, Reason.REBOOTED)
    if (now - lock.since).total_seconds() > lock.ttl:
        return Observed(State.STALE, lock, Reason.EXPIRED)
    return Observed(State.HELD, lock)


ACQUIRE = "acquire"
JOIN = "join"
LEAVE = "leave"
RELEASE = "release"


def plan(
    observed: Observed, desired: str, holder: str, name: str, force: bool = False
) -> Sequence[Step]:
    """Return the steps to *desired*, held or released.

    :param holder: for whom; the owner holds the lock until the last one has given it back.
    :raises Held: somebody else holds it.
    """
    state = observed.state
    holders = set(observed.lock.holders) if observed.lock is not None else set()
    if desired == "released":
        if force and state is not State.FREE:
            return [Step(RELEASE, f"release the lock of {name}")]
        if state is not State.MINE or holder not in holders:
            return []
        if holders > {holder}:
            return [Step(LEAVE, f"give back the lock of {name} for {holder}")]
        return [Step(RELEASE, f"release the lock of {name}")]
    if state is State.MINE:
        return [] if holder in holders else [Step(JOIN, f"hold the lock of {name} for {holder}")]
    if state is State.HELD and not force and observed.lock is not None:
        raise Held(
            f"{observed.lock.name} is being deployed by {observed.lock.holder}",
            state="Nothing was changed.",
            next_step="Wait until that deploy has ended. Its lock ends with it; if it hangs, end "
            "it, or take the lock away with force: true.",
            lock=observed.lock,
        )
    if state is State.FREE:
        return [Step(ACQUIRE, f"take the lock of {name}")]
    return [Step(ACQUIRE, f"take over the lock of {name}, {observed.text}")]
