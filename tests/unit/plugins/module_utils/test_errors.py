# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.errors import (
    DeliveryError,
    Interrupted,
    TimeoutExceeded,
    enumerate_words,
    sentence,
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


def test_what_stands_is_added_to() -> None:
    error = DeliveryError("it broke", next_step="Try again")
    assert error.with_state("The lock is given back.") is error
    assert error.with_state("No file is left") is error
    assert str(error) == "it broke. The lock is given back. No file is left. Try again."


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
