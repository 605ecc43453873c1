# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several services in one module call: each deployed in a process of its own, some at a time.

Processes, and not threads, since a deploy that is told to end undoes what it did, and only a
process's first thread can be told.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import DeliveryError, Interrupted, as_delivery_error, join_sentences
from ..signals import forget_handlers, ignore_signals, signals_as_errors, sleep, uninterrupted

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

Params = Mapping[str, Any]
Deploys = Callable[[Params], dict[str, Any]]

PR_SET_PDEATHSIG = 1


def outcome_of(deploy: Deploys, params: Params) -> dict[str, Any]:
    """Deploy one service; return its result, or with ``failed`` what the error says."""
    try:
        return {"name": params["name"], "failed": False, **deploy(params)}
    except Exception as error:
        return _failed(params["name"], as_delivery_error(error))


def _failed(name: str, error: DeliveryError) -> dict[str, Any]:
    return {"name": name, "failed": True, "changed": False, **error.result()}


def all_of(deploy: Deploys, services: Sequence[Params], parallel: int) -> list[dict[str, Any]]:
    """Deploy all of *services*, *parallel* at a time; return their results in the same order.

    One that fails does not keep the others from their end.

    :raises Interrupted: a signal came; those under way have undone what they did.
    """
    if len(services) == 1:
        return [outcome_of(deploy, services[0])]
    # Whoever deploys one service does not wait for what several need.
    from multiprocessing.connection import wait

    running: dict[Connection, _Running] = {}
    results: dict[int, dict[str, Any]] = {}
    waiting = list(enumerate(services))
    waiting.reverse()
    with signals_as_errors():
        try:
            while waiting or running:
                while waiting and len(running) < parallel:
                    # Python drops what is raised while it forks; and who is not noted is not ended.
                    with uninterrupted():
                        started = _start(deploy, *waiting.pop())
                        running[started.answers] = started
                for answers in wait(list(running)):
                    one = running[answers]  # type: ignore[index]
                    results[one.index] = one.result()
                    del running[one.answers]
        except BaseException as raised:
            ignore_signals()
            error = as_delivery_error(raised)
            if isinstance(error, Interrupted):
                error.message = "interrupted while several services were deployed"
            for one in running.values():
                one.process.terminate()
            ends = [one.result() for one in running.values()]
            said = (f"{end['name']}: {end.get('state', 'deployed')}" for end in ends)
            raise error.with_state(join_sentences(*said)) from None
    return [results[index] for index in range(len(services))]


@dataclass(frozen=True)
class _Running:
    index: int
    name: str
    process: BaseProcess
    answers: Connection

    def result(self) -> dict[str, Any]:
        """Wait for its end; return what it said, or that it said nothing."""
        try:
            said: dict[str, Any] = self.answers.recv()
        except EOFError:
            self.process.join()
            said = _failed(
                self.name,
                DeliveryError(
                    f"the deploy of {self.name} ended without a word ({self.process.exitcode})",
                    state="It may be half done.",
                    next_step="Run this again, which completes it or clears it away.",
                ),
            )
        self.process.join()
        self.answers.close()
        return said


def _start(deploy: Deploys, index: int, params: Params) -> _Running:
    import multiprocessing

    context = multiprocessing.get_context("fork")
    answers, ours = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(deploy, params, ours, os.getpid()))
    process.start()
    ours.close()
    return _Running(index, params["name"], process, answers)


def _child(deploy: Deploys, params: Params, answers: Connection, parent: int) -> None:
    import ctypes

    # What the parent's handlers would do is the parent's affair.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    try:
        # One that came before that was held back.
        sleep(0)
    except Interrupted:
        return
    # The deploy handles its signals itself, as one that is not a part of another's work.
    forget_handlers()
    # A parent that is killed cannot tell anybody to end.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == parent:
        answers.send(outcome_of(deploy, params))
