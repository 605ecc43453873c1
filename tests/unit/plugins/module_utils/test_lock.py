# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deploy lock: who may have it, what is on disk, and who wins a race."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.change import Outcome, run
from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.identity import (
    ProcessId,
    process,
    this_machine,
)
from ansible_collections.immutable.delivery.plugins.module_utils.lock import (
    Held,
    Lock,
    LockChange,
    Observed,
    State,
    judge,
    plan,
    read,
)

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
HERE = this_machine()
BOOTED = replace(HERE, boot="earlier")
CONTAINER = replace(HERE, namespace="pid:[1]")
ELSEWHERE = replace(HERE, host="elsewhere", boot="another", machine_id="another")
ME = ProcessId(100, 5000, HERE)
OTHER = ProcessId(200, 6000, HERE)


def lock(owner: ProcessId, age: float = 0, ttl: float = 3600) -> Lock:
    return Lock("portal", owner, "kim", NOW - timedelta(seconds=age), ttl, "token")


@pytest.mark.parametrize(
    ("held", "owner_alive", "state"),
    [
        (lock(ME), True, State.MINE),
        (lock(OTHER), True, State.HELD),
        (lock(OTHER), False, State.DEAD),
        # One that can be looked up holds it for as long as it lives, and no longer.
        (lock(OTHER, age=1e6), True, State.HELD),
        (lock(replace(ME, start=1)), False, State.DEAD),
        (lock(replace(OTHER, machine=BOOTED)), False, State.REBOOTED),
        (lock(replace(OTHER, machine=CONTAINER)), False, State.HELD),
        (lock(replace(OTHER, machine=CONTAINER), age=3601), False, State.EXPIRED),
        (lock(replace(OTHER, machine=ELSEWHERE)), False, State.HELD),
        (lock(replace(OTHER, machine=ELSEWHERE), age=3599), False, State.HELD),
        (lock(replace(OTHER, machine=ELSEWHERE), age=3601), False, State.EXPIRED),
        # A clock that runs ahead there is no reason to take it away here.
        (lock(replace(OTHER, machine=ELSEWHERE), age=-3601), False, State.HELD),
    ],
)
def test_judge(held: Lock, owner_alive: bool, state: State) -> None:
    assert judge(held, ME, here=HERE, owner_alive=owner_alive, now=NOW) is state


TAKES = ["acquire"]


@pytest.mark.parametrize(
    ("state", "wanted", "force", "actions"),
    [
        (State.FREE, "held", False, TAKES),
        (State.MINE, "held", False, []),
        (State.MINE, "held", True, []),
        (State.HELD, "held", True, TAKES),
        (State.DEAD, "held", False, TAKES),
        (State.REBOOTED, "held", False, TAKES),
        (State.EXPIRED, "held", False, TAKES),
        (State.EMPTY, "held", False, TAKES),
        (State.FOREIGN, "held", False, TAKES),
        (State.FREE, "released", False, []),
        (State.FREE, "released", True, []),
        (State.MINE, "released", False, ["release"]),
        (State.HELD, "released", False, []),
        (State.HELD, "released", True, ["release"]),
        (State.DEAD, "released", False, []),
        (State.FOREIGN, "released", False, []),
    ],
)
def test_plan(state: State, wanted: str, force: bool, actions: list[str]) -> None:
    observed = Observed(state, lock(OTHER))
    assert [step.action for step in plan(observed, wanted, "portal", force)] == actions


def test_the_refusal_names_the_holder() -> None:
    with pytest.raises(Held) as caught:
        plan(Observed(State.HELD, lock(OTHER)), "held", "portal", False)
    assert str(caught.value).startswith(
        f"portal is being deployed by kim@{HERE.host} (pid 200) since 2026-01-02 12:00:00 UTC. "
        "Nothing was changed."
    )


machines = st.sampled_from([HERE, BOOTED, CONTAINER, ELSEWHERE])
owners = st.builds(ProcessId, st.integers(1, 3), st.integers(1, 3), machines)


@given(owners, owners, st.booleans(), st.integers(-10, 10), st.integers(1, 10))
def test_a_living_owner_that_can_be_seen_is_never_robbed(
    owner: ProcessId, asking: ProcessId, owner_alive: bool, age: int, ttl: int
) -> None:
    state = judge(lock(owner, age, ttl), asking, here=HERE, owner_alive=owner_alive, now=NOW)
    if owner == asking:
        assert state is State.MINE
    elif owner.machine == HERE:
        assert state is (State.HELD if owner_alive else State.DEAD)
    else:
        assert state in (State.HELD, State.REBOOTED, State.EXPIRED)
        assert (state is State.EXPIRED) <= (age > ttl)


@given(st.text(), owners, st.text(), st.datetimes(timezones=st.just(UTC)), st.floats(1, 1e9))
def test_a_lock_comes_back_as_it_was(
    name: str, owner: ProcessId, user: str, since: datetime, ttl: float
) -> None:
    known = Lock(name, owner, user, since.replace(microsecond=0), ttl, "token")
    assert Lock.from_dict(json.loads(json.dumps(known.as_dict()))) == known


def myself() -> ProcessId:
    found = process(os.getpid())
    assert found is not None
    return found


def ended() -> ProcessId:
    """Return a process that has ended."""
    child = subprocess.Popen(["sleep", "60"])
    found = process(child.pid)
    child.kill()
    child.wait()
    assert found is not None
    return found


def change(path: Path, wanted: str = "held", **more: Any) -> LockChange:
    owner = more.pop("owner", None) or myself()
    return LockChange(path, "portal", wanted, owner, "kim", **{"ttl": 3600, **more})


def take(path: Path, **more: Any) -> Outcome[Observed]:
    return run(change(path, **more))


