# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.portal.plan import (
    ExportWanted,
    ImportWanted,
    LockObserved,
    lock_shortcoming,
    plan_export,
    plan_import,
    plan_release,
)


@pytest.mark.parametrize(
    ("wanted", "actions"),
    [
        (
            ExportWanted("/b/p.enc", keep_lock=False, verify=True),
            ["begin", "await", "download", "release", "verify", "place"],
        ),
        (
            ExportWanted("/b/p.enc", keep_lock=True, verify=True),
            ["begin", "await", "download", "verify", "place"],
        ),
        (
            ExportWanted("/b/p.enc", keep_lock=False, verify=False),
            ["begin", "await", "download", "release", "place"],
        ),
        (
            ExportWanted("/b/p.enc", keep_lock=True, verify=False),
            ["begin", "await", "download", "place"],
        ),
        (
            ExportWanted("/b/p.enc", keep_lock=True, verify=True, compare_with="/b/old.enc"),
            ["begin", "await", "download", "verify", "compare", "place"],
        ),
    ],
)
def test_an_export_proves_the_archive_before_it_is_placed(
    wanted: ExportWanted, actions: list[str]
) -> None:
    steps = plan_export(wanted)
    assert [step.action for step in steps] == actions
    assert steps[-1].summary == "put the archive at /b/p.enc"


@given(dest=st.text(min_size=1), keep=st.booleans(), verify=st.booleans(), compare_with=st.text())
def test_whatever_is_wanted_users_wait_for_no_proof(
    dest: str, keep: bool, verify: bool, compare_with: str
) -> None:
    actions = [step.action for step in plan_export(ExportWanted(dest, keep, verify, compare_with))]
    assert actions[:3] == ["begin", "await", "download"]
    assert actions[-1] == "place"
    assert ("release" in actions) is not keep
    if not keep:
        assert actions[3] == "release"
    assert ("verify" in actions) is verify
    assert ("compare" in actions) is bool(compare_with)


def test_an_import_takes_a_lock_only_where_it_is_asked_for() -> None:
    steps = plan_import(ImportWanted("/b/p.enc", keep_lock=False))
    assert [step.action for step in steps] == ["begin", "await"]
    assert steps[0].summary == "upload /b/p.enc"
    steps = plan_import(ImportWanted("/b/p.enc", keep_lock=True))
    assert [step.action for step in steps] == ["begin", "await", "lock"]


def test_only_a_lock_that_is_held_is_given_back() -> None:
    assert [step.action for step in plan_release(LockObserved(True))] == ["release"]
    assert plan_release(LockObserved(False, 30)) == []


@pytest.mark.parametrize(
    ("observed", "min_remaining", "told"),
    [
        (LockObserved(True), 0, ""),
        (LockObserved(True), 50, ""),
        (LockObserved(True, 5), 5, ""),
        (LockObserved(True, 5), 4, ""),
        (LockObserved(True, 4.94), 5, "the lock lapses in 4.9 s, and 5.0 s are wanted"),
        (LockObserved(True, -3), 0, "the lock lapses in 0.0 s, and 0.0 s are wanted"),
        (
            LockObserved(False),
            0,
            "the lock has lapsed, so the portal may have taken writes since the export",
        ),
        (
            LockObserved(False, 30),
            0,
            "the lock has lapsed, so the portal may have taken writes since the export",
        ),
    ],
)
def test_a_lock_must_be_held_for_long_enough(
    observed: LockObserved, min_remaining: float, told: str
) -> None:
    assert lock_shortcoming(observed, min_remaining) == told


@given(
    held=st.booleans(),
    remaining=st.none() | st.floats(-100, 100),
    less=st.floats(0, 60),
    more=st.floats(0, 60),
)
def test_who_needs_less_time_is_never_refused_where_more_would_do(
    held: bool, remaining: float | None, less: float, more: float
) -> None:
    less, more = sorted((less, more))
    observed = LockObserved(held, remaining)
    if not lock_shortcoming(observed, more):
        assert held
        assert not lock_shortcoming(observed, less)
