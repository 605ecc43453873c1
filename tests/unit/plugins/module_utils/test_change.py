# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.change import (
    OnUndo,
    Outcome,
    Step,
    WholeState,
    after,
    run,
    undoing,
)
from ansible_collections.immutable.delivery.plugins.module_utils.errors import (
    DeliveryError,
    Interrupted,
    TimeoutExceeded,
)
from ansible_collections.immutable.delivery.plugins.module_utils.signals import uninterrupted

Act = Callable[[], None]
HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def nothing() -> None:
    """Do nothing."""


def failing(error: BaseException) -> Act:
    def act() -> None:
        raise error

    return act


def signalling(number: signal.Signals) -> Act:
    return lambda: os.kill(os.getpid(), number)


class Recorder:
    """A change of numbered steps that writes down every move; *acts* are called in its moves."""

    def __init__(self, steps: int = 3, **acts: Act) -> None:
        self.steps = steps
        self.acts = acts
        self.log: list[str] = []
        self.state = True

    def _move(self, name: str) -> None:
        self.log.append(name)
        self.acts.get(name.replace(" ", "_"), nothing)()

    def observe(self) -> str:
        self._move("observe")
        return "old"

    def plan(self, observed: str) -> Sequence[Step]:
        self._move("plan")
        return [Step("step", f"do {n}", {"n": n}) for n in range(self.steps)]

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        number = step.detail["n"]
        self._move(f"before {number}")
        stands = f"{number} is undone" if self.state else ""
        on_undo(lambda: self._move(f"undo {number}"), stands)
        self._move(f"apply {number}")

    def verify(self, observed: str, applied: Sequence[Step]) -> str:
        self._move("verify")
        return "new"

    def describe(self, observed: str) -> str:
        self._move("describe")
        return observed

    def expected(self, observed: str, steps: Sequence[Step]) -> str:
        return f"{observed} and {len(steps)} steps"

    @property
    def done(self) -> list[str]:
        return [entry for entry in self.log if entry.startswith(("apply", "undo", "verify"))]


def run_failing(change: Recorder) -> DeliveryError:
    with pytest.raises(DeliveryError) as raised:
        run(change)
    return raised.value


def test_the_moves_come_in_order_and_the_result_is_what_was_seen() -> None:
    change = Recorder(2)
    ticks = itertools.count(0, 1.5)
    outcome = run(change, clock=lambda: next(ticks))
    assert change.log == [
        *("observe", "plan", "describe"),
        *("before 0", "apply 0", "before 1", "apply 1"),
        *("verify", "describe"),
    ]
    steps = [{"step": "do 0", "seconds": 1.5}, {"step": "do 1", "seconds": 1.5}]
    diff = {"before": "old", "after": "new"}
    assert outcome == Outcome(True, "old", "new", steps, diff, made=True)
    assert outcome.result() == {"changed": True, "steps": steps, "diff": diff}


def test_check_mode_applies_nothing_and_tells_the_plan() -> None:
    change = Recorder(2)
    outcome = run(change, check_mode=True)
    assert change.log == ["observe", "plan", "describe"]
    assert outcome.result() == {
        "changed": True,
        "steps": [{"step": "do 0", "seconds": 0.0}, {"step": "do 1", "seconds": 0.0}],
        "diff": {"before": "old", "after": "old and 2 steps"},
    }


@pytest.mark.parametrize("check_mode", [False, True])
def test_an_empty_plan_changes_nothing(check_mode: bool) -> None:
    change = Recorder(0)
    outcome = run(change, check_mode=check_mode)
    assert change.log == ["observe", "plan", "describe"]
    assert not outcome.changed
    assert outcome.after == outcome.before == "old"


@pytest.mark.parametrize("move", ["observe", "plan"])
def test_a_failure_before_the_first_step_changed_nothing(move: str) -> None:
    change = Recorder(**{move: failing(DeliveryError("no such server", next_step="Look."))})
    assert str(run_failing(change)) == "no such server. Nothing was changed. Look."
    assert change.done == []


def test_an_error_that_knows_what_stands_before_the_first_step_keeps_its_words() -> None:
    change = Recorder(observe=failing(DeliveryError("bad file", state="Nothing was sent.")))
    assert str(run_failing(change)) == "bad file. Nothing was sent."


@given(steps=st.integers(1, 8), data=st.data())
def test_what_was_done_is_undone_in_reverse_at_whatever_step_it_fails(
    steps: int, data: st.DataObject
) -> None:
    failed = data.draw(st.integers(0, steps), label="failing step, or verify")
    # A step may fail before it has anything to take back, or after.
    when = data.draw(st.sampled_from(["before", "apply"]), label="when") if failed < steps else ""
    name = f"{when}_{failed}" if when else "verify"
    change = Recorder(steps, **{name: failing(DeliveryError("it broke"))})
    error = run_failing(change)
    begun = failed + 1 if when == "apply" else failed
    undone = [entry for entry in change.log if entry.startswith("undo")]
    assert undone == [f"undo {number}" for number in reversed(range(begun))]
    assert ("verify" in change.log) == (failed == steps)
    expected = " ".join(f"{number} is undone." for number in reversed(range(begun)))
    assert error.state == (expected if begun else "Not completed: do 0.")


