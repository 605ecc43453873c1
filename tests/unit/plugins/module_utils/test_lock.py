# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deploy lock: who may have it, what is on disk, and who wins a race."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import subprocess
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.change import Outcome, run
from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.identity import (
    Machine,
    ProcessId,
    process,
    this_machine,
)
from ansible_collections.immutable.delivery.plugins.module_utils.lock.change import DeployLockChange
from ansible_collections.immutable.delivery.plugins.module_utils.lock.file import read, work_file
from ansible_collections.immutable.delivery.plugins.module_utils.lock.model import (
    Held,
    Lock,
    Observed,
    Reason,
    State,
    judge,
    plan,
)

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
HERE = replace(this_machine(), machine_id="this one")
BOOTED = replace(HERE, boot="earlier")
CONTAINER = replace(HERE, namespace="pid:[1]")
NAMESAKE = replace(HERE, boot="another", machine_id="another")
ELSEWHERE = replace(HERE, host="elsewhere", boot="another", machine_id="another")
ME = ProcessId(100, 5000, HERE)
OTHER = ProcessId(200, 6000, HERE)


def lock(owner: ProcessId, age: float = 0, ttl: float = 3600, holders: str = "web1") -> Lock:
    since = NOW - timedelta(seconds=age)
    return Lock("portal", owner, "kim", tuple(holders.split()), since, ttl, "token")


MINE, HELD = State.MINE, State.HELD
DEAD, REBOOTED, EXPIRED = Reason.DEAD, Reason.REBOOTED, Reason.EXPIRED


@pytest.mark.parametrize(
    ("held", "owner_alive", "seen"),
    [
        (lock(ME), True, MINE),
        (lock(OTHER), True, HELD),
        (lock(OTHER), False, DEAD),
        # One that can be looked up holds it for as long as it lives, and no longer.
        (lock(OTHER, age=1e6), True, HELD),
        (lock(replace(ME, start=1)), False, DEAD),
        (lock(replace(OTHER, machine=BOOTED)), None, REBOOTED),
        # Two machines with one name are not one that was booted anew.
        (lock(replace(OTHER, machine=NAMESAKE)), None, HELD),
        (lock(replace(OTHER, machine=NAMESAKE), age=3601), None, EXPIRED),
        (lock(replace(OTHER, machine=CONTAINER)), None, HELD),
        (lock(replace(OTHER, machine=CONTAINER), age=3601), None, EXPIRED),
        (lock(replace(OTHER, machine=ELSEWHERE)), None, HELD),
        (lock(replace(OTHER, machine=ELSEWHERE), age=3599), None, HELD),
        (lock(replace(OTHER, machine=ELSEWHERE), age=3601), None, EXPIRED),
        # Whoever knows that it has ended need not wait for the time to live.
        (lock(replace(OTHER, machine=ELSEWHERE)), False, DEAD),
        # A clock that runs ahead there is no reason to take it away here.
        (lock(replace(OTHER, machine=ELSEWHERE), age=-3601), None, HELD),
    ],
)
def test_judge(held: Lock, owner_alive: bool | None, seen: State | Reason) -> None:
    observed = judge(held, ME, here=HERE, owner_alive=owner_alive, now=NOW)
    assert observed.lock == held
    assert (observed.reason or observed.state) is seen
    assert (observed.state is State.STALE) == (observed.reason is not None)


def test_machines_without_an_id_of_their_own_do_not_take_each_other_for_booted_anew() -> None:
    one, other = replace(HERE, machine_id=""), replace(BOOTED, machine_id="")
    for here, there in ((one, other), (one, BOOTED), (HERE, other)):
        held = lock(replace(OTHER, machine=there))
        assert judge(held, ME, here=here, owner_alive=None, now=NOW).state is HELD


def test_machines_without_a_boot_of_their_own_do_not_see_each_other() -> None:
    unknown = Machine("", "", "host", "")
    assert not unknown.sees(unknown)


FREE, DIED, ALIEN = (
    Observed(State.FREE),
    Observed(State.STALE, lock(OTHER), DEAD),
    Observed(State.STALE, None, Reason.FOREIGN),
)
THEIRS, OURS = Observed(HELD, lock(OTHER)), Observed(MINE, lock(ME))
SHARED = Observed(MINE, lock(ME, holders="web1 web2"))
NEIGHBOUR = Observed(MINE, lock(ME, holders="web2"))


