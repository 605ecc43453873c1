# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of local_process and local_process_prune, as tables and as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.process.plan import (
    Instance,
    Seen,
    Wanted,
    plan,
    plan_prune,
)

NONE = Seen()
ENDED = Seen(exists=True)
RUNS = Seen(exists=True, running=True, same=True, ready=True, pid=7)
STARTS = Seen(exists=True, running=True, same=True, pid=7)
DIFFERS = Seen(exists=True, running=True, ready=True, pid=7)


@pytest.mark.parametrize(
    ("seen", "state", "restart", "actions"),
    [
        (NONE, "started", False, ["start"]),
        (ENDED, "started", False, ["start"]),
        (RUNS, "started", False, []),
        (RUNS, "started", True, []),
        (STARTS, "started", False, ["wait"]),
        (DIFFERS, "started", True, ["stop", "start"]),
        (NONE, "stopped", False, []),
        (ENDED, "stopped", False, []),
        (RUNS, "stopped", False, ["stop"]),
        (DIFFERS, "stopped", False, ["stop"]),
        (NONE, "absent", False, []),
        (ENDED, "absent", False, ["delete"]),
        (STARTS, "absent", False, ["stop", "delete"]),
    ],
)
def test_plan(seen: Seen, state: str, restart: bool, actions: list[str]) -> None:
    assert [step.action for step in plan(seen, Wanted("demo", state, restart))] == actions


def test_another_program_is_not_replaced_unasked() -> None:
    with pytest.raises(DeliveryError, match=r"runs already \(pid 7\).*restart: true"):
        plan(DIFFERS, Wanted("demo", "started"))


def instances(*names: str) -> list[Instance]:
    """Name them from old to new; a capital one runs."""
    return [
        Instance(name.lower(), f"/lab/{name.lower()}", name.isupper(), f"2026-01-0{day}T00:00:00")
        for day, name in enumerate(names, 1)
    ]


@pytest.mark.parametrize(
    ("seen", "running", "keep", "protect", "steps"),
    [
        ([], [], 0, [], []),
        (instances("A"), ["a"], 0, [], []),
        (instances("A"), [], 1, [], ["stop a"]),
        (instances("A"), [], 0, [], ["stop a", "delete a"]),
        (instances("a", "b", "C"), ["c"], 1, [], ["delete a"]),
        (instances("a", "b", "C"), ["c"], 0, [], ["delete b", "delete a"]),
        (instances("a", "B", "C"), ["c"], 1, [], ["stop b", "delete a"]),
        (instances("a", "b", "C"), ["c"], 1, ["a"], []),
        (instances("a", "b", "C"), ["c"], 0, ["b"], ["delete a"]),
        # One that may run and has crashed is not deleted for it.
        (instances("a", "b", "c"), ["a"], 0, [], ["delete c", "delete b"]),
        (instances("a", "b"), [], 5, [], []),
    ],
)
def test_plan_prune(
    seen: list[Instance], running: list[str], keep: int, protect: list[str], steps: list[str]
) -> None:
    planned = plan_prune(seen, running=running, keep=keep, protect=protect)
    assert [f"{step.action} {step.detail['name']}" for step in planned] == steps


names = st.sampled_from("abcdef")


@given(
    st.lists(
        st.builds(
            Instance,
            name=names,
            folder=st.uuids().map(str),
            running=st.booleans(),
            started_at=st.dates().map(str),
        ),
        max_size=8,
    ),
    st.sets(names),
    st.integers(0, 4),
    st.sets(names),
)
def test_prune_keeps_what_it_must(
    seen: list[Instance], running: set[str], keep: int, protect: set[str]
) -> None:
    steps = plan_prune(seen, running=running, keep=keep, protect=protect)
    stopped = {step.detail["folder"] for step in steps if step.action == "stop"}
    deleted = {step.detail["folder"] for step in steps if step.action == "delete"}
    left = [item for item in seen if item.folder not in deleted]
    assert stopped == {i.folder for i in seen if i.running and i.name not in running}
    assert not any(i.folder in deleted for i in seen if i.name in running | protect)
    loose = [item for item in left if item.name not in running | protect]
    assert len(loose) <= keep
    # Nothing that was deleted is newer than something that was kept.
    gone = [item.started_at for item in seen if item.folder in deleted]
    assert not gone or not loose or max(gone) <= min(item.started_at for item in loose)
    # Whatever is deleted does not run, or is stopped first.
    assert not any(item.running for item in seen if item.folder in deleted - stopped)
    again = [
        Instance(i.name, i.folder, i.running and i.folder not in stopped, i.started_at)
        for i in left
    ]
    assert not plan_prune(again, running=running, keep=keep, protect=protect)
