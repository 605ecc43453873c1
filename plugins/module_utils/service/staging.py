# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a deploy that concern a candidate, each with what takes it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..change import OnUndo, Step
from ..engine.errors import EngineError, Missing
from ..routers.base import Candidate
from ..routers.routing import Routing
from . import canary
from . import plan as steps
from .bring_up import addresses
from .model import UNPROVED, Member, Observed, trying

if TYPE_CHECKING:
    from .deploy import Deploy

# Seconds; what is taken back may still work on requests that had come to it.
LAST_REQUESTS = 10.0


def mark(deploy: Deploy, step: Step, on_undo: OnUndo) -> None:
    """Mark containers as not proved, or not any more."""
    engine = deploy.engine
    for member in deploy.before.members:
        if member.id not in step.detail["ids"]:
            continue
        marked = f"{member.name}{UNPROVED}"
        on_undo(partial(engine.rename, member.id, member.name), f"{member.name} is not marked")
        try:
            engine.rename(member.id, marked)
        except EngineError:
            if engine.inspect(member.id, member.name).running:
                raise
            # The engine renames nothing that it is about to start anew.
            again = partial(engine.start, member.id, member.name, restart=member.restart)
            on_undo(again, f"{member.name} was started again")
            engine.stop_and_keep(member.id, deploy.stop_timeout, member.name)
            engine.rename(member.id, marked)


def stage(deploy: Deploy, step: Step, on_undo: OnUndo) -> None:
    """Make the new instances the candidate, or give the one that there is another share."""
    routing, weight = deploy.routing, int(step.detail["weight"])
    having = deploy.candidate
    # A candidate that became unhealthy loses its share, and cannot be asked for a proof of that.
    lowered = having is not None and weight < having.weight
    urls = list(having.urls) if having is not None and lowered else addresses(deploy)
    deploy.routed = True
    on_undo(partial(wait_for_last, routing))
    routing.stage(urls, weight, on_undo, verify=not lowered)
    deploy.candidate = Candidate(tuple(urls), weight)


def wait_for_last(routing: Routing) -> str:
    """Let what is rolled back answer its last requests; an undo that says nothing of the state."""
    routing.drain(LAST_REQUESTS)
    return ""


def unstage(deploy: Deploy, step: Step, on_undo: OnUndo) -> None:
    """Send everybody to the live version."""
    deploy.routing.unstage(on_undo)
    deploy.candidate = None


def again(deploy: Deploy, promoted: Sequence[str], on_undo: OnUndo) -> None:
    """Note that the candidate comes back where a switch is taken back.

    One that did not stand the switch to itself comes back without a share.
    """
    having = deploy.candidate
    if having is not None:
        weight = 0 if set(promoted) & set(having.urls) else having.weight
        on_undo(partial(_restage, deploy, replace(having, weight=weight)))


def _restage(deploy: Deploy, candidate: Candidate) -> str:
    if not all(_runs_on(deploy, member) for member in trying(deploy.before)):
        # A router would wait in vain for it to be healthy.
        return "The candidate has ended, and is not staged any more"
    deploy.routing.restage(candidate)
    return f"The candidate is staged again, with {candidate.weight} % of the clients"


def _runs_on(deploy: Deploy, member: Member) -> bool:
    """Tell whether it has not ended since it was observed; it may have been started again."""
    try:
        seen = deploy.engine.inspect(member.id, member.name)
    except Missing:
        return False
    return seen.running and seen.started == member.started


def carried(deploy: Deploy) -> None:
    """Let a candidate that is not what was switched to go on being tried."""
    having = deploy.candidate
    deploy.candidate = None
    if having is not None and deploy.planned.intent.beside:
        deploy.routing.restage(having)
        deploy.candidate = having


def share(observed: Observed, member: Member) -> str:
    """Say which part of the clients comes to a candidate; nothing for others."""
    having = observed.candidate
    if having is None or not member.among(having.urls):
        return ""
    return f", candidate with {having.weight} %"


def planned_share(deploy: Deploy, observed: Observed) -> Candidate | None:
    """Return the candidate that the plan leads to, as far as it has addresses now."""
    intent = deploy.planned.intent
    for step in deploy.planned.steps:
        if step.action == canary.STAGE:
            urls = tuple(member.url or "" for member in intent.stay)
            return Candidate(urls, int(step.detail["weight"]))
        if step.action == steps.UNSTAGE or (step.action == steps.ROUTE and not intent.beside):
            return None
    return observed.candidate
