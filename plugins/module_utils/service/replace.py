# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fixed port changes hands: who holds it is stopped, and the new one started there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ..change import OnUndo, Step
from ..deadline import Pace
from ..engine.containers import NO_RESTART
from ..engine.errors import Missing
from ..engine.health import grace_after
from ..engine.parallel import patiently
from ..errors import DeliveryError, enumerate_words
from .bring_up import wait
from .model import Member

if TYPE_CHECKING:
    from .deploy import Deploy

# The gap of a fixed port is as long as it takes to see that it is over.
FAST = Pace(interval=0.05)


def replace(deploy: Deploy, step: Step, on_undo: OnUndo) -> None:
    """Stop and keep who holds the port, and start the new one."""
    engine = deploy.engine
    (coming,) = deploy.coming_ids()
    holders = [
        member
        for member in deploy.planned.intent.holders
        if engine.inspect(member.id, member.name).alive
    ]
    asked: list[Member] = []
    _note(deploy, coming, holders, asked, on_undo)
    # Nothing lies in the gap but what must: a stop, a start, and the wait.
    engine.make_live(coming)
    began = deploy.clock()
    for member in holders:
        asked.append(member)
        engine.stop(member.id, deploy.stop_timeout, member.name)
    engine.start(coming, step.detail["name"])
    wait(deploy, [coming], FAST)
    if holders:
        deploy.downtime = round(deploy.clock() - began, 3)
    for member in holders:
        # What is stopped is removed by any cleaning, which is no failure of the new one.
        with suppress(Missing):
            engine.set_restart(member.id, NO_RESTART, member.name)


def _note(
    deploy: Deploy,
    coming: str,
    holders: Sequence[Member],
    asked: Sequence[Member],
    on_undo: OnUndo,
) -> None:
    """Note how to give the port back, and then, once somebody serves there, the route."""
    routing, before = deploy.observer.routing, deploy.before.route
    if holders and routing is not None and before:
        deploy.restores_route = True
        text = f"{deploy.wanted.route} goes to {enumerate_words(before)}"
        on_undo(partial(routing.restore, lambda: before), text)
    names = enumerate_words(member.name for member in holders)
    text = f"{names} serves port {deploy.wanted.fixed_port} again" if holders else ""
    on_undo(partial(put_back, deploy, coming, asked), text)


def put_back(deploy: Deploy, coming: str, asked: Sequence[Member]) -> None:
    """Stop the new one, start those again that were asked to stop, and see them healthy."""
    engine, grace = deploy.engine, deploy.stop_timeout
    there = [member for member in asked if _exists(deploy, member)]
    if asked and not there:
        deploy.alone = True
        gone = enumerate_words(member.name for member in asked)
        raise Missing(f"{gone} was removed by somebody, and cannot be started again")
    asked = there
    with suppress(DeliveryError):
        patiently(_end, deploy, coming)
    for member in asked:
        patiently(engine.start_again, member.id, grace, member.name)
    # One that was failing before may be so again.
    restored = [member.id for member in asked if not member.failing]
    try:
        if restored:
            wait(deploy, restored, FAST, new=False)
    finally:
        for member in asked:
            patiently(engine.make_live, member.id)
        with suppress(DeliveryError):
            patiently(engine.set_restart, coming, NO_RESTART)


def _end(deploy: Deploy, coming: str) -> None:
    seen = deploy.engine.inspect(coming)
    grace = grace_after(seen, deploy.healthy.get(coming), deploy.stop_timeout)
    deploy.engine.stop(coming, grace, seen.name)


def _exists(deploy: Deploy, member: Member) -> bool:
    try:
        patiently(deploy.engine.inspect, member.id, member.name)
    except Missing:
        return False
    return True
