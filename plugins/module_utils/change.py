# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runner that every module is: observe, plan, apply with undo, verify.

Check mode stops after the plan, diff mode shows what was observed beside what is planned, and
idempotence is an empty plan. Undo, timing and signals are written here once, not once a module.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from .errors import DeliveryError, sentence
from .signals import ignore_signals, signals_as_errors

ObservedT = TypeVar("ObservedT")
# What it returns, where that is text, says what was done; an empty one says nothing.
Undo = Callable[[], object]


class OnUndo(Protocol):
    """Takes what undoes a step, and says in a few words what stands once that was done."""

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
        """Return the steps from *observed* to what is wanted; pure."""

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step; hand to *on_undo* what takes it back, as soon as there is something."""

    def verify(self, observed: ObservedT, applied: Sequence[Step]) -> ObservedT:
        """Observe again and raise where the result is not what was planned."""

    def describe(self, observed: ObservedT) -> str:
        """Show a state for diff mode; no secrets."""

    def expected(self, observed: ObservedT, steps: Sequence[Step]) -> str:
        """Show the planned state for diff mode; no secrets."""


@dataclass
class Outcome(Generic[ObservedT]):
    """What a run did. ``steps`` lists each planned step with its seconds (0 in check mode)."""

    changed: bool
    before: ObservedT
    after: ObservedT
    steps: list[dict[str, Any]]
    diff: dict[str, str]

    def result(self) -> dict[str, Any]:
        """Return the part of a module's result that is the same for all modules."""
        return {"changed": self.changed, "steps": self.steps, "diff": self.diff}


@dataclass(frozen=True)
class _Noted:
    step: Step
    undo: Undo
    state: str


def _undo_all(noted: list[_Noted]) -> str:
    """Undo in reverse; return what stands then."""
    undone: list[str] = []
    failed: list[str] = []
    for note in reversed(noted):
        try:
            said = note.undo()
        except Exception as error:  # an undo that fails must not keep the others from running
            reason = sentence(str(error) or type(error).__name__)
            failed.append(f"Could NOT take this step back: {sentence(note.step.summary)} {reason}")
        else:
            if not isinstance(said, str):
                said = note.state or f"taken back: {note.step.summary}"
            undone += [said] if said else []
    text = "; ".join(undone)
    # A name at the beginning, such as v24-1, stays as it is.
    if text.split(" ", 1)[0].isalpha():
        text = text[:1].upper() + text[1:]
    parts = [f"{text}."] if text else []
    return " ".join(parts + failed)


def run(
    change: Change[ObservedT],
    *,
    check_mode: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome[ObservedT]:
    """Run *change* through its four moves.

    :raises DeliveryError: a move failed; what had been applied has been undone in reverse, and the
        error says what was taken back and what was not. Other exceptions are undone likewise and
        pass through.
    """
    with signals_as_errors():
        try:
            before = change.observe()
            plan = list(change.plan(before))
        except DeliveryError as error:
            error.state = error.state or "Nothing was changed."
            raise
        diff = {"before": change.describe(before), "after": change.expected(before, plan)}
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
                    done.append({"step": step.summary, "seconds": round(clock() - started, 3)})
                after = change.verify(before, plan)
                diff["after"] = change.describe(after)
            finally:
                # A signal that comes before this is still undone, by the handler around it; one
                # that comes later neither breaks an undo off nor takes a finished change for a
                # failed one.
                ignore_signals()
        except BaseException as error:
            state = _undo_all(undos)
            if isinstance(error, DeliveryError) and state:
                raise error.with_state(state) from error.__cause__
            raise
        return Outcome(True, before, after, done, diff)
