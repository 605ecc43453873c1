# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A candidate beside the live version: staged, tried, promoted or rolled back. Pure.

Whom a step is about is read from the router and from what the engine says, so each can be run again
from wherever an earlier one was broken off. The mark in a container's name makes that possible:
who is tried or has been refused bears it *before* the router is told, and loses it only once it was
watched with all the traffic. So a rollback goes back to what was proved last, and one that comes
again never takes a version that was refused for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ..change import Step
from ..engine.containers import NO_RESTART
from ..errors import DeliveryError, enumerate_words
from ..routers.base import same_targets
from .model import (
    ABOUT_WHAT_STANDS,
    CANARY,
    PROMOTED,
    ROLLED_BACK,
    SPARE,
    STAGED,
    Member,
    Observed,
    Release,
    Wanted,
    current,
    instances,
    left_over,
    live,
    trying,
)
from .plan import (
    CREATE,
    HEALTH,
    POLICY,
    ROUTE,
    UNSTAGE,
    Intent,
    Plan,
    best_first,
    bring_up,
    clear,
    free_names,
    go_live,
    plan,
    retire,
    step_for,
)

MARK = "mark"
STAGE = "stage"


class NoCandidate(DeliveryError):
    """There is nobody to try or to promote, or it is another one than was meant."""

    kind = "no_candidate"


class CandidateIll(DeliveryError):
    """The candidate is not as it was when it was staged."""

    kind = "unhealthy"


def plan_for(observed: Observed, wanted: Wanted) -> Plan:
    """Return the steps to the wanted state; none where it stands already.

    :raises DeliveryError: the state cannot be reached from what stands.
    """
    return _PLANS.get(wanted.state, plan)(observed, wanted)


def release_of(observed: Observed, wanted: Wanted) -> Release | None:
    """Return the release that a run is about which makes none; None for the others."""
    if wanted.state not in ABOUT_WHAT_STANDS:
        return None
    about: Sequence[Member] = live(observed)
    if wanted.state != ROLLED_BACK:
        about = trying(observed) or about
    elif observed.candidate is None and not _is_over(observed):
        about = _previous(observed) or about
    return next((Release(one.digest, one.config) for one in about if one.digest), None)


def _staged(observed: Observed, wanted: Wanted) -> Plan:
    """Bring the release up beside the live one; where nobody is live, it becomes that."""
    if not observed.route or observed.release is None:
        return plan(observed, wanted)
    release = observed.release.id
    if any(member.release == release for member in live(observed)):
        return Plan(Intent())
    former = trying(observed)
    own = [member for member in instances(observed) if member.release == release]
    stay = tuple(one for one in former if one in own and one.well)[: wanted.instances]
    missing = wanted.instances - len(stay)
    # What a repair has put by is of the live release, which stays.
    left = tuple(one for one in left_over(observed) if one.helps != SPARE)
    kept = (one for one in own if one.status == "exited" and not one.unproved)
    start = tuple(kept)[:missing]
    intent = Intent(
        stay=stay,
        start=start,
        create=free_names(wanted, release, [*own, *left], missing - len(start)),
        left=left,
        remove=tuple(member for member in former if member not in stay),
    )
    steps = [step_for(MARK, "mark as not proved any more", start)] if start else []
    up = bring_up(observed, wanted, intent) if intent.candidates else []
    # What was left is the only trace of an attempt until there is a new one.
    first = next((number for number, step in enumerate(up, 1) if step.action == CREATE), 0)
    steps += [*up[:first], *clear(intent), *up[first:]]
    if armed := [one for one in stay if one.restart != NO_RESTART]:
        steps.append(step_for(POLICY, "set the restart policy no of", armed))
    having = observed.candidate
    urls = [member.url or "" for member in stay]
    if intent.candidates or not having or having.weight or not same_targets(having.urls, urls):
        text = f"let those who ask for the candidate of {wanted.route} have it"
        steps.append(Step(STAGE, text, {"weight": 0}))
    return Plan(intent, steps, retire(observed, intent))


def _weighed(observed: Observed, wanted: Wanted) -> Plan:
    """Give the candidate its share."""
    having = observed.candidate
    # Nothing can always be given.
    lowered = not wanted.weight or (having is not None and wanted.weight < having.weight)
    members = _tried(observed, wanted, ill_too=lowered)
    intent = Intent(stay=members)
    if having is None or having.weight == wanted.weight:
        return Plan(intent)
    text = f"give {_names(members) or 'the candidate'} {wanted.weight} % of {wanted.route}"
    return Plan(intent, [Step(STAGE, text, {"weight": wanted.weight})])


def _promoted(observed: Observed, wanted: Wanted) -> Plan:
    """Give the candidate everything; where there is none, finish what an earlier run began."""
    if observed.candidate is not None:
        members = _tried(observed, wanted)
    else:
        members = tuple(live(observed))
        if not members or (wanted.digest and wanted.digest not in {one.digest for one in members}):
            raise _nobody(wanted)
        # What is live has been promoted: to mend it is a deploy's affair.
        well = tuple(replace(one, well=True) if one in members else one for one in observed.members)
        observed = replace(observed, members=well)
    return plan(observed, replace(wanted, instances=len(members), tested=False))


