# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import signal
import threading

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils import signals
from ansible_collections.immutable.delivery.plugins.module_utils.errors import Interrupted
from ansible_collections.immutable.delivery.plugins.module_utils.signals import (
    ignore_signals,
    signals_as_errors,
    sleep,
    uninterrupted,
)

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def send(number: signal.Signals) -> None:
    """Send this process a signal; it has been handled when this returns."""
    os.kill(os.getpid(), number)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in HANDLED]


@pytest.mark.parametrize("number", HANDLED)
def test_a_signal_is_an_error_that_names_it(number: signal.Signals) -> None:
    before = handlers()
    with (
        pytest.raises(Interrupted, match=f"^interrupted by {number.name}\\.$"),
        signals_as_errors(),
    ):
        send(number)
        pytest.fail("the signal did not interrupt")
    assert handlers() == before


def test_handlers_are_restored_without_a_signal() -> None:
    before = handlers()
    with signals_as_errors():
        assert handlers() != before
    assert handlers() == before


def test_a_second_signal_is_ignored() -> None:
    with signals_as_errors():
        with pytest.raises(Interrupted):
            send(signal.SIGTERM)
        send(signal.SIGINT)
        send(signal.SIGTERM)
        sleep(0)


def test_a_signal_is_held_back_until_the_block_is_left() -> None:
    reached = []
    with signals_as_errors(), pytest.raises(Interrupted, match="SIGTERM"):
        with uninterrupted():
            send(signal.SIGTERM)
            reached.append("inside")
        reached.append("after")
    assert reached == ["inside"]


def test_an_inner_block_does_not_let_go_of_an_outer_one() -> None:
    reached = []
    with signals_as_errors(), pytest.raises(Interrupted), uninterrupted():
        with uninterrupted():
            send(signal.SIGHUP)
        reached.append("outer")
    assert reached == ["outer"]


def test_an_error_leaves_the_block_as_itself() -> None:
    with signals_as_errors():
        with pytest.raises(ValueError, match="first"), uninterrupted():
            send(signal.SIGTERM)
            raise ValueError("first")
        with pytest.raises(Interrupted):
            sleep(0)


def test_a_wait_in_the_block_may_be_interrupted() -> None:
    with signals_as_errors(), uninterrupted():
        send(signal.SIGTERM)
        with pytest.raises(Interrupted):
            sleep(0)


def test_a_signal_during_a_wait_in_the_block_ends_it() -> None:
    timer = threading.Timer(0.05, send, [signal.SIGTERM])
    with signals_as_errors(), uninterrupted():
        timer.start()
        with pytest.raises(Interrupted):
            sleep(60)
        timer.join()


def test_the_block_guards_again_after_a_wait() -> None:
    reached = []
    with signals_as_errors(), pytest.raises(Interrupted), uninterrupted():
        sleep(0)
        send(signal.SIGTERM)
        reached.append("held back")
    assert reached == ["held back"]


def test_from_some_moment_on_signals_can_be_ignored() -> None:
    before = handlers()
    with signals_as_errors():
        ignore_signals()
        send(signal.SIGTERM)
        with uninterrupted():
            send(signal.SIGINT)
        sleep(0)
    assert handlers() == before


@pytest.mark.parametrize("number", HANDLED)
def test_a_second_signal_interrupts_neither_an_inner_undo_nor_the_outer_one(
    number: signal.Signals,
) -> None:
    undone = []
    with signals_as_errors():
        try:
            try:
                with signals_as_errors():
                    send(signal.SIGTERM)
            finally:
                send(number)
                with signals_as_errors():
                    send(number)
                    sleep(0)
                    undone.append("inner")
        except Interrupted:
            send(number)
            sleep(0)
            undone.append("outer")
    assert undone == ["inner", "outer"]


def test_what_an_inner_block_ignores_interrupts_what_comes_after_it() -> None:
    reached = []
    with signals_as_errors():
        with signals_as_errors():
            ignore_signals()
            send(signal.SIGTERM)
            sleep(0)
            reached.append("the end of what is done")
        with pytest.raises(Interrupted, match="SIGTERM"), signals_as_errors():
            reached.append("what comes next")
    assert reached == ["the end of what is done"]


def test_an_inner_block_does_not_end_that_the_outer_one_ignores_signals() -> None:
    with signals_as_errors():
        ignore_signals()
        with signals_as_errors():
            send(signal.SIGTERM)
        sleep(0)


def test_all_of_it_is_harmless_where_no_signal_is_handled() -> None:
    before = handlers()
    ignore_signals()
    with uninterrupted():
        sleep(0)
    assert handlers() == before


def test_outside_the_main_thread_nothing_is_changed() -> None:
    before = handlers()
    seen: list[list[object]] = []

    def work() -> None:
        with signals_as_errors():
            seen.append(handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_wait_in_another_thread_leaves_signals_to_the_main_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asleep, woken = threading.Event(), threading.Event()
    monkeypatch.setattr(signals.time, "sleep", lambda _: asleep.set() or woken.wait(60))
    sleeper = threading.Thread(target=sleep, args=[60])
    reached = []
    with signals_as_errors(), pytest.raises(Interrupted, match="SIGTERM"), uninterrupted():
        sleeper.start()
        assert asleep.wait(60)
        send(signal.SIGTERM)
        reached.append("held back while it sleeps")
        woken.set()
        sleeper.join()
        reached.append("and after")
    assert reached == ["held back while it sleeps", "and after"]
