# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps by which new instances get the traffic, are watched with it, and are called proved."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..change import OnUndo, Step, Undo
from ..engine import health
from ..engine.containers import NO_RESTART
from ..engine.inspect import Container
from . import staging
from .bring_up import addresses, final, look_again
from .go_back import former_addresses
from .model import UNPROVED

if TYPE_CHECKING:
    from .deploy import Deploy


def policy(deploy: Deploy, step: Step, on_undo: OnUndo) -> None:
    """Give what is to be live its restart policy; or ``no`` to those that the step names."""
    engine = deploy.engine
    for member in deploy.planned.intent.stay:
        # The others are removed, or stopped and kept, if this is undone.
        text = f"{member.name} has the restart policy {member.restart} again"
        on_undo(partial(engine.set_restart, member.id, member.restart, member.name), text)
    if "ids" in step.detail:
        for one in step.detail["ids"]:
            engine.set_restart(one, NO_RESTART)
        return
    for one in deploy.final_ids():
        engine.make_live(one)


def route(deploy: Deploy, step: Step, on_undo: OnUndo) -> None:
    """Send the traffic to the new instances, and prove it through the router."""
    routing = deploy.observer.routing
    if routing is None:
        return
    urls = addresses(deploy)
    deploy.routed = True
    routing.watch = partial(look_again, deploy)
    if not deploy.restores_route:
        # Undone last of what belongs to the switch, so that the candidates end empty-handed.
        on_undo(partial(staging.wait_for_last, routing))
    staging.again(deploy, urls, on_undo)
    back = partial(former_addresses, deploy)
    routing.switch(urls, _forget if deploy.restores_route else on_undo, back=back)
    deploy.route = tuple(urls)
    staging.carried(deploy)


def _forget(undo: Undo, state: str = "") -> None:
    """Take no note: the route is restored once the former container runs again."""


def unroute(deploy: Deploy, step: Step, on_undo: OnUndo) -> None:
    """Let the router forget the service."""
    if deploy.observer.routing is not None:
        deploy.observer.routing.remove(on_undo)
        deploy.route, deploy.candidate = (), None


def soak(deploy: Deploy, step: Step, on_undo: OnUndo) -> None:
    """Watch the instances for a while now that they have the traffic.

    :raises ContainerFailed: one has failed, or the service does not answer any more.
    """
    seen = final(deploy)
    health.soak(
        deploy.engine.client,
        seen,
        deploy.wanted.soak,
        ask=lambda: _ask(deploy, seen),
        secrets=deploy.secrets,
    )


def _ask(deploy: Deploy, seen: Sequence[Container]) -> str:
    """Ask through the router, then each instance; return what is wrong with an answer."""
    routing = deploy.observer.routing
    if routing is not None and deploy.route and (wrong := routing.ask()):
        return wrong
    if not deploy.wanted.health_path:
        return ""
    said = ((one.name, deploy.observer.shortcoming(one)) for one in seen)
    return "; ".join(f"{name}: {wrong}" for name, wrong in said if wrong)


def approve(deploy: Deploy, step: Step, on_undo: OnUndo) -> None:
    """Take the mark off the names of those that were watched to the end."""
    for name, container in deploy.made.items():
        deploy.engine.rename(container, name)
        deploy.renamed.add(name)
    for member in deploy.planned.intent.stay:
        if member.unproved:
            on_undo(partial(deploy.engine.rename, member.id, member.name))
            deploy.engine.rename(member.id, member.name.removesuffix(UNPROVED))