@pytest.mark.parametrize(
    ("observed", "desired", "force", "actions"),
    [
        (FREE, "held", False, ["acquire"]),
        (OURS, "held", False, []),
        (OURS, "held", True, []),
        (NEIGHBOUR, "held", False, ["join"]),
        (SHARED, "held", False, []),
        (THEIRS, "held", True, ["acquire"]),
        (DIED, "held", False, ["acquire"]),
        (ALIEN, "held", False, ["acquire"]),
        (FREE, "released", False, []),
        (FREE, "released", True, []),
        (OURS, "released", False, ["release"]),
        (SHARED, "released", False, ["leave"]),
        (SHARED, "released", True, ["release"]),
        (NEIGHBOUR, "released", False, []),
        (THEIRS, "released", False, []),
        (THEIRS, "released", True, ["release"]),
        (DIED, "released", False, []),
        (ALIEN, "released", False, []),
    ],
)
def test_plan(observed: Observed, desired: str, force: bool, actions: list[str]) -> None:
    steps = plan(observed, desired, "web1", "portal", force)
    assert [step.action for step in steps] == actions


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_the_lock_is_held_as_long_as_anybody_of_the_play_holds_it(
    calls: list[tuple[str, bool]],
) -> None:
    """Whatever hosts take it and give it back, in any order and as often as they like."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "portal.lock"
        holding: set[str] = set()
        for host, takes in calls:
            had = host in holding
            holding = holding | {host} if takes else holding - {host}
            outcome = take(path, desired="held" if takes else "released", holder=host)
            assert outcome.changed == (had != takes)
            assert (outcome.after.state is State.MINE) == bool(holding)
            assert path.exists() == bool(holding)
            assert len(list(Path(folder).iterdir())) == 2 * bool(holding)
            if holding:
                assert set(read(path).holders) == holding  # type: ignore[union-attr]


def test_the_refusal_names_the_holder() -> None:
    with pytest.raises(Held) as caught:
        plan(THEIRS, "held", "web1", "portal")
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
    known = owner_alive if owner.machine == HERE else None
    seen = judge(lock(owner, age, ttl), asking, here=HERE, owner_alive=known, now=NOW)
    if owner == asking:
        assert seen.state is MINE
    elif known is not None:
        assert (seen.state, seen.reason) == ((HELD, None) if known else (State.STALE, DEAD))
    else:
        assert seen.reason in (None, REBOOTED, EXPIRED)
        assert (seen.reason is EXPIRED) <= (age > ttl)


@given(st.text(), owners, st.text(), st.datetimes(timezones=st.just(UTC)), st.floats(1, 1e9))
def test_a_lock_comes_back_as_it_was(
    name: str, owner: ProcessId, user: str, since: datetime, ttl: float
) -> None:
    holders = tuple(name.split())
    known = Lock(name, owner, user, holders, since.replace(microsecond=0), ttl, "token")
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


def change(path: Path, desired: str = "held", **more: Any) -> DeployLockChange:
    owner = more.pop("owner", None) or myself()
    options = {"user": "kim", "holder": "web1", "ttl": 3600, **more}
    return DeployLockChange(path, "portal", desired, owner, **options)


def names(folder: Path) -> list[str]:
    """Return what lies in a folder, but for what the holders of the lock in it share."""
    held = read(folder / "portal.lock")
    assert held is not None
    shared = work_file(folder / "portal.lock", held.token)
    assert shared.exists()
    return sorted(entry.name for entry in folder.iterdir() if entry != shared)


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
    assert names(tmp_path) == ["portal.lock"]
    assert take(path, desired="released").after.state is State.FREE
    assert not take(path, desired="released").changed
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
    assert run(change(path), check_mode=True).before.reason is DEAD


def test_somebody_elses_lock_is_released_by_force_only(tmp_path: Path) -> None:
    path = tmp_path / "portal.lock"
    take(path, owner=process(os.getppid()))
    content = path.read_bytes()
    assert not take(path, desired="released").changed
    assert path.read_bytes() == content
    with pytest.raises(Held):
        take(path)
    assert take(path, force=True).after.state is State.MINE
    assert take(path, desired="released", owner=process(os.getppid()), force=True).changed
    assert not path.exists()


def refuse(*_more: Any, **_named: Any) -> Any:
    raise OSError(errno.EROFS, "Read-only file system")


def test_a_file_system_that_became_read_only_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    take(path)
    with monkeypatch.context() as read_only:
        read_only.setattr(Path, "unlink", refuse)
        with pytest.raises(DeliveryError, match="lock cannot be removed: Read-only file system"):
            run(change(path, "released"))
        read_only.setattr(Path, "touch", refuse)
        with pytest.raises(DeliveryError, match="cannot be written: Read-only") as caught:
            take(tmp_path / "other")
    # It refuses to remove even what is not there.
    assert "rolled back" not in str(caught.value)


@pytest.mark.parametrize("content", ["", " \n"])
def test_an_empty_file_is_taken_over(tmp_path: Path, content: str) -> None:
    path = tmp_path / "portal.lock"
    path.write_text(content)
    assert take(path).before.reason is Reason.EMPTY
    assert names(tmp_path) == ["portal.lock"]


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
        json.dumps({**lock(OTHER).as_dict(), "token": "../other"}).encode(),
        json.dumps({**lock(OTHER).as_dict(), "holders": "web1"}).encode(),
    ],
)
def test_what_is_no_lock_is_moved_aside_and_not_lost(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "portal.lock"
    path.write_bytes(content)
    taking = change(path)
    assert run(taking).before.reason is Reason.FOREIGN
    assert taking.moved_to is not None
    assert taking.moved_to.read_bytes() == content
    assert names(tmp_path) == ["portal.lock", taking.moved_to.name]


def test_a_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    for desired in ("held", "released"):
        with pytest.raises(DeliveryError, match="for the lock does not exist"):
            take(tmp_path / "missing" / "portal.lock", desired=desired)


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
    class Failing(DeployLockChange):
        def verify(self, observed: Observed, applied: Any) -> Observed:
            raise DeliveryError("no")

    path = tmp_path / "portal.lock"
    with pytest.raises(DeliveryError, match="The lock of portal is not held by this play"):
        run(Failing(path, "portal", "held", myself(), user="kim", holder="web1", ttl=60))
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
    assert [name for name in names(tmp_path) if "foreign" not in name] == ["portal.lock"]
