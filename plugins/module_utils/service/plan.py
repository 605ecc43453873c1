# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what stands of a service to what shall stand: pure.

There are two lists of steps. The first ends once what has the traffic now has been watched for a
while, and is called proved. If a step of it fails, all of it is rolled back. Until then nothing of
the former release is stopped, except for one that holds a fixed port. The second list clears up
behind it, and is never rolled back; what is left over goes the next time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..change import Step
from ..engine.containers import NO_RESTART
from ..errors import enumerate_words
from ..routers.base import same_targets
from .model import (
    SPARE,
    UNPROVED,
    Member,
    Observed,
    Wanted,
    current,
    instances,
    left_over,
    live,
    trying,
    url_at,
)

CLEAR = "clear"
PULL = "pull"
REVIVE = "revive"
REHEARSE = "rehearse"
CREATE = "create"
START = "start"
REPLACE = "replace"
HEALTH = "health"
TEST = "test"
POLICY = "policy"
SOAK = "soak"
APPROVE = "approve"
ROUTE = "route"
UNROUTE = "unroute"
UNSTAGE = "unstage"

DRAIN = "drain"
STOP = "stop"
REMOVE = "remove"


@dataclass(frozen=True)
class Intent:
    """Who shall do what.

    :param stay: instances of the wanted release that are healthy.
    :param start: kept or stopped ones of it, to be started again.
    :param create: the names that new ones get once they are approved.
    :param holders: who has the fixed port and must leave it; one that does not run had it last.
    :param stop: to be stopped and kept, or kept without the restart policy ``no``.
    :param remove: to be removed.
    :param beside: a candidate of another release, which goes on being tried.
    :param unsafe: who has the traffic, and was not proved: a run was killed before that.
    :param back: who was proved, and gets the traffic from those if this fails.
    """

    stay: tuple[Member, ...] = ()
    start: tuple[Member, ...] = ()
    create: tuple[str, ...] = ()
    holders: tuple[Member, ...] = ()
    left: tuple[Member, ...] = ()
    stop: tuple[Member, ...] = ()
    remove: tuple[Member, ...] = ()
    beside: tuple[Member, ...] = ()
    unsafe: tuple[Member, ...] = ()
    back: tuple[Member, ...] = ()

    @property
    def candidates(self) -> bool:
        """Whether there are any, new or started again."""
        return bool(self.start or self.create)


@dataclass(frozen=True)
class Plan:
    """The two lists of steps, and what they come from."""

    intent: Intent
    steps: Sequence[Step] = ()
    after: Sequence[Step] = field(default=())


def decide(observed: Observed, wanted: Wanted) -> Intent:
    """Return who stays, comes and leaves."""
    known = instances(observed)
    left = left_over(observed)
    if wanted.absent or observed.release is None:
        return Intent(left=left, remove=tuple(known))
    release = observed.release.id
    has_traffic = live(observed)
    beside = _beside(observed, has_traffic, release)
    known = [member for member in known if member not in beside]
    tried = trying(observed)
    own = sorted(
        (member for member in known if member.release == release),
        key=lambda member: (member not in has_traffic, member not in tried, member.name),
    )
    stay = tuple(member for member in own if member.well)[: wanted.instances]
    missing = wanted.instances - len(stay)
    stopped = [member for member in own if not member.running and member.status == "exited"]
    start = tuple(stopped[:missing])
    earlier = [one for one in known if one.release != release and not one.unproved]
    best = best_first(earlier, has_traffic)
    kept = set(best[: wanted.keep_releases])
    leaving = [member for member in known if member not in stay + start]
    keep = [member for member in leaving if member.release in kept and not member.unproved]
    stop = tuple(member for member in keep if member.alive or member.restart != NO_RESTART)
    remove = tuple(member for member in leaving if member not in keep)
    if not (missing or stop or remove):
        # Where nothing changes, what a repair has put by (service/heal_model.py) is still right.
        left = tuple(m for m in left if (m.helps, m.release) != (SPARE, release))
    unsafe = _unsafe(observed, stay)
    return Intent(
        stay=stay,
        start=start,
        create=free_names(wanted, release, own, missing - len(start)),
        holders=_holders(known, start, wanted) if missing else (),
        left=left,
        stop=stop,
        remove=remove,
        beside=beside,
        unsafe=unsafe,
        # A run that was killed in its soak has stopped nobody but who had a fixed port.
        back=tuple(
            member
            for member in earlier
            if unsafe
            and member.release in best[:1]
            and (member.running or member.fixed_port is not None)
        ),
    )


