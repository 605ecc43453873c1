# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The export of a portal's data as a change: from the lock to a proved archive in its place."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..change import OnUndo, Step
from ..deadline import Deadline
from ..errors import DeliveryError
from ..http import Unreachable
from ..signals import uninterrupted
from . import archive
from .client import HASH_HEADER, LOCK_SECONDS, PortalClient, PortalError
from .jobs import Lock, Patience, await_job, release, take_lock
from .part import Part, make_part, sweep
from .plan import ExportWanted, plan_export

# Bytes after which the disk is told to begin.
WRITE_BEHIND = 32 * 1024 * 1024


class DestError(DeliveryError):
    """The archive cannot be written where it is wanted."""


@dataclass
class Exported:
    """What an export brought: filled in as the steps go."""

    lock: Lock | None = None
    part: Part | None = None
    size: int = 0
    sha256: str = ""
    contents: archive.Contents | None = None
    difference: archive.Difference | None = None


@contextmanager
def _dest_errors(dest: Path) -> Iterator[None]:
    """Name ``dest`` in an error of the file system."""
    try:
        yield
    except OSError as error:
        raise DestError(
            f"cannot write the archive for {dest} or read it back: {error.strerror or error}",
            next_step="Make room or give another dest; an archive that was there is untouched.",
        ) from error


