# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.errors import (
    DeliveryError,
    Interrupted,
    TimeoutExceeded,
)
from ansible_collections.immutable.delivery.plugins.module_utils.http import TooSlow
from ansible_collections.immutable.delivery.plugins.module_utils.portal import jobs
from ansible_collections.immutable.delivery.plugins.module_utils.portal.client import (
    Cancelled,
    Conflict,
    Lapsed,
    PortalError,
    Refused,
    State,
    Status,
)
from ansible_collections.immutable.delivery.plugins.module_utils.portal.jobs import (
    Lock,
    Patience,
    await_job,
    release,
    sha256_of,
    take_lock,
    without_conflict,
)
from ansible_collections.immutable.delivery.plugins.module_utils.signals import signals_as_errors

from ..clock import FakeDeadline
from .scripted import ScriptedPortalClient

RUNNING, DONE = Status(State.RUNNING), Status(State.DONE, "ready")
SCHEDULED, GONE, UNKNOWN = Cancelled.SCHEDULED, Cancelled.DONE, Cancelled.UNKNOWN
NAME = "the portal at http://portal.test"


class Undos:
    """Takes the undo of a step, as the runner would."""

    def __init__(self) -> None:
        self.noted: list[tuple[Callable[[], object], str]] = []

    def __call__(self, undo: Callable[[], object], state: str = "") -> None:
        self.noted.append((undo, state))


@pytest.fixture(autouse=True)
def release_deadlines(monkeypatch: pytest.MonkeyPatch) -> list[FakeDeadline]:
    """Give the releasing of locks a fake clock; returns the deadlines that were made."""
    made: list[FakeDeadline] = []

    def make(seconds: float) -> FakeDeadline:
        made.append(FakeDeadline(seconds))
        return made[-1]

    monkeypatch.setattr(jobs, "Deadline", make)
    return made


