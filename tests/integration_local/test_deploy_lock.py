# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""deploy_lock in real plays: two at once, and one that is killed."""

from __future__ import annotations

import getpass
import json
import socket
from pathlib import Path
from typing import Any

from tests.support.plays import RunningPlay, eventually, run_play, start_play


def task(path: Path, **options: Any) -> dict[str, Any]:
    return {
        "name": "Lock",
        "immutable.delivery.deploy_lock": {"path": str(path), "name": "portal", **options},
    }


def holding(path: Path, gate: Path) -> RunningPlay:
    """Start a play that takes the lock and then waits until *gate* is there."""
    wait = {"name": "Deploy", "ansible.builtin.wait_for": {"path": str(gate), "timeout": 300}}
    return start_play([task(path), wait])


def taken(play: RunningPlay) -> bool:
    # A play that ended instead will never take it: say why.
    assert play.process.poll() is None, play.wait().output
    return bool(play.results)


def test_the_lock_lasts_from_task_to_task_and_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "portal.lock"
    play = run_play(
        [
            task(path),
            task(path),
            {"name": "Read", "ansible.builtin.slurp": {"src": str(path)}},
            task(path, state="released"),
            task(path, state="released"),
        ]
    ).ok()
    took, again, _content, gave, gave_again = play.results
    assert (took.changed, took["held"], took["taken_over"]) == (True, True, False)
    assert (took["owner"]["name"], took["owner"]["user"]) == ("portal", getpass.getuser())
    assert took["owner"]["host"] == socket.gethostname()
    assert (again.changed, again["owner"]) == (False, took["owner"])
    assert (gave.changed, gave["held"], gave["owner"]) == (True, False, None)
    assert not gave_again.changed
    assert not path.exists()


def test_a_second_play_is_refused_and_one_that_was_killed_is_replaced(tmp_path: Path) -> None:
    path, gate = tmp_path / "portal.lock", tmp_path / "gate"
    with holding(path, gate) as first:
        eventually(lambda: taken(first), "the lock")
        holder = json.loads(path.read_text())
        assert holder["pid"] == first.process.pid
        # The second says who and since when, in check mode too, and leaves the lock alone.
        for check in (False, True):
            second = run_play([task(path)], check=check)
            assert second.rc != 0
            assert second[0]["kind"] == "held"
            assert (
                f"portal is being deployed by {getpass.getuser()}@{socket.gethostname()} "
                f"(pid {first.process.pid}) since " in second[0].msg
            )
        released = run_play([task(path, state="released")]).ok()
        assert not released[0].changed
        assert "was left alone" in released.output
        assert json.loads(path.read_text()) == holder
        first.kill()
    # Its worker outlives it: let it end.
    gate.write_text("")
    third = run_play([task(path)], diff=True).ok()
    assert (third[0].changed, third[0]["taken_over"]) == (True, True)
    assert third[0]["previous_owner"]["pid"] == holder["pid"]
    # It ended without giving the lock back, and so stands in nobody's way either.
    assert run_play([task(path)]).ok()[0]["taken_over"] is True


def test_of_two_plays_at_once_one_waits_for_nobody(tmp_path: Path) -> None:
    path, gate = tmp_path / "portal.lock", tmp_path / "gate"
    with holding(path, gate) as one, holding(path, gate) as other:
        plays = (one, other)
        eventually(
            lambda: any(play.process.poll() is not None for play in plays), "the refusal", 120
        )
        loser, winner = plays if one.process.poll() is not None else plays[::-1]
        refused = loser.wait()
        assert refused.failures[0]["kind"] == "held"
        assert f"(pid {winner.process.pid})" in refused[0].msg
        gate.write_text("")
        assert winner.wait().ok()[0]["held"] is True


def test_bad_options_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "portal.lock"
    bad = [
        (task(path, ttl=0), "ttl must be more than 0"),
        (task(path, name=" "), "name is empty"),
        (task(tmp_path / "none" / "lock"), "for the lock does not exist"),
        (task(tmp_path), "is not a file"),
        # Nobody can pretend to be somebody else.
        (task(path, owner={"pid": 1}), ""),
    ]
    play = run_play([{**one, "ignore_errors": True} for one, _message in bad])
    for result, (_task, message) in zip(play.results, bad, strict=True):
        assert message in result.msg
    assert [result.failed for result in play.results] == [True, True, True, True, False]