class ExportChange:
    """Export from one portal to one file.

    :param key: the deployment key, with which the archive is encrypted.
    :param check_key: whether to prove the key first, for check mode; otherwise the first call
        proves it, and one call less counts against the portal's limit.
    """

    def __init__(
        self,
        client: PortalClient,
        key: str,
        wanted: ExportWanted,
        patience: Patience,
        *,
        lock_seconds: float = LOCK_SECONDS,
        check_key: bool = False,
    ) -> None:
        self.client = client
        self.key = key
        self.wanted = wanted
        self.patience = patience
        self.lock_seconds = lock_seconds
        self.check_key = check_key
        self.deadline = Deadline(patience.timeout)
        self.dest = Path(wanted.dest)
        self.exported = Exported()

    def observe(self) -> Exported:
        """Make sure that the archive can be written, before any user has to wait for it.

        :raises DestError: ``dest`` is a folder, or its folder is missing or not writable.
        """
        folder = self.dest.parent
        if not folder.is_dir():
            raise DestError(
                f"the folder of dest does not exist: {folder}", next_step="Make it first."
            )
        if self.wanted.compare_with and not Path(self.wanted.compare_with).is_file():
            raise DestError(f"compare_with is not a file: {self.wanted.compare_with}")
        if self.dest.is_dir():
            raise DestError(f"dest is a folder: {self.dest}", next_step="Give a file's path.")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise DestError(
                f"the folder of dest is not writable: {folder}",
                next_step="Give another dest, or run the task as a user who may write there.",
            )
        if self.check_key:
            self.client.check_key(self.deadline)
        return Exported()

    def plan(self, observed: Exported) -> Sequence[Step]:
        """Return the steps; an export always has all of them."""
        return plan_export(self.wanted)

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step."""
        getattr(self, f"_{step.action}")(on_undo)

    def _begin(self, on_undo: OnUndo) -> None:
        try:
            self.exported.lock = take_lock(
                self.client, self.patience, self.deadline, on_undo, self.lock_seconds
            )
        except Unreachable as error:
            # It was never sent, and comes first.
            raise error.with_state(error.usual_state) from error.__cause__

    def _await(self, on_undo: OnUndo) -> None:
        export_id = self._lock.export_id
        await_job(
            lambda: self.client.export_status(export_id, self.deadline),
            self.client,
            self.patience,
            self.deadline,
            "export",
        )

    def _download(self, on_undo: OnUndo) -> None:
        response = self.client.open_data(self._lock.export_id, self.deadline)
        try:
            announced = _length(response.headers.get("Content-Length", ""))
            digest = hashlib.sha256()
            # The chunks' own errors are ConnectionBroken, so an OSError in here is the file's.
            with _dest_errors(self.dest):
                handle = self._open_part(announced, on_undo).file.fileno()
                started = 0
                for chunk in self.client.http.chunks(response, self.deadline):
                    digest.update(chunk)
                    _write_all(handle, chunk)
                    self.exported.size += len(chunk)
                    started = _write_behind(handle, started, self.exported.size)
            if announced is not None and announced != self.exported.size:
                raise PortalError(
                    f"the archive from {self.client.name} was cut off: "
                    f"{self.exported.size} of {announced} bytes came"
                )
            self.exported.sha256 = digest.hexdigest()
            expected = response.headers[HASH_HEADER].strip().lower()
            if self.exported.sha256 != expected:
                raise PortalError(
                    f"the archive from {self.client.name} has SHA-256 {self.exported.sha256}, "
                    f"but its {HASH_HEADER} says {expected[:80]}",
                    next_step="Nothing was kept of it; try again.",
                )
        finally:
            response.close()

    def _open_part(self, announced: int | None, on_undo: OnUndo) -> Part:
        """Make the file beside ``dest`` that the archive is written to; removed on undo."""
        sweep(self.dest.parent)
        if announced is not None:
            _check_room(self.dest, announced)
        with uninterrupted():
            part = self.exported.part = make_part(self.dest)
            on_undo(part.discard, "No partial file is left")
        return part

    def _release(self, on_undo: OnUndo) -> None:
        release(self.client, self._lock)

    def _verify(self, on_undo: OnUndo) -> None:
        with _dest_errors(self.dest), self._part.path.open("rb") as source:
            self.exported.contents = archive.inspect(source, self.key, size=self.exported.size)

    def _compare(self, on_undo: OnUndo) -> None:
        older = self._digests(Path(self.wanted.compare_with))
        self.exported.difference = archive.compare(older, self._digests(self._part.path))

    def _digests(self, path: Path) -> dict[str, str]:
        try:
            with path.open("rb") as source:
                return archive.entity_digests(source, self.key)
        except OSError as error:
            raise DestError(f"cannot read {path}: {error.strerror or error}") from error

    def _place(self, on_undo: OnUndo) -> None:
        with _dest_errors(self.dest):
            # Synced here and not after the download: no user waits for the disk any more.
            self._part.place(self.dest)

    def verify(self, observed: Exported, applied: Sequence[Step]) -> Exported:
        """Make sure that ``dest`` is the file that was downloaded."""
        with _dest_errors(self.dest):
            size = self.dest.stat().st_size
        if size != self.exported.size:
            raise DestError(f"{self.dest} has {size} bytes, {self.exported.size} were downloaded")
        return self.exported

    def describe(self, observed: Exported) -> str:
        """Show what there is of the archive."""
        if not observed.sha256:
            return "" if not self.dest.exists() else f"{self.dest}: an earlier archive\n"
        lines = [f"{self.dest}: {observed.size} bytes, SHA-256 {observed.sha256}"]
        if observed.contents is not None:
            lines += [f"  {kind}: {n}" for kind, n in observed.contents.counts().items()]
        return "\n".join(lines) + "\n"

    def expected(self, observed: Exported, steps: Sequence[Step]) -> str:
        """Show what there will be."""
        return f"{self.dest}: a new archive of {self.client.name}\n"

    @property
    def _lock(self) -> Lock:
        if self.exported.lock is None:
            raise PortalError("an export's step ran before the export was begun")
        return self.exported.lock

    @property
    def _part(self) -> Part:
        if self.exported.part is None:
            raise PortalError("an export's step ran before the archive was downloaded")
        return self.exported.part


def _length(announced: str) -> int | None:
    """Return a Content-Length as a number; None where there is none that can be used."""
    return int(announced) if announced.isascii() and announced.isdigit() else None


def _check_room(dest: Path, size: int) -> None:
    free = shutil.disk_usage(dest.parent).free
    if free < size:
        raise DestError(
            f"no room for the archive at {dest}: it has {size} bytes, {free} are free",
            next_step="Make room or give another dest; an archive that was there is untouched.",
        )


def _write_behind(handle: int, started: int, size: int) -> int:
    """Let the disk begin with what has come; return how far it was told to.

    Otherwise the sync at the end waits for all of it at once.
    """
    if size - started < WRITE_BEHIND:
        return started
    os.posix_fadvise(handle, started, size - started, os.POSIX_FADV_DONTNEED)
    return size


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