def _rolled_back(observed: Observed, wanted: Wanted) -> Plan:
    """Take the candidate away; where there is none, go back to the version that was live before."""
    having = live(observed)
    if observed.candidate is not None:
        out = tuple(one for one in trying(observed) if one not in having)
        text = f"send all of {wanted.route} to what is live"
        return _refuse(observed, Intent(stop=out), [Step(UNSTAGE, text)])
    having = current(observed)
    back = _previous(observed)
    well = [one for one in having if one.well and not one.unproved]
    if observed.route and not live(observed) and not back and well:
        # The route leads to nobody any more, and here is who was proved last.
        having, back = [], tuple(well)
    if _is_over(observed) or not back:
        left = [one for one in _refused(observed) if one not in having]
        armed = [one for one in left if one.alive or one.restart != NO_RESTART]
        intent = Intent(stop=tuple(armed))
        return Plan(intent, [], retire(observed, intent))
    intent = Intent(
        stay=tuple(one for one in back if one.running),
        start=tuple(one for one in back if not one.running),
        stop=tuple(having),
        # A repair must not make again what was refused.
        remove=tuple(one for one in left_over(observed) if one.helps == SPARE),
    )
    ports = {one.fixed_port for one in having if one.running} - {None}
    if held := ports & {one.fixed_port for one in intent.start}:
        raise DeliveryError(
            f"{_names(intent.start)} cannot be started beside {_names(having)}: both have port "
            f"{held.pop()}",
            next_step="Deploy that release with state present, which stops the other one first.",
        )
    steps = bring_up(observed, replace(wanted, tested=False), intent) if intent.start else []
    if intent.stay:
        steps.append(step_for(HEALTH, "wait until they are healthy, which have no traffic:", back))
    route = Step(ROUTE, f"send {wanted.route} back to {_names(back)}, and prove it")
    return _refuse(observed, intent, [*steps, *go_live(observed, wanted, intent, [route])])


def _refuse(observed: Observed, intent: Intent, steps: Sequence[Step]) -> Plan:
    """Return the plan that marks those who leave before the router is told, and keeps them."""
    marked = [one for one in intent.stop if not one.unproved]
    first = [step_for(MARK, "mark as refused", marked)] if marked else []
    return Plan(intent, [*first, *steps], retire(observed, intent))


def _refused(observed: Observed) -> tuple[Member, ...]:
    """Return who has been refused already, or was left before anybody had it."""
    return tuple(one for one in left_over(observed) if not one.helps)


def _is_over(observed: Observed) -> bool:
    """Tell whether what was live has been refused already, so that nothing is to be gone back to.

    If nobody answers where the router leads to, what is meant to be live is not good either.
    """
    having = current(observed)
    refused = [one for one in _refused(observed) if one not in having]
    return bool(refused and having and live(observed))


def _previous(observed: Observed) -> tuple[Member, ...]:
    """Return the version that was live before: of the others that were proved, the best."""
    having = {one.release for one in current(observed)}
    kept = [one for one in instances(observed) if one.release not in having and not one.unproved]
    best = best_first(kept)[:1] if having else []
    return tuple(one for one in kept if one.release in best)


def _tried(observed: Observed, wanted: Wanted, ill_too: bool = False) -> tuple[Member, ...]:
    """Return the candidate's containers.

    :raises NoCandidate: there is none, or it is not what was meant.
    :raises CandidateIll: not all of them are there and well.
    """
    if observed.candidate is None:
        raise _nobody(wanted)
    members = trying(observed)
    if ill_too:
        return members
    missing = [
        url
        for url in observed.candidate.urls
        if not any(member.among((url,)) for member in members)
    ]
    ill = [f"{one.name} is {one.status or 'not well'}" for one in members if not one.well]
    ill += [f"no container of {wanted.name} is at {url}" for url in missing]
    if ill:
        raise CandidateIll(
            f"the candidate of {wanted.name} is not well: {', '.join(ill)}",
            next_step="Roll it back, or stage it again.",
        )
    if wanted.digest and any(one.digest != wanted.digest for one in members):
        raise NoCandidate(
            f"the candidate of {wanted.name} is {members[0].image or members[0].digest}, not "
            f"{wanted.digest}",
            next_step="Stage the one that is meant, or do not name a digest.",
        )
    return members


def _nobody(wanted: Wanted) -> NoCandidate:
    return NoCandidate(
        f"there is no candidate of {wanted.name}", next_step="Stage one, with state staged."
    )


def _names(members: Sequence[Member]) -> str:
    return enumerate_words(member.name for member in members)


_PLANS: Mapping[str, Callable[[Observed, Wanted], Plan]] = {
    STAGED: _staged,
    CANARY: _weighed,
    PROMOTED: _promoted,
    ROLLED_BACK: _rolled_back,
}