def test_take_take_again_give_back(tmp_path: Path) -> None:
    path = tmp_path / "portal.lock"
    first = take(path)
    assert (first.changed, first.after.state) == (True, State.MINE)
    assert path.stat().st_mode & 0o777 == 0o644
    content = path.read_bytes()
    assert not take(path).changed
    assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["portal.lock"]
    assert take(path, wanted="released").after.state is State.FREE
    assert not take(path, wanted="released").changed
    assert list(tmp_path.iterdir()) == []


def test_check_mode_leaves_no_file_and_refuses_as_well(tmp_path: Path) -> None:
    path = tmp_path / "portal.lock"
    outcome = run(change(path), check_mode=True)
    assert outcome.changed
    assert outcome.diff["before"] == f"{path}: free\n"
    assert f"kim@{HERE.host}" in outcome.diff["after"]
    assert list(tmp_path.iterdir()) == []
    other = subprocess.Popen(["sleep", "60"])
    try:
        take(path, owner=process(other.pid))
        with pytest.raises(Held):
            run(change(path), check_mode=True)
    finally:
        other.kill()
        other.wait()
    # The kernel knows at once that its owner is gone.
    assert run(change(path), check_mode=True).before.state is State.DEAD


def test_somebody_elses_lock_is_released_by_force_only(tmp_path: Path) -> None:
    path = tmp_path / "portal.lock"
    take(path, owner=process(os.getppid()))
    content = path.read_bytes()
    assert not take(path, wanted="released").changed
    assert path.read_bytes() == content
    with pytest.raises(Held):
        take(path)
    assert take(path, force=True).after.state is State.MINE
    assert take(path, wanted="released", owner=process(os.getppid()), force=True).changed
    assert not path.exists()


@pytest.mark.parametrize("content", ["", " \n"])
def test_an_empty_file_is_taken_over(tmp_path: Path, content: str) -> None:
    path = tmp_path / "portal.lock"
    path.write_text(content)
    assert take(path).before.state is State.EMPTY
    assert [entry.name for entry in tmp_path.iterdir()] == ["portal.lock"]


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"\xff",
        b"12345\n",
        b"[" * 60_000,
        b" " * 70_000,
        b'{"pid": 0}',
        json.dumps({**lock(OTHER).as_dict(), "pid": -1}).encode(),
        json.dumps({**lock(OTHER).as_dict(), "since": "yesterday"}).encode(),
        json.dumps({**lock(OTHER).as_dict(), "since": "0001-01-01T00:00:00+14:00"}).encode(),
        json.dumps({**lock(OTHER).as_dict(), "ttl": float("nan")}).encode(),
        json.dumps({**lock(OTHER).as_dict(), "token": None}).encode(),
    ],
)
def test_what_is_no_lock_is_moved_aside_and_not_lost(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "portal.lock"
    path.write_bytes(content)
    taking = change(path)
    assert run(taking).before.state is State.FOREIGN
    assert taking.moved_to is not None
    assert taking.moved_to.read_bytes() == content
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    for wanted in ("held", "released"):
        with pytest.raises(DeliveryError, match="for the lock does not exist"):
            take(tmp_path / "missing" / "portal.lock", wanted=wanted)


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "file").write_text("x")
    for name in ("folder", "link"):
        with pytest.raises(DeliveryError, match="is not a file"):
            take(tmp_path / name)
    with pytest.raises(DeliveryError, match="cannot be read"):
        take(tmp_path / "file" / "portal.lock")


def test_one_who_took_it_meanwhile_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "portal.lock"
    late = change(path)
    seen = late.observe()
    take(path, owner=process(os.getppid()))
    (step,) = late.plan(seen)
    with pytest.raises(Held):
        late.apply(step, lambda undo, state="": None)
    held = read(path)
    assert held is not None
    assert held.owner.pid == os.getppid()


def test_a_failure_after_it_was_taken_gives_it_back(tmp_path: Path) -> None:
    class Failing(LockChange):
        def verify(self, observed: Observed, applied: Any) -> Observed:
            raise DeliveryError("no")

    path = tmp_path / "portal.lock"
    with pytest.raises(DeliveryError, match="The lock of portal is not held by this play"):
        run(Failing(path, "portal", "held", myself(), "kim", ttl=60))
    assert list(tmp_path.iterdir()) == []


def contend(path: Path, start: Barrier, end: Barrier, results: Queue[str]) -> None:
    taking = change(path)
    start.wait(60)
    try:
        run(taking)
    except DeliveryError as error:
        results.put(error.kind)
    else:
        results.put("won")
    # Stay alive until everybody has tried, or the lock would rightly be taken over.
    end.wait(60)


@pytest.mark.parametrize("before", ["free", "dead", "empty", "foreign"])
def test_of_many_takers_exactly_one_wins(tmp_path: Path, before: str) -> None:
    path = tmp_path / "portal.lock"
    if before == "dead":
        take(path, owner=ended())
    elif before != "free":
        path.write_text("" if before == "empty" else "not a lock")
    context = multiprocessing.get_context("fork")
    takers = 12
    start, end = context.Barrier(takers), context.Barrier(takers)
    results: Queue[str] = context.Queue()
    processes = [
        context.Process(target=contend, args=(path, start, end, results)) for index in range(takers)
    ]
    for one in processes:
        one.start()
    try:
        outcome = sorted(results.get(timeout=60) for one in processes)
    finally:
        for one in processes:
            one.join(60)
            one.kill()
    assert outcome == ["held"] * (takers - 1) + ["won"]
    left = [entry.name for entry in tmp_path.iterdir() if "foreign" not in entry.name]
    assert left == ["portal.lock"]