def test_a_step_without_words_is_named_by_its_summary() -> None:
    change = Recorder(2, verify=failing(DeliveryError("it broke", next_step="Try again.")))
    change.state = False
    assert str(run_failing(change)) == (
        "it broke. Rolled back: do 1. Rolled back: do 0. Try again."
    )


def test_names_stay_as_they_are_and_what_says_the_whole_state_stands_alone() -> None:
    def failed(*said: str) -> str:
        change = Recorder(1, verify=failing(DeliveryError("it broke", next_step="Try again.")))

        def apply(step: Step, on_undo: OnUndo) -> None:
            for text in said:
                on_undo(lambda text=text: text)

        change.apply = apply  # type: ignore[method-assign]
        return str(run_failing(change))

    names = ("The lock is given back", "api goes to http://a", "shop is registered nowhere")
    assert failed(*names) == (
        "it broke. shop is registered nowhere. api goes to http://a. The lock is given back. "
        "Try again."
    )
    assert failed(WholeState("Live as before: v1."), *names) == (
        "it broke. Live as before: v1. Try again."
    )


def test_an_undo_that_fails_does_not_keep_the_others_from_running() -> None:
    change = Recorder(
        verify=failing(DeliveryError("it broke", state="Users may have noticed.")),
        undo_1=failing(
            DeliveryError("the server is gone", state="It stays locked.", next_step="Unlock it.")
        ),
    )
    error = run_failing(change)
    assert change.done[-3:] == ["undo 2", "undo 1", "undo 0"]
    assert str(error) == (
        "it broke. Users may have noticed. 2 is undone. 0 is undone. "
        "Could not be rolled back: do 1 (the server is gone). It stays locked. Unlock it. "
        "Then run this again."
    )


def test_every_undo_that_fails_is_told_and_one_without_words_by_its_kind() -> None:
    change = Recorder(
        2,
        verify=failing(DeliveryError("it broke")),
        undo_1=failing(OSError("no route")),
        undo_0=failing(RuntimeError()),
    )
    assert run_failing(change).state == (
        "Could not be rolled back: do 1 (unexpected error: OSError: no route). "
        "Could not be rolled back: do 0 (unexpected error: RuntimeError)."
    )


def test_the_error_keeps_its_kind_and_its_cause() -> None:
    cause = OSError("socket")
    error = TimeoutExceeded("too late")
    error.__cause__ = cause
    raised = run_failing(Recorder(apply_1=failing(error)))
    assert raised is error
    assert raised.kind == "timeout"
    assert raised.__cause__ is cause


OTHERS = [
    (KeyError("weight"), "unexpected error: KeyError: 'weight'"),
    (MemoryError(), "unexpected error: MemoryError"),
    (SystemExit(3), "unexpected error: SystemExit: 3"),
    (KeyboardInterrupt(), "interrupted from the keyboard"),
]


@pytest.mark.parametrize(("other", "message"), OTHERS)
def test_any_other_exception_is_undone_and_reported(other: BaseException, message: str) -> None:
    change = Recorder(apply_1=failing(other), undo_0=failing(DeliveryError("it is gone")))
    error = run_failing(change)
    assert error.__cause__ is other
    assert error.message == message
    assert error.state == "1 is undone. Could not be rolled back: do 0 (it is gone)."
    assert change.done == ["apply 0", "apply 1", "undo 1", "undo 0"]


@pytest.mark.parametrize(("other", "message"), OTHERS)
def test_whatever_an_undo_raises_the_others_run_and_it_is_reported(
    other: BaseException, message: str
) -> None:
    change = Recorder(verify=failing(DeliveryError("it broke")), undo_1=failing(other))
    error = run_failing(change)
    assert change.done[-3:] == ["undo 2", "undo 1", "undo 0"]
    assert error.state == (f"2 is undone. 0 is undone. Could not be rolled back: do 1 ({message}).")


@pytest.mark.parametrize("move", ["observe", "plan", "describe"])
@pytest.mark.parametrize(("other", "message"), OTHERS)
def test_any_other_exception_before_the_first_step_changed_nothing(
    move: str, other: BaseException, message: str
) -> None:
    error = run_failing(Recorder(**{move: failing(other)}))
    assert str(error) == f"{message}. Nothing was changed."


