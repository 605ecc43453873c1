# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starting and ending the probe, and making its report: what the module does."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..change import OnUndo, Step
from ..deadline import Deadline, Pace, wait_for
from ..errors import DeliveryError, TimeoutExceeded, enumerate_words
from ..identity import alive
from ..signals import uninterrupted
from .client import Client, NoAnswer, address
from .daemon import start
from .folder import Folder, Record, send_signal
from .load import judge
from .readback import ReadBack, read_back
from .report import Tally, iso
from .settings import Settings
from .wire import request_bytes

PACE = Pace(interval=0.2, first=0.01)
# Beyond its last request's timeout, the probe needs no more than this to end.
END_SECONDS = 15.0
KILL_SECONDS = 10.0
FRESH_SECONDS = 30.0


@dataclass(frozen=True)
class Observed:
    """The probe as it stands: ``record`` is None where none was started here."""

    record: Record | None
    running: bool

    @property
    def word(self) -> str:
        """The state in a word."""
        if self.record is None:
            return "absent"
        return "running" if self.running else "ended"


def observe(folder: Folder) -> Observed:
    """Return what stands. The process itself is looked at: a record alone proves nothing."""
    folder.check()
    record = folder.record()
    return Observed(record, record is not None and alive(record.process))


@dataclass
class ProbeChange:
    """Bring the probe into *state*: ``started``, ``stopped``, or ``reported`` for as it is.

    :param settings: what to start; only for ``started``.
    """

    folder: Folder
    state: str
    settings: Settings | None = None
    check_first: bool = True

    def observe(self) -> Observed:
        """Read the record and look at the process."""
        return observe(self.folder)

    def plan(self, observed: Observed) -> Sequence[Step]:
        """Return the one step there may be."""
        if self.state == "stopped" and observed.running:
            return [Step("stop", "stop the probe")]
        if self.state != "started" or self.settings is None:
            return []
        if observed.running and observed.record is not None:
            differing = observed.record.settings.differences(self.settings)
            if differing:
                raise DeliveryError(
                    f"a traffic probe with other options ({enumerate_words(differing)}) "
                    f"already runs in {self.folder.path}",
                    state="It goes on as it was started.",
                    next_step="Stop it first, or give this one another dir.",
                )
            return []
        return [Step("start", f"offer {self.settings.rate:g} requests/s to {self.settings.url}")]

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Start or stop the process."""
        if step.action == "stop":
            with self.folder.locked():
                end(observe(self.folder))
        elif self.settings is not None:
            if self.check_first:
                asyncio.run(check_reads(self.settings))
            self.folder.make()
            with self.folder.locked():
                if observe(self.folder).running:
                    raise DeliveryError(
                        f"another task has just started a traffic probe in {self.folder.path}",
                        next_step="Give each probe a folder of its own.",
                    )
                self.folder.clear()
                on_undo(lambda: end(observe(self.folder)), "The traffic probe is stopped")
                with uninterrupted():
                    start(self.folder, self.settings, uuid.uuid4().hex[:12])

    def verify(self, observed: Observed, applied: Sequence[Step]) -> Observed:
        """Look again whether the process runs, or has ended."""
        seen = observe(self.folder)
        # One that has done all it was to do (a short max_seconds) may have ended already.
        if self.state == "stopped" and seen.running:
            raise DeliveryError(f"the traffic probe in {self.folder.path} still runs")
        if self.state == "started" and seen.record is None:
            raise DeliveryError(f"the traffic probe left no record in {self.folder.path}")
        return seen

    def describe(self, observed: Observed) -> str:
        """Show the state for diff mode."""
        shown = f"probe: {observed.word}\n"
        if observed.running and observed.record is not None:
            shown += self._shown(observed.record.settings)
        return shown

    def expected(self, observed: Observed, steps: Sequence[Step]) -> str:
        """Show the planned state for diff mode."""
        if not steps:
            return self.describe(observed)
        if self.settings is None:
            return "probe: ended\n"
        return "probe: running\n" + self._shown(self.settings)

    def _shown(self, settings: Settings) -> str:
        return f"url: {settings.url}\nrate: {settings.rate:g} requests/s\n"


async def check_reads(settings: Settings) -> None:
    """Ask once for each path that is going to be read.

    :raises DeliveryError: one is not answered with 2xx, so that the probe would count nothing but
        its own wrong options.
    """
    where = address(settings.url, settings.host_header, settings.validate_certs, settings.ca_path)
    client = Client(where, 1)
    try:
        for path in settings.reads:
            request = request_bytes("GET", where.prefix + path, where.host)
            deadline = asyncio.get_running_loop().time() + settings.timeout
            try:
                answer = await client.send(request, deadline)
                wrong = f"status {answer.status}" if judge(answer.status) else ""
            except NoAnswer as error:
                wrong = str(error)
            if wrong:
                raise DeliveryError(
                    f"{settings.url}{path} does not answer as it should before any load: {wrong}",
                    state="No probe was started.",
                    next_step="Correct url, host_header or reads, or set check_first to false.",
                )
    finally:
        client.close()


def end(observed: Observed) -> None:
    """End the process and wait until it has ended; one that does not listen is killed."""
    record = observed.record
    if record is None or not observed.running:
        return
    target = record.process

    def gone() -> bool | None:
        return None if alive(target) else True

    send_signal(target, signal.SIGTERM)
    try:
        patience = Deadline(record.settings.timeout + END_SECONDS)
        wait_for(gone, deadline=patience, pace=PACE, what="the traffic probe to end")
    except TimeoutExceeded:
        send_signal(target, signal.SIGKILL)
        wait_for(
            gone, deadline=Deadline(KILL_SECONDS), pace=PACE, what="the killed probe to be gone"
        )


def make_report(
    folder: Folder, observed: Observed, verify_writes: bool, verify_seconds: float
) -> dict[str, Any] | None:
    """Return the report, up to date; None where no probe was started here.

    :param verify_writes: whether to read every acknowledged write back.
    :param verify_seconds: how long that may take; what is left then counts as unchecked.
    :raises DeliveryError: the probe runs but keeps silent, or a file is damaged.
    """
    record = observed.record
    if record is None:
        return None
    report = _fresh(folder, record) if observed.running else folder.stats()
    # It may have ended meanwhile, which the last report then says.
    killed = not alive(record.process) and (report is None or report["ended"] == "running")
    if killed:
        report = folder.stats()
    if report is None:
        report = {**Tally(0.0).report(0.0), "ended": "running", "written": time.time()}
    report["as_of"] = iso(report.pop("written"))
    if killed and report["ended"] == "running":
        report["ended"] = "killed"
        report["ended_because"] = (
            f"its process ended after {report['as_of']} without writing its last numbers"
        )
    written = folder.acknowledged()
    writes = report["writes"]
    if killed or verify_writes:
        # The journal is ahead of the statistics.
        writes["acknowledged"] = max(writes["acknowledged"], len(written))
    found = ReadBack()
    if verify_writes:
        found = asyncio.run(read_back(record.settings, record.run, written, verify_seconds))
    writes.update(found.as_result())
    writes["unchecked"] = writes["acknowledged"] - writes["checked"]
    return report


def _fresh(folder: Folder, record: Record) -> dict[str, Any]:
    """Return statistics that were written after now, or the last ones of a probe that ended."""
    asked = time.time()

    def look() -> dict[str, Any] | None:
        running = alive(record.process)
        stats = folder.stats()
        if stats is not None and (stats["written"] >= asked or not running):
            return stats
        return None

    return wait_for(
        look, deadline=Deadline(FRESH_SECONDS), pace=PACE, what="the traffic probe's numbers"
    )
