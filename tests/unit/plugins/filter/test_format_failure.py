# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.filter.format_failure import (
    FilterModule,
    format_failure,
)
from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError

OURS = DeliveryError(
    "the container web-2 ended with exit code 3",
    state="web-2 was removed. Live as before: web-1",
    next_step="Fix the error in its log, then deploy again.",
    log=["reading plans", "no plan gold"],
).result()
BLOCK = """\
The deploy of web failed at "Replace it": the container web-2 ended with exit code 3.
State: web-2 was removed. Live as before: web-1.
Next step: Fix the error in its log, then deploy again.
Last lines:
  reading plans
  no plan gold"""
WHAT = 'The deploy of web failed at "Replace it"'


def test_a_failure_is_a_block() -> None:
    assert format_failure(OURS, WHAT) == BLOCK


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (DeliveryError("it broke").result(), "it broke.\nState: Nothing was changed.\n"),
        (DeliveryError("a b. c d", state="c d").result(), "a b.\nState: c d.\n"),
        ({"msg": "no such file"}, "no such file."),
        ({}, "no message."),
        (
            {"msg": "non-zero return code", "rc": 1, "stdout": "x", "stderr": "one\n\ntwo\n"},
            "non-zero return code.\nLast lines:\n  one\n  two",
        ),
        (
            {
                "msg": "One or more items failed",
                "results": [{"msg": "well"}, {"msg": "first", "failed": True}, {"msg": "after"}],
            },
            "first.",
        ),
    ],
)
def test_any_result_can_be_read(result: dict[str, Any], expected: str) -> None:
    assert format_failure(result).startswith(expected)


def test_the_flow_adds_what_it_knows() -> None:
    result = DeliveryError("it broke", next_step="Look.").result()
    state = "v24 is live. v25 was removed"
    text = format_failure(result, "The deploy failed", state, "Deploy again")
    assert text == (
        "The deploy failed: it broke.\n"
        "State: v24 is live. v25 was removed.\n"
        "Next step: Look. Deploy again."
    )
    assert format_failure(OURS, state="v24 is live").splitlines()[1] == (
        "State: web-2 was removed. Live as before: web-1. v24 is live."
    )


def test_a_flow_within_a_flow_says_nothing_twice() -> None:
    inner = {"msg": BLOCK, "failed": True}
    assert format_failure(inner) == BLOCK
    outer = format_failure(inner, "The release failed", "Live as before: web-1", "Look.")
    assert outer.splitlines()[:3] == [
        f"The release failed: {BLOCK.splitlines()[0]}",
        "State: web-2 was removed. Live as before: web-1.",
        "Next step: Fix the error in its log, then deploy again. Look.",
    ]
    assert outer.splitlines()[3:] == BLOCK.splitlines()[3:]


def test_text_of_its_own_is_read_again() -> None:
    assert format_failure(BLOCK) == BLOCK
    logged = format_failure({"msg": "it broke", "stderr": "line"})
    assert format_failure(logged, "The deploy failed", "v24 is live") == (
        "The deploy failed: it broke.\nState: v24 is live.\nLast lines:\n  line"
    )


def test_it_is_known_by_its_name() -> None:
    assert FilterModule().filters() == {"format_failure": format_failure}
