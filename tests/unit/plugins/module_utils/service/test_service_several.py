# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several deploys at a time: each by itself, whatever becomes of the others."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.deadline import (
    Deadline,
    Pace,
    wait_for,
)
from ansible_collections.immutable.delivery.plugins.module_utils.errors import (
    DeliveryError,
    Interrupted,
)
from ansible_collections.immutable.delivery.plugins.module_utils.service import several
from ansible_collections.immutable.delivery.plugins.module_utils.service.several import (
    Deploys,
    all_of,
)
from ansible_collections.immutable.delivery.plugins.module_utils.signals import (
    signals_as_errors,
    sleep,
)


def deploy(params: Mapping[str, Any]) -> dict[str, Any]:
    if params.get("fails"):
        raise DeliveryError("it is broken", state="nothing was changed", next_step="fix it")
    if params.get("wrong"):
        raise KeyError("weight")
    if params.get("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"changed": bool(params.get("changes")), "pid": os.getpid()}


def test_all_in_their_order_and_each_by_itself() -> None:
    services = [{"name": str(number), "changes": number % 2} for number in range(7)]
    results = all_of(deploy, services, 3)
    assert [one["name"] for one in results] == [str(number) for number in range(7)]
    assert [one["changed"] for one in results] == [bool(number % 2) for number in range(7)]
    assert len({one["pid"] for one in results} - {os.getpid()}) == 7


def test_one_alone_needs_no_other_process() -> None:
    (one,) = all_of(deploy, [{"name": "a"}], 3)
    assert one["pid"] == os.getpid()


def test_who_fails_or_dies_does_not_keep_the_others() -> None:
    services = [{"name": "a", "fails": True}, {"name": "b"}, {"name": "c", "dies": True}]
    failed, well, dead = all_of(deploy, services, 2)
    assert failed["failed"] and failed["msg"].startswith("it is broken")
    assert (failed["state"], failed["next_step"]) == ("nothing was changed.", "fix it.")
    assert not well["failed"]
    assert dead["failed"] and "ended without a word (-9)" in dead["msg"]


def test_an_unexpected_error_is_reported_like_any_other() -> None:
    services = [{"name": "a", "wrong": True}, {"name": "b"}]
    (alone,) = all_of(deploy, services[:1], 1)
    beside, well = all_of(deploy, services, 2)
    assert alone["kind"] == beside["kind"] == "unexpected"
    assert alone["msg"] == beside["msg"] and "KeyError: 'weight'" in alone["msg"]
    assert alone["log"][-1] == beside["log"][-1] == "KeyError: 'weight'"
    assert not well["failed"]


def long(folder: Path) -> Deploys:
    """A deploy that takes a minute, notes in *folder* that it began, and undoes what it did."""

    def deploy(params: Mapping[str, Any]) -> dict[str, Any]:
        with signals_as_errors():
            try:
                (folder / f"{params['name']}.began").touch()
                sleep(60)
            except Interrupted as error:
                (folder / f"{params['name']}.undone").touch()
                raise error.with_state(f"{params['name']} is as it was.") from None
        return {"changed": True}

    return deploy


def test_a_signal_is_passed_on_and_waited_for(tmp_path: Path) -> None:
    def began() -> bool | None:
        return len(list(tmp_path.glob("*.began"))) == 2 or None

    def interrupt() -> None:
        wait_for(began, deadline=Deadline(60), pace=Pace(0.05), what="both to begin")
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted, match=r"a: a is as it was\. b: b is as it was"):
        all_of(long(tmp_path), [{"name": name} for name in "abc"], 2)
    thread.join()
    assert sorted(one.name for one in tmp_path.glob("*.undone")) == ["a.undone", "b.undone"]
    assert not (tmp_path / "c.began").exists()


def test_a_signal_while_one_is_started_ends_it_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = several._start

    def interrupted(*given: Any) -> Any:
        started = start(*given)
        name = given[2]["name"]
        wait_for(
            lambda: (tmp_path / f"{name}.began").exists() or None,
            deadline=Deadline(60),
            pace=Pace(0.05),
            what="it to begin",
        )
        if name == "b":
            os.kill(os.getpid(), signal.SIGTERM)
        return started

    monkeypatch.setattr(several, "_start", interrupted)
    with pytest.raises(Interrupted, match=r"a: a is as it was\. b: b is as it was"):
        all_of(long(tmp_path), [{"name": name} for name in "abc"], 3)
    assert sorted(one.name for one in tmp_path.glob("*.undone")) == ["a.undone", "b.undone"]
    assert not (tmp_path / "c.began").exists()