def a_lock() -> Lock:
    return Lock("abc", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


@given(st.floats(0, 60))
def test_a_job_is_looked_at_soon_and_then_politely(interval: float) -> None:
    waits = list(islice(Patience(poll_interval=interval).pace().waits(), 12))
    assert waits[0] <= 0.5
    # 25 calls a minute are allowed; one starts the job, one fetches it, one ends it.
    assert sum(waits[:12]) >= 0.25 + 0.5 + 1 + 9 * 2
    assert waits[-1] == max(2, interval)


@pytest.mark.parametrize(
    ("held", "expires_at"), [(True, "2026-01-02T03:04:05.000+00:00"), (False, "")]
)
def test_a_lock_is_returned_as_plain_data(held: bool, expires_at: str) -> None:
    lock = a_lock()
    lock.held = held
    assert lock.result() == {"held": held, "export_id": "abc", "expires_at": expires_at}


def test_a_lock_lapses_at_the_earliest_counted_from_before_the_call() -> None:
    client = ScriptedPortalClient(begin_export=["abc"])
    before = datetime.now(UTC)
    lock = take_lock(client, Patience(), FakeDeadline(60), Undos(), 30)
    assert before <= lock.expires_at - timedelta(seconds=30) <= datetime.now(UTC)
    assert (lock.export_id, lock.held) == ("abc", True)


def test_a_lock_that_was_taken_is_given_back_on_undo_and_only_once() -> None:
    client = ScriptedPortalClient(begin_export=["abc"], cancel_export=[GONE])
    undos = Undos()
    lock = take_lock(client, Patience(), FakeDeadline(60), undos)
    [(undo, stands)] = undos.noted
    assert stands == "The lock is given back"
    undo()
    undo()
    assert client.calls == ["begin_export", "cancel_export"]
    assert not lock.held


def test_a_signal_while_a_lock_is_taken_waits_until_its_undo_is_noted() -> None:
    class Signalled(ScriptedPortalClient):
        def begin_export(self, deadline: object) -> str:
            os.kill(os.getpid(), signal.SIGTERM)
            return "abc"

    undos = Undos()
    with signals_as_errors(), pytest.raises(Interrupted):
        take_lock(Signalled(), Patience(), FakeDeadline(60), undos)
    assert [stands for _undo, stands in undos.noted] == ["The lock is given back"]


def test_a_lock_time_that_no_clock_has_starts_nothing() -> None:
    client = ScriptedPortalClient(begin_export=["abc"])
    with pytest.raises(OverflowError):
        take_lock(client, Patience(), FakeDeadline(60), Undos(), 1e300)
    assert client.calls == []


def test_a_conflict_fails_at_once_by_default() -> None:
    client = ScriptedPortalClient(begin_export=[Conflict("busy")])
    deadline = FakeDeadline(300)
    with pytest.raises(Conflict):
        take_lock(client, Patience(), deadline, Undos())
    assert deadline.slept == []


def test_a_conflict_is_waited_out_politely() -> None:
    client = ScriptedPortalClient(begin_export=[Conflict("a"), Conflict("b"), Conflict("c"), "abc"])
    deadline = FakeDeadline(300)
    lock = take_lock(client, Patience(conflict_timeout=60), deadline, Undos())
    assert lock.export_id == "abc"
    assert len(deadline.slept) == 3
    assert all(2 <= wait <= 2.4 for wait in deadline.slept)


def test_a_conflict_that_stays_is_told_with_how_long_it_was_waited_out() -> None:
    client = ScriptedPortalClient(begin_export=[Conflict("busy", next_step="Wait.")])
    deadline = FakeDeadline(300)
    with pytest.raises(Conflict) as raised:
        take_lock(client, Patience(conflict_timeout=30), deadline, Undos())
    assert str(raised.value) == "busy, still after 30 s. Wait."
    assert deadline.elapsed == pytest.approx(30)


def test_a_conflict_never_outlasts_the_task() -> None:
    client = ScriptedPortalClient(begin_export=[Conflict("busy")])
    deadline = FakeDeadline(10)
    with pytest.raises(Conflict, match="busy, still after 10 s"):
        take_lock(client, Patience(conflict_timeout=90), deadline, Undos())
    assert deadline.elapsed == pytest.approx(10)


@pytest.mark.parametrize("other", [PortalError("gone"), TooSlow("gone", state="Locked?")])
def test_another_failure_ends_the_waiting_for_a_conflict(other: DeliveryError) -> None:
    answers = iter([Conflict("busy"), other])

    def attempt() -> str:
        raise next(answers)

    with pytest.raises(type(other), match="gone"):
        without_conflict(attempt, Patience(conflict_timeout=30), FakeDeadline(60), "it to end")


@pytest.mark.parametrize("answer", [GONE, UNKNOWN])
def test_a_lock_that_is_gone_is_given_back(
    answer: Cancelled, release_deadlines: list[FakeDeadline]
) -> None:
    client = ScriptedPortalClient(cancel_export=[answer])
    lock = a_lock()
    release(client, lock)
    assert not lock.held
    assert release_deadlines[0].slept == []


@pytest.mark.parametrize("last", [GONE, UNKNOWN])
def test_a_scheduled_cancellation_is_followed_to_its_end(
    last: Cancelled, release_deadlines: list[FakeDeadline]
) -> None:
    client = ScriptedPortalClient(cancel_export=[SCHEDULED, SCHEDULED, SCHEDULED, last])
    lock = a_lock()
    release(client, lock)
    assert not lock.held
    assert len(client.calls) == 4
    assert release_deadlines[0].slept[0] == 0.5


def test_a_cancellation_that_never_comes_leaves_the_lock_and_says_so() -> None:
    client = ScriptedPortalClient(cancel_export=[SCHEDULED])
    lock = a_lock()
    with pytest.raises(TimeoutExceeded) as raised:
        release(client, lock)
    assert lock.held
    assert str(raised.value) == (
        "gave up waiting for the export to be cancelled after 90 s. "
        f"{NAME} may stay read-only until its lock lapses, "
        "at 2026-01-02T03:04:05+00:00 at the earliest."
    )
    assert len(client.calls) < 60


def test_a_lock_that_cannot_be_given_back_is_told() -> None:
    client = ScriptedPortalClient(cancel_export=[PortalError("no route")])
    lock = a_lock()
    with pytest.raises(PortalError, match="no route") as raised:
        release(client, lock)
    assert "may stay read-only until its lock lapses" in raised.value.state
    assert lock.held


def job(*statuses: Status, kind: str = "export", timeout: float = 60) -> Status:
    client = ScriptedPortalClient(export_status=list(statuses))
    deadline = FakeDeadline(timeout)
    return await_job(
        lambda: client.export_status("abc", deadline), client, Patience(), deadline, kind
    )


def test_a_job_is_awaited_until_it_is_done() -> None:
    assert job(RUNNING, RUNNING, RUNNING, DONE) == DONE


@pytest.mark.parametrize(
    ("status", "kind", "error", "told"),
    [
        (
            Status(State.FAILED, "no plan basic"),
            "import",
            Refused,
            f"{NAME} failed the import: no plan basic",
        ),
        (Status(State.FAILED), "export", Refused, f"{NAME} failed the export: it gave no reason"),
        (
            Status(State.CANCELLED),
            "export",
            PortalError,
            f"the export at {NAME} was cancelled by somebody else",
        ),
        (
            Status(State.UNKNOWN),
            "export",
            Lapsed,
            f"{NAME} no longer knows the export: its lock lapsed before the archive was made",
        ),
        (Status(State.UNKNOWN), "import", PortalError, f"{NAME} no longer knows the import"),
    ],
)
def test_a_job_that_fails_is_told(
    status: Status, kind: str, error: type[DeliveryError], told: str
) -> None:
    with pytest.raises(error) as raised:
        job(RUNNING, status, kind=kind)
    assert raised.value.message == told


def test_a_job_that_takes_too_long_is_given_up() -> None:
    with pytest.raises(TimeoutExceeded) as raised:
        job(RUNNING, timeout=20)
    assert str(raised.value) == (
        f"gave up waiting for {NAME} to finish the export after 20 s; "
        "last seen: still processing. Give a longer timeout."
    )


@given(st.binary(max_size=3000), st.integers(1, 5000))
def test_the_hash_of_a_file_is_that_of_its_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, times: int
) -> None:
    file = Path(tmp_path_factory.getbasetemp()) / "hashed"
    file.write_bytes(data * times)
    assert sha256_of(file) == hashlib.sha256(data * times).hexdigest()
