# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model of two portals behind a router, with users who write all the time, in its own time.

A write goes to the side that the router names when it comes, is acknowledged or refused there when
it is processed, which a slow one is later. Every call takes time, and can be spoiled.
"""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, BinaryIO

from ansible_collections.immutable.delivery.plugins.module_utils.deadline import Deadline
from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.http import (
    ConnectionBroken,
    Http,
    Unreachable,
)
from ansible_collections.immutable.delivery.plugins.module_utils.portal.client import (
    HASH_HEADER,
    Cancelled,
    Conflict,
    PortalClient,
    PortalError,
    State,
    Status,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import (
    Route,
    RouterError,
)

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LIVE, CANDIDATE = "http://live.test", "http://candidate.test"
CALL_SECONDS = 0.2
WRITE_EVERY = 0.1


@dataclass
class Side:
    """One portal: its writes, its one lock, and what is under way there."""

    url: str
    lock_seconds: float = 60.0
    job_seconds: float = 1.0
    writes: set[int] = field(default_factory=set)
    export_id: str = ""
    snapshot: tuple[int, ...] = ()
    locked_at: float = 0.0
    import_done_at: float | None = None
    # A write and when it will be processed.
    under_way: list[tuple[int, float]] = field(default_factory=list)

    def held(self, now: float) -> bool:
        return bool(self.export_id) and now < self.locked_at + self.lock_seconds


@dataclass
class World:
    """Both sides, the router's table, the users and the time.

    :param slow: how long each write takes to be processed, in turn; 0 for at once.
    :param spoiled: by the number of a call, what becomes of it; see ``spoil``.
    """

    live: Side = field(default_factory=lambda: Side(LIVE))
    candidate: Side = field(default_factory=lambda: Side(CANDIDATE))
    slow: Sequence[float] = (0.0,)
    spoiled: dict[int, str] = field(default_factory=dict)
    now: float = 0.0
    routed: str = LIVE
    written: int = 0
    acknowledged: dict[int, tuple[str, float]] = field(default_factory=dict)
    refused: int = 0
    calls: list[str] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)
    # A call that was broken off, and is carried out all the same, with the number of a later one.
    late: tuple[int, Callable[[], Any]] | None = None
    lapsed_at: dict[str, float] = field(default_factory=dict)

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.live, self.candidate

    def side(self, url: str) -> Side:
        return self.live if url == LIVE else self.candidate

    def clock(self) -> datetime:
        return START + timedelta(seconds=self.now)

    def pass_time(self, seconds: float) -> None:
        """Let users write for so long."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now = min(end, self.now + WRITE_EVERY)
            self._process()
            self.written += 1
            side = self.side(self.routed)
            delay = self.slow[self.written % len(self.slow)]
            side.under_way.append((self.written, self.now + delay))
            self._process()

    def _process(self) -> None:
        for side in self.sides:
            if side.export_id and not side.held(self.now):
                side.export_id = ""
                self.lapsed_at[side.url] = self.now
            due = [write for write, at in side.under_way if at <= self.now]
            side.under_way = [entry for entry in side.under_way if entry[1] > self.now]
            locked = side.held(self.now) or (
                side.import_done_at is not None and self.now < side.import_done_at
            )
            for write in due:
                if locked:
                    self.refused += 1
                else:
                    side.writes.add(write)
                    self.acknowledged[write] = (side.url, self.now)

    def call(self, name: str, effect: Callable[[], Any]) -> Any:
        """Carry out one call, spoiled or not."""
        number = len(self.calls)
        self.calls.append(name)
        fault = self.spoiled.get(number, "")
        if fault:
            self.happened.append(f"{fault} at {name}")
        self.pass_time(CALL_SECONDS)
        if fault == "away":
            raise Unreachable("no connection")
        if fault == "signal before":
            self._signal()
        if fault == "broken off":
            try:
                self._signal()
            except DeliveryError:
                self.late = (number + 2, effect)
                raise
        for side in self.sides:
            if side.export_id and fault in (f"{side.url} lapses", "both lapse"):
                side.export_id = ""
                self.lapsed_at[side.url] = self.now
        if fault in ("slow", "very slow"):
            self.pass_time(15 if fault == "slow" else 70)
        if fault == "lost before":
            raise ConnectionBroken("the answer is lost, and so was the call")
        answer = effect()
        if self.late and number >= self.late[0]:
            self.late[1]()
            self.late = None
        self.pass_time(CALL_SECONDS)
        if fault == "lost after":
            raise ConnectionBroken("the answer is lost")
        if fault == "signal after":
            self._signal()
        return answer

    @staticmethod
    def _signal() -> None:
        handler = signal.getsignal(signal.SIGTERM)
        if callable(handler):  # the runner's
            handler(signal.SIGTERM, None)

    @property
    def lost(self) -> list[int]:
        """The acknowledged writes that the side which has the traffic lacks."""
        return sorted(set(self.acknowledged) - self.side(self.routed).writes)


