# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports and imports as state machines; no HTTP here."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import swap
from archive import BadArchive, Packed, pack, unpack
from crypto import new_id
from faults import Faults
from index import Abandoned, Cancelled, Index
from sanity import Insane
from store import Store

Log = Callable[[str], None]
REMEMBERED_IMPORTS = 50


class Conflict(Exception):
    """Another export or import is in the way; the message says which."""


class State(IntEnum):
    """The numbers of a status body."""

    NO = 0
    PROCESSING = 1
    DONE = 2
    FAILED = 3
    CANCELLED = 4


@dataclass
class Timing:
    """Seconds: how long the lock holds from the POST on, and how much is added to each work."""

    lock: float = 60
    export_delay: float = 0
    import_delay: float = 0
    webhook_delay: float = 0


@dataclass
class Job:
    """One export or import."""

    id: str = field(default_factory=new_id)
    state: State = State.PROCESSING
    message: str = "Processing"
    packed: Packed | None = None
    cancels_to_delay: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    stop_waiting: asyncio.Event = field(default_factory=asyncio.Event)
    lapse: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """Ask the work to end soon; harmless where it has ended."""
        self.stop.set()
        self.stop_waiting.set()

    async def wait(self, seconds: float | None) -> None:
        """Pass the time (None: for ever). Raises Abandoned as soon as the job is cancelled."""
        if seconds != 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop_waiting.wait(), seconds)
        if self.stop.is_set():
            raise Abandoned

    def end(self, state: State, message: str) -> None:
        self.state, self.message = state, message


