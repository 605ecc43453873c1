# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The import of an archive into a portal as a change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..change import OnUndo, Step
from ..deadline import Deadline
from ..errors import DeliveryError, Interrupted
from .client import LOCK_SECONDS, PortalClient, Refused
from .jobs import Lock, Patience, await_job, sha256_of, take_lock, without_conflict
from .plan import ImportWanted, plan_import

UNDER_WAY = "The portal may go on importing all the same."


class SourceError(DeliveryError):
    """The archive cannot be read, or is not the one that is meant."""


@dataclass
class Imported:
    """What an import did: filled in as the steps go."""

    size: int
    sha256: str
    import_id: str = ""
    message: str = ""
    lock: Lock | None = None


class ImportChange:
    """Import one file into one portal.

    :param expected_sha256: where it is given, the file must have it.
    """

    def __init__(
        self,
        client: PortalClient,
        wanted: ImportWanted,
        patience: Patience,
        *,
        expected_sha256: str = "",
        lock_seconds: float = LOCK_SECONDS,
        check_key: bool = False,
    ) -> None:
        self.client = client
        self.wanted = wanted
        self.patience = patience
        self.expected_sha256 = expected_sha256.strip().lower()
        self.lock_seconds = lock_seconds
        self.check_key = check_key
        self.deadline = Deadline(patience.timeout)
        self.src = Path(wanted.src)
        self.imported = Imported(0, "")

    def take_over(self, size: int, sha256: str) -> None:
        """Import a file that was hashed as it was written, without reading it once more."""
        self.imported = Imported(size, sha256)

    def observe(self) -> Imported:
        """Read and hash the archive.

        :raises SourceError: it is missing, empty, unreadable, or has another hash.
        """
        try:
            if not self.src.is_file():
                raise SourceError(f"src is not a file: {self.src}")
            size = self.src.stat().st_size
            digest = sha256_of(self.src) if size else ""
        except OSError as error:
            raise SourceError(f"cannot read {self.src}: {error.strerror or error}") from error
        if not size:
            raise SourceError(f"src is empty: {self.src}")
        if self.expected_sha256 and digest != self.expected_sha256:
            raise SourceError(
                f"{self.src} has SHA-256 {digest}, not {self.expected_sha256[:80]}",
                state="Nothing was sent.",
                next_step="The file was changed or cut off after it was exported; export again.",
            )
        if self.check_key:
            self.client.check_key(self.deadline)
        self.imported = Imported(size, digest)
        return Imported(size, digest)

    def plan(self, observed: Imported) -> Sequence[Step]:
        """Return the steps; an import always has all of them."""
        return plan_import(self.wanted)

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step."""
        getattr(self, f"_{step.action}")(on_undo)

    def _begin(self, on_undo: OnUndo) -> None:
        def upload() -> str:
            # The portal compares the hash with what it received, so a file that changes after it
            # was hashed is refused there.
            with self.src.open("rb") as source:
                return self.client.begin_import(source, self.imported.sha256, self.deadline)

        try:
            self.imported.import_id = without_conflict(
                upload, self.patience, self.deadline, "the other import to end"
            )
        except Interrupted as error:
            error.with_state(UNDER_WAY)
            raise

    def _await(self, on_undo: OnUndo) -> None:
        import_id = self.imported.import_id
        try:
            self.imported.message = await_job(
                lambda: self.client.import_status(import_id, self.deadline),
                self.client,
                self.patience,
                self.deadline,
                "import",
            ).message
        except Refused:
            raise
        except DeliveryError as error:
            error.with_state(UNDER_WAY)
            raise

    def _lock(self, on_undo: OnUndo) -> None:
        try:
            self.imported.lock = take_lock(
                self.client, self.patience, self.deadline, on_undo, self.lock_seconds
            )
        except DeliveryError as error:
            error.with_state("The data itself has been imported.")
            raise

    def verify(self, observed: Imported, applied: Sequence[Step]) -> Imported:
        """Return what was done: the job was awaited until the portal said so."""
        return self.imported

    def describe(self, observed: Imported) -> str:
        """Show what the portal has been given."""
        if not observed.import_id:
            return ""
        return f"{self.client.name}: the data of {self.src} (SHA-256 {observed.sha256})\n"

    def expected(self, observed: Imported, steps: Sequence[Step]) -> str:
        """Show what the portal will be given."""
        return f"{self.client.name}: the data of {self.src} (SHA-256 {observed.sha256})\n"
