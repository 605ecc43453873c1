# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what stands of a service to what should stand again: pure.

What should stand is read from what there is: the release that has the traffic, as many instances as
there were, registered where they are. Nothing is taken from the router before something healthy can
have the traffic instead, and nothing gets traffic before it is healthy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..change import Step
from ..errors import enumerate_words
from ..routers.base import same_targets
from .heal_model import Condition, Instance, Standing
from .model import SPARE, UNPROVED

SHED = "shed"
WAKE = "wake"
CREATE = "create"
HEALTH = "health"
POLICY = "policy"
APPROVE = "approve"
ROUTE = "route"
REMOVE = "remove"
KEEP = "keep"


@dataclass(frozen=True)
class Intent:
    """Who shall do what.

    :param stay: instances that are well, or on their way to it.
    :param wake: to be started again, or to go on.
    :param create: the names of new ones, made like *template*. Those of a release that was not
        proved bear the mark of that.
    :param replaced: those that do not work and are removed once others do.
    :param shed: where the traffic goes meanwhile; empty for where it goes now.
    :param outdated: spares of what does not stand any more.
    """

    release: str = ""
    count: int = 0
    stay: tuple[Instance, ...] = ()
    wake: tuple[Instance, ...] = ()
    create: tuple[str, ...] = ()
    template: Instance | None = None
    replaced: tuple[Instance, ...] = ()
    shed: tuple[str, ...] = ()
    keep: bool = False
    outdated: tuple[Instance, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The steps, who does what in them, and what was found, in sentences without a full stop."""

    intent: Intent = field(default_factory=Intent)
    steps: Sequence[Step] = ()
    findings: tuple[str, ...] = ()
    left_alone: str = ""


def live_release(standing: Standing) -> str:
    """Return the release that should stand; empty where nothing tells, or where two do.

    It is asked of the router, then of what runs, then of the spare, and then it is what was started
    last.
    """
    known = standing.instances
    having = {one.release for one in known if one.among(standing.route or ())}
    if having:
        return having.pop() if len(having) == 1 else ""
    if running := [one for one in known if one.condition is not Condition.STOPPED]:
        return max(running, key=lambda one: one.started).release
    if standing.spare is not None:
        return standing.spare.release
    return max(known, key=lambda one: one.started).release if known else ""


def decide(standing: Standing, release: str) -> Intent:
    """Return who stays, comes and leaves."""
    own = sorted(
        (one for one in standing.instances if one.release == release),
        key=lambda one: (not one.among(standing.route or ()), one.name),
    )
    proved = not own or any(not one.unproved for one in own)
    spares = [one for one in standing.found if one.helps == SPARE]
    spare = next((one for one in spares if one.release == release), None)
    template = next(iter(own), spare)
    count = _count(standing, own, spare)
    fixed = template is not None and template.fixed
    up = [one for one in own if one.up]
    # More than there should be is for a deploy to take away, which waits for their requests.
    having = [one for one in up if one.among(standing.route or ())]
    stay = tuple(up)[: max(count, len(having))]
    missing = max(0, count - len(stay))
    ill = [one for one in own if one.condition is Condition.ILL]
    idle = [one for one in own if one.condition is Condition.PAUSED]
    idle += [one for one in own if one.condition is Condition.STOPPED]
    # Nothing can be made beside one that holds a fixed port.
    wake = tuple(idle + (ill if fixed else []))[:missing]
    kept = spare is not None and (spare.wanted, spare.route) == (count, standing.routed_as)
    return Intent(
        release=release,
        count=count,
        stay=stay,
        wake=wake,
        create=_names(standing, release, missing - len(wake), proved),
        template=template,
        replaced=() if fixed else tuple(ill),
        shed=_shed(standing, stay, bool(missing)),
        keep=not kept,
        outdated=tuple(one for one in spares if not kept or one is not spare),
    )


def _count(standing: Standing, own: Sequence[Instance], spare: Instance | None) -> int:
    """Return how many instances there should be.

    The spare is as new as the last deploy or repair; a container's own label may be older than
    another deploy that only changed the number, and the router's targets may have been fewer since
    a repair that failed.
    """
    if standing.count is not None:
        return standing.count
    if spare is not None and spare.wanted:
        return spare.wanted
    newest = max(own, key=lambda one: one.created, default=None)
    return len(standing.route or ()) or (newest.wanted if newest else 0) or 1


def _names(standing: Standing, release: str, count: int, proved: bool) -> tuple[str, ...]:
    """Return names that are free, counted from 1."""
    taken = {one.name.removesuffix(UNPROVED) for one in standing.found}
    found: list[str] = []
    number = 0
    while len(found) < count:
        number += 1
        name = f"{standing.service}-{release}-{number}"
        if name not in taken:
            found.append(name if proved else f"{name}{UNPROVED}")
    return tuple(found)


def _shed(standing: Standing, stay: Sequence[Instance], more: bool) -> tuple[str, ...]:
    """Return where the traffic goes while others are repaired: to those that are well already."""
    route = standing.route
    well = [one for one in stay if one.condition is Condition.WELL]
    waiting = more or len(well) < len(stay)
    if route is None or not well or not waiting:
        return ()
    keep = tuple(one.url for one in stay if one.url and (one in well or one.among(route)))
    return () if same_targets(keep, route) else keep


def plan(standing: Standing) -> Plan:
    """Return the steps to what should stand; none where it does."""
    if standing.under_way:
        text = f"{standing.service} is left alone: a deploy of it seems to be under way"
        return Plan(left_alone=text)
    release = live_release(standing)
    if not release:
        if not standing.instances:
            return Plan(left_alone=f"nothing of {standing.service} was ever live")
        text = f"{standing.service} is left alone: two releases of it have traffic"
        return Plan(left_alone=text)
    intent = decide(standing, release)
    return Plan(intent, _steps(standing, intent), _findings(standing, intent))


def _steps(standing: Standing, intent: Intent) -> list[Step]:
    name = standing.service
    steps: list[Step] = []
    if intent.shed:
        text = f"meanwhile send {standing.routed_as} to {enumerate_words(intent.shed)} only"
        steps.append(Step(SHED, text))
    if intent.wake:
        steps.append(Step(WAKE, f"start {_named(intent.wake)} again"))
    if intent.create:
        text = f"create {enumerate_words(intent.create)} of the release {intent.release}"
        steps.append(Step(CREATE, text))
    waits = (
        intent.wake
        or intent.create
        or any(one.condition is Condition.STARTING for one in intent.stay)
    )
    if waits:
        steps.append(Step(HEALTH, f"wait until all of {name} is healthy"))
    if any(one.restart != one.live_restart for one in intent.stay):
        steps.append(Step(POLICY, "set the restart policy of what is live"))
    if intent.create:
        steps.append(Step(APPROVE, "approve what is healthy"))
    if _reroutes(standing, intent):
        text = "the instance" if intent.count == 1 else f"{intent.count} instances"
        steps.append(Step(ROUTE, f"send {standing.routed_as} to {text}, where each is now"))
    if intent.replaced:
        steps.append(Step(REMOVE, f"remove {_named(intent.replaced)}"))
    if intent.keep or intent.outdated:
        steps.append(Step(KEEP, f"keep a spare of {name}, by which it can be made again"))
    return steps


def _reroutes(standing: Standing, intent: Intent) -> bool:
    if standing.route is None:
        return False
    urls = [one.url for one in intent.stay if one.url]
    return bool(intent.wake or intent.create) or not same_targets(urls, standing.route)


def _findings(standing: Standing, intent: Intent) -> tuple[str, ...]:
    """Say what is not as it should be."""
    known = [
        f"{one.name} {one.says or one.condition.value}"
        for one in (*intent.stay, *intent.wake, *intent.replaced)
        if one.condition is not Condition.WELL
    ]
    gone = len(intent.create) - len(intent.replaced)
    if gone > 0:
        known.append(
            f"{gone} of {intent.count} instances of {standing.service} "
            f"{'is' if gone == 1 else 'are'} missing"
        )
    route = standing.route
    if route is None:
        return tuple(known)
    if not route:
        return (*known, f"the router does not know {standing.routed_as}")
    up = [one for one in intent.stay if one.condition is Condition.WELL]
    if stale := [url for url in route if not any(one.among((url,)) for one in up)]:
        known.append(
            f"the router sends {standing.routed_as} to {enumerate_words(stale)}, "
            "where nothing of it answers"
        )
    if away := [one for one in up if not one.among(route)]:
        known.append(f"the router does not know of {_named(away)}")
    return tuple(known)


def _named(found: Sequence[Instance]) -> str:
    return enumerate_words(one.name for one in found)
