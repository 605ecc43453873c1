# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runner that every module is: observe, plan, apply with undo, verify.

Check mode stops after the plan, diff mode shows what was observed beside what is planned, and
idempotence is an empty plan. Undo, timing and signals are written here once, not once a module.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from .errors import DeliveryError, as_delivery_error, join_sentences
from .signals import ignore_signals, raise_swallowed, signals_as_errors

ObservedT = TypeVar("ObservedT")
# What it returns, where that is text, says what was done; an empty one says nothing.
Undo = Callable[[], object]


class WholeState(str):
    """What an undo returns that says all of the current state; what others say is left out."""

    __slots__ = ()


class OnUndo(Protocol):
    """Takes what undoes a step, and a sentence on the state once that was done.

    The sentence is shown as it is: it begins with a capital letter, or with a name.
    """

    def __call__(self, undo: Undo, state: str = "") -> None:
        """Note *undo*, to be run if this step or a later one fails."""


@dataclass(frozen=True)
class Step:
    """One step of a plan: data only, so that plans can be compared and printed.

    :param action: the word that the change's ``apply`` knows.
    :param summary: what it does, for people: "register http://... as demo".
    :param detail: what ``apply`` needs to know.
    """

    action: str
    summary: str
    detail: Mapping[str, Any] = field(default_factory=dict)


class Change(Protocol[ObservedT]):
    """What a module supplies to the runner."""

    def observe(self) -> ObservedT:
        """Read the real state; change nothing."""

    def plan(self, observed: ObservedT) -> Sequence[Step]:
        """Return the steps from *observed* to the desired state; pure."""

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step; hand to *on_undo* what undoes it, as soon as there is something."""

    def verify(self, observed: ObservedT, applied: Sequence[Step]) -> ObservedT:
        """Observe again and raise if the result is not what was planned."""

    def describe(self, observed: ObservedT) -> str:
        """Show a state for diff mode; no secrets."""

    def expected(self, observed: ObservedT, steps: Sequence[Step]) -> str:
        """Show the planned state for diff mode; no secrets."""


@dataclass
class Outcome(Generic[ObservedT]):
    """What a run did. ``steps`` lists each planned step with its seconds (0 in check mode).

    ``changed`` is also true if check mode planned a change; ``made`` only if one was made.
    """

    changed: bool
    before: ObservedT
    after: ObservedT
    steps: list[dict[str, Any]]
    diff: dict[str, str]
    made: bool = False

    def result(self) -> dict[str, Any]:
        """Return the part of a module's result that is the same for all modules."""
        return {"changed": self.changed, "steps": self.steps, "diff": self.diff}


@dataclass(frozen=True)
class _Noted:
    step: Step
    undo: Undo
    state: str


def _undo_all(noted: list[_Noted], error: DeliveryError) -> None:
    """Undo in reverse; add to *error* what state that left, and what to do about it."""
    undone: list[str] = []
    whole: list[str] = []
    failed: list[str] = []
    steps: list[str] = []
    for note in reversed(noted):
        try:
            said = note.undo()
        except BaseException as raised:  # whatever it is, the other undos must run
            reason = as_delivery_error(raised)
            summary, why = note.step.summary, reason.message.rstrip(".")
            failed += [f"Could not be rolled back: {summary} ({why}).", reason.state]
            steps.append(reason.next_step)
        else:
            if not isinstance(said, str):
                said = note.state or f"Rolled back: {note.step.summary}"
            (whole if isinstance(said, WholeState) else undone).append(said)
    if noted:
        error.with_state(join_sentences(*(whole or undone), *failed))
    if failed:
        by_hand = join_sentences(*steps) or "Fix by hand what could not be rolled back."
        error.next_step = join_sentences(by_hand, error.next_step or "Then run this again.")


def run(
    change: Change[ObservedT],
    *,
    check_mode: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome[ObservedT]:
    """Run *change* through its four moves.

    :raises DeliveryError: a move failed; what had been applied has been undone in reverse, and the
        error says what was rolled back and what was not. Any other exception becomes one.
    """
    with signals_as_errors():
        try:
            before = change.observe()
            plan = list(change.plan(before))
            diff = {"before": change.describe(before), "after": change.expected(before, plan)}
        except BaseException as raised:
            error = as_delivery_error(raised)
            error.state = error.state or "Nothing was changed."
            raise error from _cause(raised)
        if check_mode or not plan:
            steps = [{"step": step.summary, "seconds": 0.0} for step in plan]
            return Outcome(bool(plan), before, before, steps, diff)
        undos: list[_Noted] = []
        done: list[dict[str, Any]] = []

        def note(step: Step) -> OnUndo:
            return lambda undo, state="": undos.append(_Noted(step, undo, state))

        try:
            try:
                for step in plan:
                    started = clock()
                    change.apply(step, note(step))
                    raise_swallowed()
                    done.append({"step": step.summary, "seconds": round(clock() - started, 3)})
                after = change.verify(before, plan)
                raise_swallowed()
                diff["after"] = change.describe(after)
            finally:
                # A signal that comes before this is still undone, by the handler around it; one
                # that comes later neither breaks an undo off nor takes a finished change for a
                # failed one.
                ignore_signals()
        except BaseException as raised:
            error = as_delivery_error(raised)
            _undo_all(undos, error)
            error.state = error.state or _progress(plan, len(done))
            raise error from _cause(raised)
        return Outcome(True, before, after, done, diff, made=True)


def _cause(raised: BaseException) -> BaseException | None:
    return raised.__cause__ if isinstance(raised, DeliveryError) else raised


def _progress(plan: Sequence[Step], done: int) -> str:
    """Say how far a change came of which nothing can be undone."""
    parts = []
    if done:
        parts.append(f"Done: {'; '.join(step.summary for step in plan[:done])}.")
    if done < len(plan):
        parts.append(f"Not completed: {plan[done].summary}.")
    return " ".join(parts)


@contextmanager
def undoing(undo: Undo) -> Iterator[None]:
    """Run *undo* if the block fails; the text that it returns is added to the state.

    :raises DeliveryError: the block failed.
    """
    try:
        yield
    except BaseException as raised:
        error = as_delivery_error(raised)
        try:
            said = undo()
        except BaseException as failed:  # what failed first must be reported
            reason = as_delivery_error(failed)
            why = reason.message.rstrip(".")
            error.with_state(join_sentences(f"Could not be rolled back ({why}).", reason.state))
            error.next_step = join_sentences(reason.next_step, error.next_step)
        else:
            if isinstance(said, str) and said:
                error.with_state(said)
        raise error from _cause(raised)


@contextmanager
def after(outcome: Outcome[Any], state: str = "The change itself was made.") -> Iterator[None]:
    """Let a failure of what follows a change say that the change was made.

    :raises DeliveryError: the block failed.
    """
    try:
        yield
    except BaseException as raised:
        error = as_delivery_error(raised)
        if outcome.made:
            error.with_state(state)
        error.state = error.state or "Nothing was changed."
        raise error from _cause(raised)
