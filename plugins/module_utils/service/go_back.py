# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the traffic goes if a deploy fails: to who had it before, or to who was proved."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ..deadline import Deadline, Pace, wait_for
from ..engine.errors import EngineAway, Missing
from ..engine.parallel import BACK_SECONDS, patiently
from ..errors import DeliveryError, enumerate_words
from ..http import Http
from ..probe import Expectation, shortcoming
from ..routers.base import StillServing
from ..routers.check import ANSWERED
from .model import Member
from .replace import put_back

if TYPE_CHECKING:
    from .deploy import Deploy

# Seconds that an engine which was restarted may take to start a container again.
START_SECONDS = 10.0
ANSWER_SECONDS = 2.0
BACK_PACE = Pace(interval=0.5, first=0.0)


def former_addresses(deploy: Deploy) -> list[str]:
    """Return where those are now that had the traffic.

    An engine that was restarted meanwhile has given them other ports. What was proved is better
    than what had the traffic without that, and has failed.
    """
    intent = deploy.planned.intent
    back = [member for member in intent.back if member.running]
    if back and not _serves_on(deploy, intent.unsafe) and _ready(deploy, back):
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


def _answers(url: str, path: str = "") -> bool:
    expected = Expectation(path) if path else Expectation("/", ANSWERED)
    return not shortcoming(Http(url), expected, Deadline(ANSWER_SECONDS))


def to_proved(deploy: Deploy) -> None:
    """Give the traffic to what was proved, from what an earlier run had sent it to.

    What has it keeps it if that is well, or if the proved one does not answer.

    :raises StillServing: it does not.
    """
    intent, routing = deploy.planned.intent, deploy.observer.routing
    if _serves_on(deploy, intent.unsafe):
        deploy.stays = True
        return
    if all(member.running for member in intent.back):
        if not _ready(deploy, intent.back):
            raise StillServing(f"{_names(intent.back)} does not answer, and gets no traffic")
    else:
        _swap(deploy)
    if routing is not None and deploy.before.route:
        routing.restore(partial(_addresses_now, deploy, intent.back))
    for member in intent.unsafe:
        with suppress(Missing):
            deploy.engine.stop_and_keep(member.id, deploy.stop_timeout, member.name)
    deploy.back = intent.back


def _swap(deploy: Deploy) -> None:
    """Give a fixed port to what was proved; back again if that does not become healthy."""
    intent = deploy.planned.intent
    try:
        put_back(deploy, intent.unsafe[0].id, intent.back)
    except DeliveryError:
        with suppress(DeliveryError):
            put_back(deploy, intent.back[0].id, intent.unsafe)
            deploy.stays = True
        raise


def _serves_on(deploy: Deploy, members: Sequence[Member]) -> bool:
    """Tell whether they have run on since they were observed, and answer."""
    routing = deploy.observer.routing
    try:
        for one in members:
            seen = patiently(deploy.engine.inspect, one.id, one.name)
            same = seen.running and seen.started == one.started and not one.restarts
            if not same or seen.health == "unhealthy":
                return False
        if routing is not None and deploy.before.route:
            return not routing.ask()
    except DeliveryError:
        return False
    return _ready(deploy, members)


def _ready(deploy: Deploy, members: Sequence[Member]) -> bool:
    """Tell whether each of them answers at its own address."""
    urls = [deploy.observer.url_of(patiently(deploy.engine.inspect, one.id)) for one in members]
    return all(url and _answers(url, deploy.wanted.health_path) for url in urls)


def _names(members: Sequence[Member]) -> str:
    return enumerate_words(member.name for member in members)
