# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The open-loop load generator.

Request k is due k / rate seconds after the first, whatever became of those before it: a server that
stalls is offered no less, and what it does to the requests that came meanwhile is seen. With
``writes``, every second request is a POST; without it, all are GET.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from .client import Client, NoAnswer, address
from .report import ACKNOWLEDGED, FAILED, REFUSED, UNKNOWN, Result, Tally
from .settings import Settings, Writes
from .wire import Answer, request_bytes

# Requests under way at once. One more is not sent but counted as failed, kind "overload": less
# load than asked for is never offered silently.
IN_FLIGHT_LIMIT = 2000

Identity: TypeAlias = "str | int"
OnAcknowledged = Callable[[int, Identity], None]


def identity_of(answer: Answer, field: str) -> Identity | None:
    """Return the identity that *answer* gives to a write, or None where it gives none."""
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    value = document.get(field) if isinstance(document, dict) else None
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        return None
    return value


def judge(status: int) -> str:
    """Return the kind of failure that *status* is; empty for 2xx."""
    if 200 <= status < 300:
        return ""
    return f"status_{status // 100}xx"


@dataclass(frozen=True)
class _Request:
    number: int
    due: float
    method: str
    path: str
    writes: Writes | None = None


class Load:
    """One run of the load.

    :param run: replaces ``{run}`` in the bodies, so that no two runs write the same.
    :param on_acknowledged: told the number and the identity of each acknowledged write, before
        it is counted.
    """

    def __init__(
        self,
        settings: Settings,
        run: str,
        on_acknowledged: OnAcknowledged,
        in_flight_limit: int = IN_FLIGHT_LIMIT,
    ) -> None:
        self.settings = settings
        self.run_id = run
        self._on_acknowledged = on_acknowledged
        self._limit = in_flight_limit
        self._where = address(
            settings.url, settings.host_header, settings.validate_certs, settings.ca_path
        )
        self._client = Client(self._where, settings.connections)
        self._version_header = settings.version_header.lower()
        self._tasks: set[asyncio.Task[None]] = set()
        self._next = 0
        self._offered: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended: asyncio.Future[str] | None = None
        self.tally = Tally(time.time())
        self._zero = 0.0

    async def run(self) -> str:
        """Offer load until :meth:`stop` or ``max_seconds``, then wait for what is under way.

        Returns why it ended: ``stopped`` or ``expired``. What :meth:`stop` was given as an error
        is raised.
        """
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        self._zero = loop.time()
        self.tally.epoch = time.time()
        self._tick()
        try:
            return await self._ended
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._offered = self._now()
            if self._tasks:
                # Each request ends at its own timeout at the latest.
                await asyncio.wait(self._tasks, timeout=self.settings.timeout + 5)
            self._client.close()

    def stop(self, error: Exception | None = None) -> None:
        """Offer no more load."""
        if self._ended is None or self._ended.done():
            return
        if error is None:
            self._ended.set_result("stopped")
        else:
            self._ended.set_exception(error)

    def report(self) -> dict[str, object]:
        """Return the report as of now."""
        return self.tally.report(self._now(), self._offered)

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._zero

    def _tick(self) -> None:
        """Send all that is due, and come back when the next one is."""
        loop = asyncio.get_running_loop()
        if self._ended is None or self._ended.done():
            return
        while True:
            due = self._next / self.settings.rate
            if due >= self.settings.max_seconds:
                # The last request has its whole interval, so that the rate is the one asked for.
                self._timer = loop.call_at(self._zero + self.settings.max_seconds, self._expire)
                return
            if due > self._now():
                break
            self._send(due)
        self._timer = loop.call_at(self._zero + due, self._tick)

    def _expire(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result("expired")

    def _send(self, due: float) -> None:
        reads, writes = self.settings.reads, self.settings.writes
        number = self._next if writes is None else self._next // 2
        if writes is None or self._next % 2 == 0:
            request = _Request(number, due, "GET", reads[number % len(reads)])
        else:
            request = _Request(number, due, "POST", writes.path, writes)
        self._next += 1
        self.tally.offer(self._now() - due)
        if len(self._tasks) >= self._limit:
            self._add(request, "overload", FAILED)
            return
        task = asyncio.get_running_loop().create_task(self._exchange(request))
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.stop(error if isinstance(error, Exception) else RuntimeError(str(error)))

    def _wire(self, request: _Request) -> bytes:
        body: bytes | None = None
        if request.writes is not None:
            body = json.dumps(request.writes.body_of(self.run_id, request.number)).encode()
        target = self._where.prefix + request.path
        return request_bytes(request.method, target, self._where.host, body)

    async def _exchange(self, request: _Request) -> None:
        deadline = self._zero + request.due + self.settings.timeout
        try:
            answer = await self._client.send(self._wire(request), deadline)
        except NoAnswer as error:
            self._add(request, error.kind, UNKNOWN if error.sent else FAILED)
            return
        version = answer.headers.get(self._version_header, "")[:200]
        if request.writes is not None:
            self._judge_write(request, request.writes, answer, version)
        else:
            self._add(request, judge(answer.status), "", version)

    def _judge_write(self, request: _Request, writes: Writes, answer: Answer, version: str) -> None:
        if answer.status in writes.refused_status:
            self._add(request, "", REFUSED, version)
            return
        failure = judge(answer.status)
        if failure:
            self._add(request, failure, FAILED, version)
            return
        identity = identity_of(answer, writes.id_field)
        if identity is None:
            # Something may have been written, but nobody could ever find it again.
            self._add(request, "wrong_body", UNKNOWN, version)
            return
        self._on_acknowledged(request.number, identity)
        self._add(request, "", ACKNOWLEDGED, version)

    def _add(self, request: _Request, failure: str, write: str, version: str = "") -> None:
        self.tally.add(
            Result(
                due=request.due,
                done=self._now(),
                method=request.method,
                path=request.path,
                failure=failure,
                write=write if request.writes is not None else "",
                version=version,
            )
        )