def _unsafe(observed: Observed, stay: Sequence[Member]) -> tuple[Member, ...]:
    """Return who has the traffic without being proved, and is watched now or fails already.

    :param stay: those of the wanted release that are well.
    """
    having = current(observed) or [
        member for member in instances(observed) if member.alive and member.fixed_port is not None
    ]
    if not having or not all(one.unproved for one in (*having, *stay)):
        return ()
    # One that was restarted may be well, at a port where the router does not look for it.
    well = any(one.well and not one.restarts for one in live(observed))
    return () if well and not stay else tuple(dict.fromkeys([*having, *stay]))


def _beside(observed: Observed, has_traffic: Sequence[Member], release: str) -> tuple[Member, ...]:
    """Return the candidate, where it is not what this deploy is about.

    Where the live release is repaired or scaled, a candidate stays; another release ends it.
    """
    if not any(member.release == release for member in has_traffic):
        return ()
    tried = trying(observed)
    whole = observed.candidate is not None and len(tried) == len(observed.candidate.urls)
    if not whole or any(member.release == release for member in tried):
        return ()
    return tried


def best_first(proved: Sequence[Member], has_traffic: Sequence[Member] = ()) -> list[str]:
    """Return the releases of *proved*, those first that are best to keep, or to go back to.

    One that fails is worse than all others. What is live is better than what was started since.
    """
    members: dict[str, list[Member]] = {}
    for one in proved:
        members.setdefault(one.release, []).append(one)

    def goodness(release: str) -> tuple[bool, bool, int]:
        own = members[release]
        healthy = not all(one.failing for one in own)
        return healthy, any(one in has_traffic for one in own), max(one.started for one in own)

    return sorted(members, key=goodness, reverse=True)


def free_names(wanted: Wanted, release: str, own: Sequence[Member], count: int) -> tuple[str, ...]:
    """Return names that are free, counted from 1."""
    taken = {member.name.removesuffix(UNPROVED) for member in own}
    found: list[str] = []
    number = 0
    while len(found) < count:
        number += 1
        name = f"{wanted.name}-{release}-{number}"
        if name not in taken:
            found.append(name)
    return tuple(found)


def _holders(
    known: Sequence[Member], start: Sequence[Member], wanted: Wanted
) -> tuple[Member, ...]:
    """Return who has the fixed port; where nobody runs, who had it last."""
    if wanted.fixed_port is None:
        return ()
    others = [member for member in known if member not in start]
    url = url_at(wanted.address, wanted.fixed_port)
    alive = tuple(
        member
        for member in others
        if member.alive and (member.among((url,)) or member.fixed_port == wanted.fixed_port)
    )
    if alive or any(member.alive for member in known):
        return alive
    last = max(others, key=lambda member: member.started, default=None)
    return (last,) if last is not None else ()


def plan(observed: Observed, wanted: Wanted) -> Plan:
    """Return the steps to what is wanted; none where it stands already."""
    intent = decide(observed, wanted)
    after = retire(observed, intent)
    steps = clear(intent)
    if wanted.absent:
        if observed.route:
            steps.append(Step(UNROUTE, f"let the router forget {wanted.route}"))
        return Plan(intent, steps, after)
    if intent.candidates:
        steps += bring_up(observed, wanted, intent)
    elif new := _newly_live(observed, intent):
        steps.append(step_for(HEALTH, "wait until they are healthy, which are not proved:", new))
    if _reroutes(observed, intent):
        route = [Step(ROUTE, f"send {wanted.route} to {_count(wanted)}, and prove it")]
    elif observed.candidate is not None and not intent.beside:
        route = [Step(UNSTAGE, f"send all of {wanted.route} to what is live")]
    else:
        route = []
    return Plan(intent, steps + go_live(observed, wanted, intent, route), after)


