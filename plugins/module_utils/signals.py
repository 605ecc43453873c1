# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signals as errors, so that a change that is interrupted is undone like one that failed."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from .errors import Interrupted


class _Signals:
    """SIGINT, SIGTERM and SIGHUP as :class:`Interrupted`, once, and not inside a guarded block."""

    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.guarded = 0
        self.ignoring = False
        self.pending: str | None = None
        self.raised = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.raised:  # an undo in progress is not itself interrupted
            return
        self.pending = signal.Signals(signum).name
        if not self.guarded:
            self.raise_pending()

    def raise_pending(self) -> None:
        if self.pending is not None and not self.raised and not self.ignoring:
            self.raised = True
            raise Interrupted(f"interrupted by {self.pending}")


_signals: list[_Signals] = []


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _in_force() -> _Signals | None:
    """What handles signals now; none in other threads, which neither get nor guard against one."""
    return _signals[-1] if _signals and _in_main_thread() else None


@contextmanager
def signals_as_errors() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into :class:`Interrupted`, so that undo runs.

    Only the first of them, up to the end of the outermost of such blocks: what an inner block
    undoes, and what the outer one undoes after it, are not interrupted. Outside the main thread
    signals cannot be handled, and nothing is changed.

    :raises Interrupted: at once, if a signal came while an earlier inner block ignored them.
    """
    if not _in_main_thread():
        yield
    elif outer := _in_force():
        ignoring = outer.ignoring
        outer.raise_pending()
        try:
            yield
        finally:
            outer.ignoring = ignoring
    else:
        with _handling():
            yield


@contextmanager
def _handling() -> Iterator[None]:
    handler = _Signals()
    before = {number: signal.signal(number, handler) for number in handler.handled}
    _signals.append(handler)
    try:
        yield
    finally:
        _signals.pop()
        for number, earlier in before.items():
            signal.signal(number, earlier)


def ignore_signals() -> None:
    """Let no signal interrupt what follows, until this :func:`signals_as_errors` is left.

    For an undo, which must run to its end, and for the end of a change that is done.
    """
    if handler := _in_force():
        handler.ignoring = True


def raise_swallowed() -> None:
    """Raise a signal again whose :class:`Interrupted` something took for an ordinary failure.

    :raises Interrupted: there is one, and nothing is being undone.
    """
    if (handler := _in_force()) and handler.raised and not handler.ignoring:
        raise Interrupted(f"interrupted by {handler.pending}")


def forget_handlers() -> None:
    """Forget a parent's handlers, in a process that was forked: they are not in force there."""
    _signals.clear()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold a signal back until the block is left.

    For the few moments between a request that changes something and the note of how to undo it.
    The block must be short and bounded.
    """
    handler = _in_force() or _Signals()
    handler.guarded += 1
    try:
        yield
    finally:
        handler.guarded -= 1
    if not handler.guarded:
        handler.raise_pending()


def sleep(seconds: float) -> None:
    """Sleep; a wait may always be interrupted, since nothing is under way meanwhile.

    One in another thread leaves signals to the main thread.

    :raises Interrupted: a signal came, now or while it was held back.
    """
    handler = _in_force() or _Signals()
    guarded, handler.guarded = handler.guarded, 0
    try:
        handler.raise_pending()
        time.sleep(seconds)
    finally:
        handler.guarded = guarded
