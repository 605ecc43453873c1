# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one kind of failure that this collection reports.

Somebody reads the message in the middle of a deploy, so each failure says three things, each once
and in this order: what failed, the current state, and what to do next. Log lines are apart.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .redaction import redact

LOG_LINES = 20
LINE_LENGTH = 300
MESSAGE_LENGTH = 1000

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_GAP = re.compile(r"(?<=[.!?])\s+")


def sentence(text: str) -> str:
    """Return *text* trimmed, with a full stop if it lacks a closing mark."""
    text = text.strip()
    if text and text[-1] not in ".!?":
        text += "."
    return text


def split_sentences(text: str) -> list[str]:
    """Return the sentences of *text*."""
    return [part for part in _GAP.split(sentence(text)) if part]


def join_sentences(*texts: str) -> str:
    """Return *texts* as one paragraph in which no sentence occurs twice."""
    said: set[str] = set()
    parts: list[str] = []
    for part in (part for text in texts for part in split_sentences(text)):
        words = part.rstrip(".!?").casefold().split()
        key = " ".join(words)
        # A single word is rather an abbreviation than a sentence.
        if len(words) < 2 or key not in said:
            parts.append(part)
        said.add(key)
    return " ".join(parts)


def enumerate_words(words: Iterable[str]) -> str:
    """Join words for a sentence: ``a``, ``a and b``, ``a, b and c``."""
    items = list(words)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def cut_log(lines: Iterable[str]) -> list[str]:
    """Return the last lines of a log, without colours and secrets, none of them empty or long."""
    # A secret is hidden while it is whole.
    plain = (redact(_COLOUR.sub("", line)).rstrip() for line in lines)
    shown = [line[:LINE_LENGTH] for line in plain if line][-LOG_LINES:]
    return ["".join(c if c.isprintable() else " " for c in line) for line in shown]


class DeliveryError(Exception):
    """A failure with the current state and the next step.

    :param message: what failed, a sentence without secrets and without log lines.
    :param state: the current state, after the failure and after any undo.
    :param next_step: what the reader can do next; by default ``usual_step``.
    :param log: lines that explain it, of which the last are shown.

    ``kind`` is one word by which a play can tell failures apart without reading sentences.
    """

    kind = "failed"
    # What began to change anything has said which state that left.
    usual_state = "Nothing was changed."
    usual_step = "Fix the cause, then run this again."

    def __init__(
        self, message: str, *, state: str = "", next_step: str = "", log: Iterable[str] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.state = state
        self.next_step = next_step
        self.log = cut_log(log)

    def __str__(self) -> str:
        return join_sentences(self.message, self.state, self.next_step)

    def with_state(self, state: str) -> DeliveryError:
        """Add to the current state what it does not say yet; returns the error, for ``raise``."""
        self.state = join_sentences(self.state, state) if self.state else state
        return self

    def result(self) -> dict[str, Any]:
        """Return what every module returns of its failure."""
        next_step = sentence(self.next_step or self.usual_step)
        state = join_sentences(self.state or self.usual_state)
        message, log = redact(self.message), cut_log(self.log)
        if len(message) > MESSAGE_LENGTH:
            log = log or cut_log(message.splitlines())
            half = MESSAGE_LENGTH // 2
            message = f"{message[:half].rstrip()} [...] {message[-half:].lstrip()}"
        return {
            "msg": join_sentences(message, state, next_step),
            "kind": self.kind,
            "state": state,
            "next_step": next_step,
            "log": log,
        }


class BadOption(DeliveryError):
    """An option that cannot be used."""

    kind = "bad_option"
    usual_step = "Correct the option, then run this again."


class TimeoutExceeded(DeliveryError):
    """A deadline passed before the awaited state was seen."""

    kind = "timeout"
    usual_step = "Find out what takes so long, or give a longer timeout, then run this again."


class Interrupted(DeliveryError):
    """The process was asked to end (SIGINT, SIGTERM, SIGHUP) in the middle of a change."""

    kind = "interrupted"
    usual_step = "Run this again."


class Unexpected(DeliveryError):
    """An exception that nobody foresaw: a mistake in this collection, or a machine in trouble."""

    kind = "unexpected"
    usual_state = "It is not known how far this came."
    usual_step = "Report this with the lines of log as a bug of immutable.delivery."

    def __init__(self, error: BaseException, *, state: str = "") -> None:
        words = " ".join(str(error).split())
        name = type(error).__name__
        super().__init__(
            f"unexpected error: {name}: {words}" if words else f"unexpected error: {name}",
            state=state,
        )
        self.traceback = "".join(traceback.format_exception(error))
        self.log = cut_log(self.traceback.splitlines())


def as_delivery_error(error: BaseException) -> DeliveryError:
    """Return *error* as a failure that can be reported."""
    if isinstance(error, DeliveryError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted from the keyboard")
    return Unexpected(error)


def summarize(failures: Sequence[Mapping[str, Any]], total: int) -> dict[str, Any]:
    """Return what a module returns whose *failures* have results and names of their own.

    It is short: the name and the first sentence of each; what else there is to say is in theirs.
    """
    if total == 1:
        return {name: failures[0][name] for name in ("msg", "kind", "state", "next_step", "log")}
    counted = f"{len(failures)} of {total} services failed"
    if len(failures) == total:
        counted = f"all {total} services failed"
    kinds = {one["kind"] for one in failures}
    error = DeliveryError(
        f"{counted}: {'; '.join(_named(one, 'msg') for one in failures)}",
        state=_of_each(failures, "state"),
        next_step=_of_each(failures, "next_step"),
    )
    return {**error.result(), "kind": kinds.pop() if len(kinds) == 1 else DeliveryError.kind}


def _named(one: Mapping[str, Any], key: str) -> str:
    first, *_more = split_sentences(one[key])
    return f"{one['name']}: {first.removesuffix('.')}"


def _of_each(failures: Sequence[Mapping[str, Any]], key: str) -> str:
    """Return what *key* says of all failures, or else the first sentence of each that says it."""
    texts = {one[key] for one in failures}
    if len(texts) == 1:
        return str(texts.pop())
    return "; ".join(_named(one, key) for one in failures if one[key])
