# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.errors import (
    LINE_LENGTH,
    DeliveryError,
    Interrupted,
    TimeoutExceeded,
    Unexpected,
    as_delivery_error,
    enumerate_words,
    join_sentences,
    sentence,
    split_sentences,
    summarize,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("   ", ""),
        ("no mark", "no mark."),
        ("has one.", "has one."),
        ("asks?", "asks?"),
        ("shouts!", "shouts!"),
        ("  spaced \n", "spaced."),
    ],
)
def test_a_sentence_ends_with_one_mark(text: str, expected: str) -> None:
    assert sentence(text) == expected


@given(st.text())
def test_a_sentence_of_a_sentence_is_itself(text: str) -> None:
    once = sentence(text)
    assert sentence(once) == once
    assert not once or once[-1] in ".!?"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (iter(("x", "y")), "x and y"),
    ],
)
def test_words_are_joined_for_a_sentence(words: list[str], expected: str) -> None:
    assert enumerate_words(words) == expected


@pytest.mark.parametrize(
    ("message", "state", "next_step", "expected"),
    [
        ("it broke", "", "", "it broke."),
        ("it broke", "All is as before", "", "it broke. All is as before."),
        ("it broke", "", "Try again.", "it broke. Try again."),
        ("it broke!", "All is as before.", "Try again", "it broke! All is as before. Try again."),
        ("it broke", "  ", "\n", "it broke."),
    ],
)
def test_an_error_is_told_in_sentences(
    message: str, state: str, next_step: str, expected: str
) -> None:
    assert str(DeliveryError(message, state=state, next_step=next_step)) == expected


def test_a_state_is_added_to() -> None:
    error = DeliveryError("it broke", next_step="Try again")
    assert error.with_state("The lock is given back.") is error
    assert error.with_state("No file is left") is error
    assert str(error) == "it broke. The lock is given back. No file is left. Try again."


def test_a_state_is_not_added_twice() -> None:
    error = DeliveryError("it broke").with_state("live as before: v1")
    error.with_state("Nothing was changed. Live as before: v1.")
    assert error.state == "live as before: v1. Nothing was changed."


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("a b", "A b."), "a b."),
        (("a b. c d", "c  d!", "e f"), "a b. c d. e f."),
        (("one", "One"), "one. One."),
        (("it broke: x.y", "x.y is down"), "it broke: x.y. x.y is down."),
        (("", " ", "\n"), ""),
    ],
)
def test_no_sentence_is_said_twice(texts: tuple[str, ...], expected: str) -> None:
    assert join_sentences(*texts) == expected


WORDS = st.lists(st.sampled_from(["it", "broke", "v1", "10.0.0.1", "Run"]), min_size=2, max_size=4)
SENTENCES = WORDS.map(" ".join)
TEXTS = st.lists(SENTENCES, max_size=3).map(". ".join)


@given(TEXTS, TEXTS, TEXTS, st.lists(TEXTS, max_size=3))
def test_a_result_says_each_sentence_once_and_in_order(
    message: str, state: str, next_step: str, more: list[str]
) -> None:
    error = DeliveryError(message, state=state, next_step=next_step)
    for text in more:
        error.with_state(text)
    result = error.result()
    said = [part.rstrip(".").casefold() for part in split_sentences(result["msg"])]
    assert len(said) == len(set(said))
    for text in (message, *more, result["state"], result["next_step"]):
        assert {part.rstrip(".").casefold() for part in split_sentences(text)} <= set(said)
    assert result["state"] and result["next_step"]
    assert result["msg"].startswith(join_sentences(message))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            DeliveryError("it broke"),
            {
                "msg": "it broke. Nothing was changed. Fix the cause, then run this again.",
                "kind": "failed",
                "state": "Nothing was changed.",
                "next_step": "Fix the cause, then run this again.",
                "log": [],
            },
        ),
        (
            Interrupted("interrupted by SIGTERM", state="web-1 is live, as before"),
            {
                "msg": "interrupted by SIGTERM. web-1 is live, as before. Run this again.",
                "kind": "interrupted",
                "state": "web-1 is live, as before.",
                "next_step": "Run this again.",
                "log": [],
            },
        ),
        (
            DeliveryError(
                "the container web-2 ended with exit code 3",
                state="web-2 was removed. Live as before: web-1",
                next_step="Fix the error in its log",
                log=["no plan gold", ""],
            ),
            {
                "msg": "the container web-2 ended with exit code 3. web-2 was removed. Live as "
                "before: web-1. Fix the error in its log.",
                "kind": "failed",
                "state": "web-2 was removed. Live as before: web-1.",
                "next_step": "Fix the error in its log.",
                "log": ["no plan gold"],
            },
        ),
    ],
)
def test_a_failure_has_five_parts(error: DeliveryError, expected: dict[str, Any]) -> None:
    assert error.result() == expected


