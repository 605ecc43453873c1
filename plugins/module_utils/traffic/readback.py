# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads back every write that was acknowledged, and tells which are gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .client import Client, NoAnswer, address
from .load import Identity
from .settings import Settings, Writes
from .wire import Answer, request_bytes

AT_ONCE = 32
ROUNDS = 4
ROUND_WAIT = 0.5
LOST_IDS = 20

FINE = "fine"
LOST = "lost"
UNCHECKED = "unchecked"


@dataclass(frozen=True)
class Written:
    """An acknowledged write: its number in the run, and the identity that it was given."""

    number: int
    identity: Identity


@dataclass
class ReadBack:
    """How many writes were found again. ``unchecked`` could not be read, which says nothing."""

    checked: int = 0
    lost: list[Identity] = field(default_factory=list)
    unchecked: int = 0

    def as_result(self) -> dict[str, Any]:
        """Return the part of the report's ``writes`` that this is."""
        return {
            "checked": self.checked,
            "lost": len(self.lost),
            "lost_ids": self.lost[:LOST_IDS],
            "unchecked": self.unchecked,
        }


def compare(answer: Answer, sent: dict[str, Any], fields: Sequence[str]) -> str:
    """Return whether *answer* shows what was sent: ``fine``, ``lost`` or ``unchecked``.

    Not to be found (404, 410) and other content are lost. Anything that is not the service's word
    on the matter (an error, a web page) leaves the write unchecked.
    """
    if answer.status in (404, 410):
        return LOST
    if not 200 <= answer.status < 300:
        return UNCHECKED
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return UNCHECKED
    if not isinstance(document, dict):
        return UNCHECKED
    same = all(name in document and document[name] == sent[name] for name in fields or sent)
    return FINE if same else LOST


class _Reader:
    """Reads one round after the other; what could not be read waits for the next."""

    def __init__(self, settings: Settings, writes: Writes, run: str, end: float) -> None:
        self._where = address(
            settings.url, settings.host_header, settings.validate_certs, settings.ca_path
        )
        self._client = Client(self._where, AT_ONCE)
        self._timeout = settings.timeout
        self._writes = writes
        self._run = run
        self._end = end
        self.result = ReadBack()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    async def round(self, waiting: list[Written]) -> list[Written]:
        """Try each of *waiting* once; return those that could not be read."""
        again: list[Written] = []
        left = iter(waiting)

        async def worker() -> None:
            for write in left:
                found = await self._look(write)
                if found == UNCHECKED:
                    again.append(write)
                    continue
                self.result.checked += 1
                if found == LOST:
                    self.result.lost.append(write.identity)

        await asyncio.gather(*(worker() for _turn in range(AT_ONCE)))
        return again

    async def _look(self, write: Written) -> str:
        now = asyncio.get_running_loop().time()
        if now >= self._end:
            return UNCHECKED
        target = self._where.prefix + self._writes.path_of(write.identity)
        request = request_bytes("GET", target, self._where.host)
        try:
            answer = await self._client.send(request, min(self._end, now + self._timeout))
        except NoAnswer:
            return UNCHECKED
        sent = self._writes.body_of(self._run, write.number)
        return compare(answer, sent, self._writes.compare_fields)


async def read_back(
    settings: Settings, run: str, written: Iterable[Written], seconds: float
) -> ReadBack:
    """Read *written* back, several at once, and again where reading failed.

    :param seconds: after these, what has not been read is counted as unchecked.
    """
    waiting = list(written)
    if settings.writes is None or not waiting:
        return ReadBack(unchecked=len(waiting))
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    reader = _Reader(settings, settings.writes, run, end)
    try:
        for turn in range(ROUNDS):
            if turn:
                await asyncio.sleep(min(ROUND_WAIT, max(0.0, end - loop.time())))
            waiting = await reader.round(waiting)
            if not waiting or loop.time() >= end:
                break
    finally:
        reader.close()
    reader.result.unchecked = len(waiting)
    return reader.result
