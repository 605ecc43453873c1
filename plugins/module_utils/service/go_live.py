# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps by which new instances get the traffic, are watched with it, and are called proved."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ..change import OnUndo, Step, Undo
from ..deadline import Deadline, Pace, wait_for
from ..engine import health
from ..engine.containers import NO_RESTART
from ..engine.errors import EngineAway, Missing
from ..engine.inspect import Container
from ..engine.parallel import BACK_SECONDS
from ..errors import DeliveryError, enumerate_words
from ..http import Http
from ..probe import Expectation, shortcoming
from ..routers.check import ANSWERED
from . import staging
from .bring_up import addresses, final, look_again
from .model import UNPROVED, Member
from .replace import put_back

if TYPE_CHECKING:
    from .deploy import Deploy

# Seconds that an engine which was restarted may take to start a container again.
START_SECONDS = 10.0
ANSWER_SECONDS = 2.0
BACK_PACE = Pace(interval=0.5, first=0.0)


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
    back = partial(_former_addresses, deploy)
    routing.switch(urls, _forget if deploy.restores_route else on_undo, back=back)
    deploy.route = tuple(urls)
    staging.carried(deploy)


def _former_addresses(deploy: Deploy) -> list[str]:
    """Return where those are now that had the traffic.

    An engine that was restarted meanwhile has given them other ports. What was proved is better
    than what had the traffic without that.
    """
    if back := [member for member in deploy.planned.intent.back if member.running]:
        return _addresses_now(deploy, back)
    found = []
    for url in deploy.before.route or ():
        member = next((one for one in deploy.before.members if one.among((url,))), None)
        found.append(url if member is None else _address_now(deploy, member, url))
    return found


def _addresses_now(deploy: Deploy, members: Sequence[Member]) -> list[str]:
    return [url for one in members if (url := _address_now(deploy, one, one.url or ""))]


def _address_now(deploy: Deploy, member: Member, before: str) -> str:
    deadline = Deadline(BACK_SECONDS)

    def look() -> str | None:
        try:
            seen = deploy.engine.inspect(member.id, member.name)
        except EngineAway:
            # What it has started may go on without it.
            return before if _answers(before) else None
        return deploy.observer.url_of(seen) or (
            before if deadline.elapsed > START_SECONDS else None
        )

    # One that is gone, or does not come back, is not found again anywhere.
    with suppress(DeliveryError):
        return wait_for(look, deadline=deadline, pace=BACK_PACE, what=f"{member.name} to run")
    return before


def _answers(url: str) -> bool:
    return not shortcoming(Http(url), Expectation("/", ANSWERED), Deadline(ANSWER_SECONDS))


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


def to_proved(deploy: Deploy) -> str:
    """Give the traffic to what was proved, from what an earlier run had sent it to."""
    intent, routing = deploy.planned.intent, deploy.observer.routing
    if any(member.fixed_port is not None for member in intent.back):
        put_back(deploy, intent.unsafe[0].id, intent.back)
    if routing is not None and deploy.before.route:
        routing.restore(partial(_addresses_now, deploy, intent.back))
    for member in intent.unsafe:
        with suppress(Missing):
            deploy.engine.stop_and_keep(member.id, deploy.stop_timeout, member.name)
    deploy.back = intent.back
    return f"{enumerate_words(member.name for member in intent.back)} serves again"


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
