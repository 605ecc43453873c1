# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.change import OnUndo, Outcome, Step
from ansible_collections.immutable.delivery.plugins.module_utils.errors import (
    DeliveryError,
    Interrupted,
    summarize,
)
from ansible_collections.immutable.delivery.plugins.module_utils.wiring import (
    end_with,
    fail,
    hand_over,
    require_library,
)

PARTS = {"msg", "kind", "state", "next_step", "log"}


class Ended(BaseException):
    """A module's end, as SystemExit is."""


class Module:
    """As much of AnsibleModule as its end needs."""

    check_mode = False

    def __init__(self) -> None:
        self.result: dict[str, Any] = {}

    def _end(self, result: dict[str, Any]) -> None:
        assert not self.result, "a module ends once"
        self.result = result
        raise Ended

    def exit_json(self, **values: Any) -> None:
        self._end({"failed": False, **values})

    def fail_json(self, **values: Any) -> None:
        self._end({"failed": True, **values})


class Change:
    """One step, which can be undone."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure = failure

    def observe(self) -> str:
        return "old"

    def plan(self, observed: str) -> Sequence[Step]:
        return [Step("step", "do it")]

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        on_undo(lambda: None, "It was undone")
        if self.failure is not None:
            raise self.failure

    def verify(self, observed: str, applied: Sequence[Step]) -> str:
        return "new"

    def describe(self, observed: str) -> str:
        return observed

    def expected(self, observed: str, steps: Sequence[Step]) -> str:
        return "new"


def after(change: Change, result: Any = lambda outcome: {"seen": outcome.after}) -> dict[str, Any]:
    module: Any = Module()
    with pytest.raises(Ended):
        hand_over(module, lambda: change, result)
    returned: dict[str, Any] = module.result
    return returned


def test_a_success_has_the_result() -> None:
    returned = after(Change())
    assert (returned["failed"], returned["changed"], returned["seen"]) == (False, True, "new")


@pytest.mark.parametrize(
    ("failure", "kind", "next_step"),
    [
        (DeliveryError("it broke"), "failed", "Fix the cause, then run this again."),
        (Interrupted("interrupted by SIGTERM"), "interrupted", "Run this again."),
        (
            KeyError("weight"),
            "unexpected",
            "Report this with the lines of log as a bug of immutable.delivery.",
        ),
    ],
)
def test_whatever_a_change_fails_with_all_parts_are_returned(
    failure: BaseException, kind: str, next_step: str
) -> None:
    returned = after(Change(failure))
    assert set(returned) >= PARTS
    assert (returned["failed"], returned["kind"]) == (True, kind)
    assert (returned["state"], returned["next_step"]) == ("It was undone.", next_step)
    assert returned["msg"].endswith(f". It was undone. {next_step}")
    assert ("exception" in returned) == (kind == "unexpected")


def test_a_mistake_in_the_result_says_that_the_change_was_made() -> None:
    def result(outcome: Outcome[str]) -> dict[str, Any]:
        raise KeyError("url")

    returned = after(Change(), result)
    assert returned["kind"] == "unexpected"
    assert returned["state"] == "The change itself was made."
    assert "KeyError: 'url'" in returned["msg"]
    assert "KeyError: 'url'" in returned["log"][-1]
    assert "in result" in returned["exception"]


def test_a_mistake_elsewhere_claims_nothing() -> None:
    def work() -> dict[str, Any]:
        raise KeyError("url")

    module: Any = Module()
    with pytest.raises(Ended):
        end_with(module, work)
    assert module.result["state"] == "It is not known how far this came."


def test_a_work_that_ends_the_module_itself_has_ended_it() -> None:
    module: Any = Module()
    with pytest.raises(Ended):
        end_with(module, lambda: module.fail_json(msg="no region"))
    assert module.result == {"failed": True, "msg": "no region"}


def test_several_failures_and_other_values_are_returned() -> None:
    failures = [
        {"name": name, **DeliveryError(f"{name} broke").result()} for name in ("web", "api")
    ]
    module: Any = Module()
    with pytest.raises(Ended):
        fail(module, summarize(failures, 3), services=failures, changed=True)
    assert PARTS | {"services", "changed"} <= set(module.result)
    assert module.result["msg"].startswith("2 of 3 services failed: web: web broke; api: ")


def test_a_missing_library_is_a_failure_like_others() -> None:
    module: Any = Module()
    with pytest.raises(Ended):
        require_library(module, "docker", "Traceback")
    assert PARTS | {"exception"} <= set(module.result)
    assert "(docker)" in module.result["msg"]


PROGRAM = """
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.immutable.delivery.plugins.module_utils.wiring import end_with

def work():
    return {}["weight"]

end_with(AnsibleModule({}), work)
"""


def test_a_real_module_prints_one_result_with_the_last_lines_of_the_traceback() -> None:
    # Above ansible_collections, wherever the collection was imported from.
    collections = Path(str(sys.modules[end_with.__module__].__file__)).parents[5]
    arguments = {"ANSIBLE_MODULE_ARGS": {}}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(collections)},
    )
    returned = json.loads(ended.stdout)
    assert ended.returncode == 1
    assert set(returned) >= PARTS
    assert returned["log"][-1] == "KeyError: 'weight'"
