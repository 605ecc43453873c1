# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.change import Outcome, run
from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.portal.client import (
    Cancelled,
    Lapsed,
    PortalError,
    State,
    Status,
)
from ansible_collections.immutable.delivery.plugins.module_utils.portal.locking import LockChange
from ansible_collections.immutable.delivery.plugins.module_utils.portal.plan import LockObserved

from .scripted import ScriptedPortalClient

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAME = "the portal at http://portal.test"


def change(
    state: str,
    seen: State,
    *,
    remaining: float | None = None,
    min_remaining: float = 0,
    cancelled: Cancelled | DeliveryError = Cancelled.DONE,
) -> LockChange:
    return LockChange(
        ScriptedPortalClient(export_status=[Status(seen)], cancel_export=[cancelled]),
        "abc",
        state,
        expires_at=None if remaining is None else NOW + timedelta(seconds=remaining),
        min_remaining=min_remaining,
        now=lambda: NOW,
    )


def calls(lock_change: LockChange) -> list[str]:
    assert isinstance(lock_change.client, ScriptedPortalClient)
    return lock_change.client.calls


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("seen", [State.RUNNING, State.DONE])
@pytest.mark.parametrize("remaining", [None, 12.5])
def test_a_held_lock_is_only_looked_at(
    check_mode: bool, seen: State, remaining: float | None
) -> None:
    held = change("held", seen, remaining=remaining, min_remaining=5)
    outcome: Outcome[LockObserved] = run(held, check_mode=check_mode)
    assert outcome.after == LockObserved(True, remaining)
    assert not outcome.changed
    assert outcome.diff["before"] == outcome.diff["after"] == f"{NAME}: read-only\n"
    assert calls(held) == ["export_status"]


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("seen", [State.UNKNOWN, State.CANCELLED, State.FAILED])
def test_a_lock_that_lapsed_is_a_failure(check_mode: bool, seen: State) -> None:
    held = change("held", seen, remaining=30)
    with pytest.raises(Lapsed) as raised:
        run(held, check_mode=check_mode)
    assert str(raised.value) == (
        f"{NAME}: the lock has lapsed, so the portal may have taken writes since the export. "
        "Nothing was changed. Export again, and switch while the new lock is held."
    )
    assert raised.value.kind == "lapsed"
    assert calls(held) == ["export_status"]


@pytest.mark.parametrize("remaining", [-10, 0, 4.9])
def test_a_lock_that_lapses_too_soon_is_a_failure(remaining: float) -> None:
    with pytest.raises(Lapsed, match=r"lapses in \d\.\d s, and 5\.0 s are wanted"):
        run(change("held", State.DONE, remaining=remaining, min_remaining=5))


@pytest.mark.parametrize("seen", [State.RUNNING, State.DONE])
def test_a_lock_is_given_back(seen: State) -> None:
    released = change("released", seen)
    outcome = run(released)
    assert outcome.changed
    assert outcome.after == LockObserved(False)
    assert outcome.diff == {
        "before": f"{NAME}: read-only\n",
        "after": f"{NAME}: not locked by this export\n",
    }
    assert calls(released) == ["export_status", "cancel_export"]


def test_check_mode_tells_that_a_lock_would_be_given_back() -> None:
    released = change("released", State.DONE)
    outcome = run(released, check_mode=True)
    assert outcome.changed
    assert outcome.diff["after"] == f"{NAME}: not locked by this export\n"
    assert calls(released) == ["export_status"]


@pytest.mark.parametrize("seen", [State.UNKNOWN, State.CANCELLED, State.FAILED])
def test_a_lock_that_lapsed_is_as_good_as_given_back(seen: State) -> None:
    released = change("released", seen)
    assert not run(released).changed
    assert calls(released) == ["export_status"]


def test_a_lock_that_cannot_be_given_back_is_a_failure() -> None:
    released = change("released", State.DONE, remaining=30, cancelled=PortalError("no route"))
    with pytest.raises(PortalError) as raised:
        run(released)
    assert str(raised.value) == (
        f"no route. {NAME} may stay read-only until its lock lapses, "
        "at 2026-01-02T03:04:35+00:00 at the earliest."
    )