def go_live(
    observed: Observed, wanted: Wanted, intent: Intent, route: Sequence[Step]
) -> list[Step]:
    """Return the steps by which instances become live: *route*, and what comes around it."""
    wrong = any(member.restart != member.live_restart for member in intent.stay)
    # One with a fixed port gets its policy right before it gets the port.
    armed = intent.candidates and wanted.fixed_port is None
    policy = [Step(POLICY, "set the restart policy of what is to be live")]
    new = intent.candidates or _newly_live(observed, intent)
    soak = [Step(SOAK, f"watch it for {wanted.soak:g} s")] if new and wanted.soak else []
    steps = [*(policy if wrong or armed else []), *route, *soak]
    if observed.route is None and wanted.fixed_port is None:
        # Nobody gets traffic but by being approved.
        steps = [*soak, *(policy if wrong or armed else [])]
    if intent.create or any(member.unproved for member in intent.stay):
        steps.append(Step(APPROVE, "call it proved"))
    return steps


def _newly_live(observed: Observed, intent: Intent) -> tuple[Member, ...]:
    """Return who stays, and is not proved or has no traffic yet though there is a router."""
    route = observed.route
    return tuple(
        member
        for member in intent.stay
        if member.unproved or (route is not None and not member.among(route))
    )


def _reroutes(observed: Observed, intent: Intent) -> bool:
    """Tell whether the router must send the traffic elsewhere."""
    if observed.route is None:
        return False
    # A new one is proved through the router even where its address is the old one's.
    urls = [member.url for member in intent.stay if member.url]
    return intent.candidates or not same_targets(urls, observed.route)


def bring_up(observed: Observed, wanted: Wanted, intent: Intent) -> list[Step]:
    """Return the steps that bring new instances up, or kept ones again, tested."""
    steps: list[Step] = []
    fixed = wanted.fixed_port is not None
    idle = tuple(member for member in intent.holders if not member.running)
    if idle:
        steps.append(step_for(REVIVE, "start again meanwhile, since nothing runs,", idle))
    if (intent.create and not observed.image_here) or wanted.tested:
        steps.append(Step(PULL, "pull what the engine lacks"))
    tests = [Step(TEST, "run the tests against it")] if wanted.tested else []
    if fixed and wanted.rehearse and intent.create:
        steps.append(Step(REHEARSE, "start it at another port first"))
        steps += tests
        tests = []
    if intent.create:
        release = observed.release.id if observed.release else ""
        steps.append(Step(CREATE, f"create {len(intent.create)} of the release {release}"))
    names = enumerate_words([*(member.name for member in intent.start), *intent.create])
    if fixed:
        before = enumerate_words(member.name for member in intent.holders)
        instead = f" instead of {before}" if before else ""
        text = f"start {names} at port {wanted.fixed_port}{instead}"
        steps.append(Step(REPLACE, text, {"name": names}))
    else:
        steps.append(Step(START, f"start {names}"))
        steps.append(Step(HEALTH, "wait until it is healthy"))
    return steps + tests


def clear(intent: Intent) -> list[Step]:
    """Return the step that clears away what an earlier deploy left, if it did."""
    if not intent.left:
        return []
    return [step_for(CLEAR, "clear away what an earlier deploy left:", intent.left)]


def retire(observed: Observed, intent: Intent) -> list[Step]:
    """Return the steps that end those who leave."""
    steps = []
    gone = {member.id for member in intent.holders} if intent.candidates else set()
    leaving = [m for m in intent.stop + intent.remove if m.alive and m.id not in gone]
    if leaving and observed.route is not None:
        steps.append(Step(DRAIN, "wait for the requests that earlier instances still work on"))
    stop = tuple(member for member in intent.stop if member.id not in gone)
    if stop:
        steps.append(step_for(STOP, "stop and keep", stop))
    if intent.remove:
        steps.append(step_for(REMOVE, "remove", intent.remove))
    return steps


def step_for(action: str, words: str, members: Sequence[Member]) -> Step:
    """Return the step that does something with *members*."""
    names = enumerate_words(member.name for member in members)
    return Step(action, f"{words} {names}".strip(), {"ids": [member.id for member in members]})


def _count(wanted: Wanted) -> str:
    return "the new instance" if wanted.instances == 1 else f"{wanted.instances} instances"
