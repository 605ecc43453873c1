# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one kind of failure that this collection reports.

Somebody reads the message in the middle of a deploy, so each failure says three things: what went
wrong, what state things are in, and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable


def sentence(text: str) -> str:
    """Return *text* trimmed, with a full stop where it lacks a closing mark."""
    text = text.strip()
    if text and text[-1] not in ".!?":
        text += "."
    return text


def enumerate_words(words: Iterable[str]) -> str:
    """Join words for a sentence: ``a``, ``a and b``, ``a, b and c``."""
    items = list(words)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


class DeliveryError(Exception):
    """A failure with what stands now and the next step.

    :param message: what went wrong, a sentence without secrets.
    :param state: the current state, after the failure and after any undo.
    :param next_step: what the reader can do next.

    ``kind`` is one word by which a play can tell failures apart without reading sentences.
    """

    kind = "failed"

    def __init__(self, message: str, *, state: str = "", next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.state = state
        self.next_step = next_step

    def __str__(self) -> str:
        parts = (self.message, self.state, self.next_step)
        return " ".join(sentence(part) for part in parts if part.strip())

    def with_state(self, state: str) -> DeliveryError:
        """Add to what stands now; returns the same error, for ``raise``."""
        self.state = f"{sentence(self.state)} {state}" if self.state else state
        return self


class TimeoutExceeded(DeliveryError):
    """A deadline passed before the awaited state was seen."""

    kind = "timeout"


class Interrupted(DeliveryError):
    """The process was asked to end (SIGINT, SIGTERM, SIGHUP) in the middle of a change."""

    kind = "interrupted"