FAULTS = (
    "away",
    "lost before",
    "lost after",
    "signal before",
    "signal after",
    "broken off",
    f"{LIVE} lapses",
    f"{CANDIDATE} lapses",
    "both lapse",
    "slow",
    "very slow",
)


class ModelClient(PortalClient):
    """The deploy API of one side."""

    def __init__(self, world: World, side: Side) -> None:
        super().__init__(Http(side.url))
        self.world = world
        self.side = side
        self.http.chunks = lambda response, deadline: iter([response.body])  # type: ignore[method-assign]

    def _call(self, name: str, effect: Callable[[], Any]) -> Any:  # type: ignore[override]
        which = "live" if self.side is self.world.live else "candidate"
        return self.world.call(f"{which} {name}", effect)

    def check_key(self, deadline: Deadline) -> None:
        self._call("key", lambda: None)

    def begin_export(self, deadline: Deadline) -> str:
        def begin() -> str:
            if self.side.held(self.world.now):
                raise Conflict("another export is under way")
            self.side.export_id = f"export-{len(self.world.calls)}"
            self.side.locked_at = self.world.now
            self.side.snapshot = tuple(sorted(self.side.writes))
            return self.side.export_id

        return str(self._call("lock", begin))

    def export_status(self, export_id: str, deadline: Deadline) -> Status:
        def ask() -> Status:
            if not self.side.held(self.world.now) or self.side.export_id != export_id:
                return Status(State.UNKNOWN)
            done = self.world.now >= self.side.locked_at + self.side.job_seconds
            return Status(State.DONE if done else State.RUNNING)

        status = self._call("status", ask)
        assert isinstance(status, Status)
        return status

    def open_data(self, export_id: str, deadline: Deadline) -> Any:
        def data() -> Any:
            body = json.dumps(self.side.snapshot).encode()
            headers = {
                HASH_HEADER: hashlib.sha256(body).hexdigest(),
                "Content-Length": str(len(body)),
            }
            return SimpleNamespace(body=body, headers=headers, close=lambda: None)

        return self._call("data", data)

    def cancel_export(self, export_id: str, deadline: Deadline) -> Cancelled:
        def cancel() -> Cancelled:
            if not self.side.held(self.world.now) or self.side.export_id != export_id:
                return Cancelled.UNKNOWN
            if self.world.now < self.side.locked_at + self.side.job_seconds:
                return Cancelled.SCHEDULED
            self.side.export_id = ""
            return Cancelled.DONE

        return Cancelled(self._call("unlock", cancel))

    def begin_import(self, archive: BinaryIO, sha256: str, deadline: Deadline) -> str:
        def begin() -> str:
            self.side.writes = set(json.loads(archive.read()))
            self.side.import_done_at = self.world.now + self.side.job_seconds
            return "import"

        return str(self._call("import", begin))

    def import_status(self, import_id: str, deadline: Deadline) -> Status:
        def ask() -> Status:
            done = self.world.now >= (self.side.import_done_at or 0)
            return Status(State.DONE if done else State.RUNNING)

        status = self._call("import status", ask)
        assert isinstance(status, Status)
        return status


class ModelRouter:
    """The router's table; a switch holds for what comes after it."""

    name = "model"

    def __init__(self, world: World) -> None:
        self.world = world

    def observe(self, service: str) -> Route:
        route = self.world.call("router observe", lambda: Route(service, (self.world.routed,)))
        assert isinstance(route, Route)
        return route

    def switch(self, service: str, urls: Sequence[str]) -> None:
        def register() -> None:
            (self.world.routed,) = urls

        self.world.call("router switch", register)

    def remove(self, service: str) -> None:
        raise RouterError("a service is never removed here")

    def in_flight(self, service: str) -> int | None:
        count = self.world.call(
            "router in_flight",
            lambda: sum(
                len(side.under_way) for side in self.world.sides if side.url != self.world.routed
            ),
        )
        return int(count)

    def entrance(self, service: str) -> str:
        return "http://router.test"


class ModelProof:
    """The proof through the router; ``fails`` makes it fail as a broken candidate would."""

    def __init__(self, world: World, fails: bool = False) -> None:
        self.world = world
        self.fails = fails

    def run(self, watch: Callable[[], object] = lambda: None) -> None:
        def ask() -> None:
            if self.fails:
                raise PortalError("the candidate is broken")

        self.world.call("prove", ask)