class Deployments:
    """The one export and the one import there can be, and the lock they hold on the store."""

    def __init__(
        self,
        store: Store,
        *,
        key: str,
        digest: str,
        timing: Timing,
        faults: Faults,
        log: Log,
    ) -> None:
        self.store = store
        self.timing = timing
        self.faults = faults
        self.export: Job | None = None
        self.imports: dict[str, Job] = {}
        self.receiving = False
        self._key = key
        self._digest = digest
        self._log = log
        # The loop itself keeps only weak references to its tasks.
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def temporary(self) -> Path:
        return self.store.root / swap.TEMPORARY

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def busy(self) -> str | None:
        """Why neither an export nor an import can begin, or None."""
        if self.export is not None and self.export.state is not State.CANCELLED:
            return "An export holds the lock: cancel it, or wait until it lapses."
        if self.receiving or any(job.state is State.PROCESSING for job in self.imports.values()):
            return "An import is running."
        return None

    # -- export -------------------------------------------------------------------------------

    def begin_export(self) -> Job:
        """Lock the store and start packing. Raises Conflict, and OSError where locking fails."""
        if (reason := self.busy()) is not None:
            raise Conflict(reason)
        self._forget_cancelled()
        job = Job(cancels_to_delay=self.faults.cancel_slow)
        self.store.lock("an export is under way")
        self.export = job
        loop = asyncio.get_running_loop()
        job.lapse = loop.call_later(self.timing.lock, self._lapse, job)
        self._start(self._export(job))
        self._log(f"export {job.id} began; read-only for at most {self.timing.lock:g} s")
        return job

    async def _export(self, job: Job) -> None:
        target = self.temporary / f"export_{job.id}.tgz.enc"
        try:
            await self.store.flush(job.stop.is_set)
            packed = await asyncio.to_thread(
                pack, self.store.root, target, self._key, self._digest, job.stop.is_set
            )
            await job.wait(None if self.faults.export_never_done else self.timing.export_delay)
            if self.faults.export_fails:
                raise OSError(0, "this failure was asked for")
            job.packed = packed
            job.end(State.DONE, "Done")
            self._log(f"export {job.id} is done: {packed.size} bytes")
        except Abandoned:
            job.end(State.CANCELLED, "Cancelled")
            self._unlock(job, "cancelled")
        except OSError as exc:
            job.end(State.FAILED, f"The export failed: {exc.strerror}.")
            self._log(f"export {job.id} failed: {exc.strerror}")
        except Exception as exc:
            job.end(State.FAILED, "The export failed: see the portal's log.")
            self._log(f"export {job.id} failed: {exc!r}")
        finally:
            if job.state is not State.DONE:
                target.unlink(missing_ok=True)

    def _unlock(self, job: Job, why: str) -> None:
        """Lift the lock, if it is still the one of this export."""
        if self.export is job and self.store.lock_reason is not None:
            self.store.unlock()
            self._log(f"export {job.id} {why}; writes are accepted again")

    def cancel_export(self, job: Job) -> bool:
        """True: the lock is lifted and the id forgotten. False: it ends soon, so ask again."""
        if job.cancels_to_delay > 0:
            job.cancels_to_delay -= 1
            return False
        if job.state is State.PROCESSING:
            job.cancel()
            return False
        self._forget(job, "cancelled")
        return True

    def _lapse(self, job: Job) -> None:
        self._forget(job, "lapsed")

    def lapse_now(self) -> None:
        """What the end of the lock seconds does, at once."""
        if self.export is not None:
            self._lapse(self.export)

    def _forget_cancelled(self) -> None:
        """A cancelled export that nobody asked about again is not in the way of the next job."""
        if self.export is not None:
            self._forget(self.export, "cancelled")

    def _forget(self, job: Job, why: str) -> None:
        if self.export is not job:
            return
        self._unlock(job, why)
        self.export = None
        job.cancel()
        if job.lapse is not None:
            job.lapse.cancel()
        if job.packed is not None:
            job.packed.path.unlink(missing_ok=True)

    # -- import -------------------------------------------------------------------------------

    def begin_import(self, source: Path) -> Job:
        """Lock the store and start replacing its data by source, which is deleted in the end."""
        self._forget_cancelled()
        job = Job()
        self.store.lock("an import is under way")
        while len(self.imports) >= REMEMBERED_IMPORTS:
            del self.imports[next(iter(self.imports))]
        self.imports[job.id] = job
        self._start(self._import(job, source))
        self._log(f"import {job.id} began")
        return job

    async def _import(self, job: Job, source: Path) -> None:
        staging = self.temporary / f"staging-{job.id}"
        try:
            await job.wait(self.timing.import_delay)
            index = await asyncio.to_thread(self._stage, source, staging, job.stop.is_set)
            if self.faults.import_fails:
                raise BadArchive("this failure was asked for")
            if job.stop.is_set():
                raise Abandoned
            await self.store.replace(staging, index)
            counts = ", ".join(f"{count} {kind}" for kind, count in index.counts().items())
            await self._webhooks(job)
            job.end(State.DONE, f"Imported {counts}.")
        except Abandoned:
            job.end(State.CANCELLED, "Cancelled")
        except BadArchive as exc:
            job.end(State.FAILED, f"The archive is refused: {exc}. The earlier data is in place.")
        except Insane as exc:
            job.end(
                State.FAILED,
                f"The data does not pass the sanity check: {exc}. The earlier data is in place.",
            )
        except OSError as exc:
            job.end(State.FAILED, f"The import failed: {exc.strerror}.")
        except Exception as exc:
            # A job that ends without a state would be asked about for ever.
            job.end(State.FAILED, "The import failed: see the portal's log.")
            self._log(f"import {job.id} failed: {exc!r}")
        finally:
            self.store.unlock()
            self._log(f"import {job.id}: {job.message}")
            await asyncio.to_thread(self._clean, source, staging)

    async def _webhooks(self, job: Job) -> None:
        """The new data stands; but it is `done` only when the listeners have taken it over."""
        try:
            await job.wait(self.timing.webhook_delay)
        except Abandoned:
            return

    def _stage(self, source: Path, staging: Path, cancelled: Cancelled) -> Index:
        unpack(source, staging, self._key, cancelled)
        return self.store.load_checked(staging, cancelled)

    def _clean(self, source: Path, staging: Path) -> None:
        source.unlink(missing_ok=True)
        shutil.rmtree(staging, ignore_errors=True)
        swap.discard_old(self.store.root)

    # -- the end ------------------------------------------------------------------------------

    async def close(self) -> None:
        """End all work; data that was not replaced yet stays."""
        for job in self.imports.values():
            job.cancel()
        self.lapse_now()
        if self._tasks:
            await asyncio.wait(self._tasks)