def test_a_change_that_notes_no_undo_says_how_far_it_came() -> None:
    class Final(Recorder):
        def apply(self, step: Step, on_undo: OnUndo) -> None:
            super().apply(step, lambda undo, state="": None)

    error = run_failing(Final(apply_2=failing(DeliveryError("it broke"))))
    assert error.state == "Done: do 0; do 1. Not completed: do 2."
    assert run_failing(Final(2, verify=failing(KeyError()))).state == "Done: do 0; do 1."


@pytest.mark.parametrize(("other", "message"), OTHERS)
@pytest.mark.parametrize(
    ("steps", "check_mode", "state"),
    [
        (1, False, "The change itself was made."),
        (1, True, "Nothing was changed."),
        (0, False, "Nothing was changed."),
    ],
)
def test_a_failure_after_the_change_says_whether_it_was_made(
    steps: int, check_mode: bool, state: str, other: BaseException, message: str
) -> None:
    outcome = run(Recorder(steps), check_mode=check_mode)
    with pytest.raises(DeliveryError) as raised, after(outcome):
        raise other
    assert str(raised.value) == f"{message}. {state}"
    assert raised.value.__cause__ is other


@pytest.mark.parametrize(("other", "message"), OTHERS)
def test_what_a_block_does_is_undone_whatever_it_fails_with(
    other: BaseException, message: str
) -> None:
    with pytest.raises(DeliveryError) as raised, undoing(lambda: "The file is as it was."):
        raise other
    assert str(raised.value) == f"{message}. The file is as it was."
    assert raised.value.__cause__ is other


@pytest.mark.parametrize(("other", "message"), OTHERS)
def test_a_block_that_cannot_be_undone_says_both(other: BaseException, message: str) -> None:
    first = DeliveryError("it broke", next_step="Look.")
    with pytest.raises(DeliveryError) as raised, undoing(failing(other)):
        raise first
    assert str(raised.value) == f"it broke. Could not be rolled back ({message}). Look."


def test_nothing_is_undone_of_a_block_that_succeeds() -> None:
    with undoing(failing(AssertionError())):
        pass


@pytest.mark.parametrize("number", HANDLED)
@pytest.mark.parametrize(
    ("move", "undone"),
    [
        ("before_0", []),
        ("apply_0", ["undo 0"]),
        ("before_2", ["undo 1", "undo 0"]),
        ("verify", ["undo 2", "undo 1", "undo 0"]),
    ],
)
def test_a_signal_is_undone_like_a_failure(
    number: signal.Signals, move: str, undone: list[str]
) -> None:
    before = [signal.getsignal(handled) for handled in HANDLED]
    change = Recorder(**{move: signalling(number)})
    error = run_failing(change)
    assert isinstance(error, Interrupted)
    assert error.message == f"interrupted by {number.name}"
    assert [entry for entry in change.log if entry.startswith("undo")] == undone
    assert [signal.getsignal(handled) for handled in HANDLED] == before


def test_a_signal_before_the_first_step_changed_nothing() -> None:
    change = Recorder(plan=signalling(signal.SIGTERM))
    assert str(run_failing(change)) == "interrupted by SIGTERM. Nothing was changed."


@pytest.mark.parametrize(
    "first",
    [failing(DeliveryError("it broke")), signalling(signal.SIGTERM)],
    ids=["failure", "signal"],
)
def test_no_signal_breaks_an_undo_off(first: Act) -> None:
    change = Recorder(
        apply_2=first,
        undo_2=signalling(signal.SIGTERM),
        undo_1=signalling(signal.SIGINT),
    )
    assert run_failing(change).state == "2 is undone. 1 is undone. 0 is undone."


def test_a_signal_in_a_guarded_step_waits_until_its_undo_is_noted() -> None:
    class Guarded(Recorder):
        def apply(self, step: Step, on_undo: OnUndo) -> None:
            with uninterrupted():
                super().apply(step, on_undo)

    change = Guarded(before_1=signalling(signal.SIGTERM))
    run_failing(change)
    assert change.done == ["apply 0", "apply 1", "undo 1", "undo 0"]


def test_a_signal_up_to_the_very_end_is_undone_too() -> None:
    """Nobody would read a result, so a lock that was to be kept must not be."""
    change = Recorder(1)
    described = 0

    def on_second_look() -> None:
        nonlocal described
        described += 1
        if described == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    change.acts["describe"] = on_second_look
    with pytest.raises(Interrupted):
        run(change)
    assert change.done == ["apply 0", "verify", "undo 0"]


@pytest.mark.parametrize("move", ["apply_1", "verify"])
def test_a_signal_that_a_move_takes_for_an_ordinary_failure_ends_the_change(move: str) -> None:
    def swallow() -> None:
        with suppress(DeliveryError):
            os.kill(os.getpid(), signal.SIGTERM)

    change = Recorder(**{move: swallow})
    assert "interrupted by SIGTERM" in str(run_failing(change))
    assert change.log[-1] == "undo 0"
    assert "apply 2" not in change.log or move == "verify"