def test_of_a_log_the_last_lines_are_shown_in_part() -> None:
    lines = [f"line {number}" for number in range(100)]
    shown = DeliveryError("it broke", log=[*lines, "", "\x1b[31mred\x1b[0m\t!", "x" * 1000]).log
    assert shown == [*lines[-18:], "red !", "x" * LINE_LENGTH]


def test_a_long_message_is_cut_and_its_lines_are_the_log() -> None:
    text = "\n".join(f"line {number}" for number in range(1000))
    result = DeliveryError(f"it broke: {text}", next_step="Look.").result()
    assert result["msg"].startswith("it broke: line 0\n")
    assert result["msg"].endswith("line 999. Nothing was changed. Look.")
    assert len(result["msg"]) < 1100
    assert result["log"][-1] == "line 999"


def test_an_unexpected_error_shows_where_it_came_from() -> None:
    def mistake() -> None:
        raise KeyError("weight")

    with pytest.raises(KeyError) as raised:
        mistake()
    error = as_delivery_error(raised.value)
    assert isinstance(error, Unexpected)
    result = error.result()
    assert result["msg"].startswith("unexpected error: KeyError: 'weight'. ")
    assert result["kind"] == "unexpected"
    assert "Report this" in result["next_step"]
    assert "in mistake" in error.traceback
    assert result["log"][-1] == "KeyError: 'weight'"


def failed(name: str, error: DeliveryError) -> dict[str, Any]:
    return {"name": name, **error.result()}


def test_one_service_of_one_fails_with_its_own_words() -> None:
    one = failed("web", DeliveryError("it broke. Badly so", log=["x"]))
    assert summarize([one], 1) == {key: value for key, value in one.items() if key != "name"}


def test_several_failures_are_told_in_short() -> None:
    web = DeliveryError(
        "the container web-2 is unhealthy. It said nothing",
        state="web-2 was removed. Live as before: web-1",
        next_step="Fix it. Then deploy",
        log=["a line"],
    )
    api = Interrupted("interrupted by SIGTERM", state="api-1 is live")
    result = summarize([failed("web", web), failed("api", api)], 3)
    assert result == {
        "msg": "2 of 3 services failed: web: the container web-2 is unhealthy; api: interrupted by "
        "SIGTERM. web: web-2 was removed; api: api-1 is live. web: Fix it; api: Run this again.",
        "kind": "failed",
        "state": "web: web-2 was removed; api: api-1 is live.",
        "next_step": "web: Fix it; api: Run this again.",
        "log": [],
    }


def test_several_failures_that_agree_say_it_once() -> None:
    away = DeliveryError("the engine is away")
    away.kind = "engine_away"
    result = summarize([failed("web", away), failed("api", away)], 2)
    assert result["kind"] == "engine_away"
    assert result["msg"] == (
        "all 2 services failed: web: the engine is away; api: the engine is away. "
        "Nothing was changed. Fix the cause, then run this again."
    )


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("failed", DeliveryError("x")),
        ("timeout", TimeoutExceeded("x")),
        ("interrupted", Interrupted("x")),
    ],
)
def test_a_play_can_tell_kinds_apart(kind: str, error: DeliveryError) -> None:
    assert error.kind == kind
