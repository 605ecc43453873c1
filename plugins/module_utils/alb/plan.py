# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what a listener does to what it shall do: pure.

Every state between two steps is a good one. The live rule goes first, because it tells a run that
comes after a crash what was under way; the candidate rule goes before the default where it is to
forward, and after it where it is to answer 404.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..change import Step
from ..errors import DeliveryError, enumerate_words
from .roles import (
    CANDIDATE,
    LIVE,
    Listener,
    Roles,
    Target,
    Unclear,
    forward_of,
    name_of,
    roles_of,
)
from .rules import Action, Condition, Fixed, Forward, Rule, header_condition, same_condition

ATTACH = "attach"
WAIT = "wait"
CREATE = "create"
MODIFY = "modify"
DEFAULT = "default"
DELETE = "delete"
PROVE = "prove"

STAGED = "staged"
CANARY = "canary"
PROMOTED = "promoted"
ROLLED_BACK = "rolled_back"
RETIRED = "retired"

NO_CANDIDATE = Fixed(404, "No candidate is deployed.")
LAST_PRIORITY = 50000


class NotHealthy(DeliveryError):
    """A target group has too few healthy targets to be given traffic."""

    kind = "not_healthy"


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    :param target_group: the ARN of the group to stage, promote or go back to; None for the one
        that the listener names.
    :param weight: the candidate's share in per cent, 1 to 99, for ``canary``.
    :param sticky: the seconds for which a client of a canary stays where it came; None for none.
    :param min_healthy: how many healthy targets a group needs before it gets traffic; None for all
        that are registered and at least one, 0 for no such check.
    :param first_priority: rules are made at the first free priorities from here on.
    """

    state: str
    target_group: str | None = None
    weight: int = 10
    sticky: int | None = None
    header_name: str = "x-client-mode"
    live_value: str = "blue"
    candidate_value: str = "green"
    min_healthy: int | None = None
    wait_healthy: bool = True
    prove: bool = False
    first_priority: int = 1

    def condition(self, role: str) -> Condition:
        """Return the condition of our rule of that role."""
        value = self.live_value if role == LIVE else self.candidate_value
        return header_condition(self.header_name, value)


@dataclass(frozen=True)
class Aim:
    """The actions that are wanted, and the groups by their roles then. None leaves one alone."""

    roles: Roles
    live: Action | None = None
    candidate: Action | None = None
    default: Action | None = None


def alone(arn: str) -> Forward:
    """Return the forward to one group."""
    return Forward.to({arn: 1})


def aim_of(roles: Roles, wanted: Wanted) -> Aim:
    """Work out what *wanted* means where the roles are *roles*.

    :raises Unclear: a group that it needs is neither given nor named by the listener.
    """
    if wanted.state in (STAGED, CANARY):
        return _aim_of_candidate(roles, wanted)
    if wanted.state == RETIRED:
        if roles.live is None:
            return Aim(roles)
        # What a candidate or a change half-way still needs is none of the retired.
        if roles.candidate is not None:
            return Aim(roles)
        return Aim(Roles(roles.live), alone(roles.live))
    if wanted.state == ROLLED_BACK:
        back = roles.live if roles.candidate else roles.previous or roles.live
        group = wanted.target_group or back
        if group is None:
            raise Unclear(
                "there is nothing to roll back to: the listener forwards to nobody",
                next_step="Name the target group to go back to with target_group.",
            )
        return Aim(Roles(group), alone(group), NO_CANDIDATE, alone(group))
    group = wanted.target_group or roles.candidate or roles.live
    if group is None:
        raise Unclear(
            "there is nothing to promote: the listener has no candidate",
            next_step="Stage a target group first, or name it with target_group.",
        )
    previous = roles.previous if group == roles.live else roles.live
    kept = Forward.to({group: 1, previous: 0}) if previous else alone(group)
    return Aim(Roles(group, None, previous), kept, NO_CANDIDATE, alone(group))


def _aim_of_candidate(roles: Roles, wanted: Wanted) -> Aim:
    group = wanted.target_group or roles.candidate
    if group is None:
        raise Unclear(
            f"no candidate is staged, so nothing can be {wanted.state}",
            next_step="Name the candidate with target_group.",
        )
    if roles.live is None:
        raise Unclear(
            "the listener forwards to nobody, so there is nothing to stage a candidate beside",
            next_step="Promote the first target group at once with state=promoted.",
        )
    if group == roles.live:
        return Aim(roles)
    shares = {roles.live: 100 - wanted.weight, group: wanted.weight}
    default = Forward.to(shares, wanted.sticky) if wanted.state == CANARY else alone(roles.live)
    return Aim(Roles(roles.live, group), alone(roles.live), alone(group), default)


def newcomer(listener: Listener, wanted: Wanted) -> str | None:
    """Return the group that will get traffic which it does not have now; None where nobody does.

    :raises Unclear: what is wanted cannot be worked out.
    """
    if not _changes(listener, wanted, aim_of(roles_of(listener), wanted)):
        return None
    roles = roles_of(listener)
    group = wanted.target_group or roles.candidate
    if wanted.state == ROLLED_BACK:
        group = aim_of(roles, wanted).roles.live
    if wanted.state == RETIRED or group is None:
        return None
    default = forward_of(listener.default)
    if wanted.state == ROLLED_BACK and default is not None and group in default.receiving:
        # It has traffic already, and taking the candidate's away must not depend on its health.
        return None
    return group


def shortcoming(targets: Sequence[Target], min_healthy: int | None) -> str:
    """Say what a group lacks to be given traffic; an empty string where it lacks nothing."""
    staying = [target for target in targets if not target.leaving]
    healthy = sum(target.state == "healthy" for target in staying)
    needed = max(1, len(staying)) if min_healthy is None else min_healthy
    if healthy >= needed:
        return ""
    if not staying:
        return f"no target is registered, {needed} must be healthy"
    ill = enumerate_words(str(target) for target in targets if target.state != "healthy")
    return f"{healthy} of {len(staying)} targets are healthy, {needed} must be" + (
        f": {ill}" if ill else ""
    )


def plan(listener: Listener, wanted: Wanted) -> list[Step]:
    """Return the steps from *listener* to *wanted*; none where all is as it should be.

    ``listener.health`` must hold the targets of the :func:`newcomer`, if there is one.

    :raises NotHealthy: the newcomer lacks healthy targets, and they shall not be waited for.
    :raises Unclear: what is wanted cannot be worked out.
    """
    aim = aim_of(roles_of(listener), wanted)
    changes = _changes(listener, wanted, aim)
    if not changes:
        return []
    waits = _until_healthy(listener, wanted)
    steps: list[Step] = []
    if waits and not _in_use(listener, waits):
        if forward_of(listener.default) is not None:
            steps.append(_attach(listener, waits))
            listener = after(listener, steps[-1])
            # The default has changed by that.
            changes = _changes(listener, wanted, aim)
        else:
            # Nobody is served yet, so nobody is harmed by what is not healthy yet.
            steps, changes = changes[:1], changes[1:]
    if waits:
        lacks = shortcoming(listener.health.get(waits, ()), wanted.min_healthy)
        steps.append(
            Step(WAIT, f"wait until {name_of(waits)} is healthy", {"group": waits, "lacks": lacks})
        )
    steps += changes
    if wanted.prove:
        steps.append(Step(PROVE, "prove it through the listener"))
    return steps


def _until_healthy(listener: Listener, wanted: Wanted) -> str | None:
    """Return the group to wait for, if one has to be."""
    group = newcomer(listener, wanted)
    if group is None or wanted.min_healthy == 0:
        return None
    lacks = shortcoming(listener.health.get(group, ()), wanted.min_healthy)
    if not lacks:
        return None
    if not wanted.wait_healthy:
        raise NotHealthy(
            f"{name_of(group)} cannot be given traffic: {lacks}",
            next_step="See to its targets, or wait for them with wait_healthy.",
        )
    return group


def _in_use(listener: Listener, group: str) -> bool:
    """Tell whether the load balancer checks the health of *group*, which it does for those in use.

    One without targets is attached too: those that come must be checked.
    """
    attached = any(
        group in action.attached
        for rule in listener.rules
        for action in rule.actions
        if isinstance(action, Forward)
    )
    targets = listener.health.get(group, ())
    return attached or (bool(targets) and all(item.state != "unused" for item in targets))


def _attach(listener: Listener, group: str) -> Step:
    default = listener.default
    forward = forward_of(default)
    weights = dict(forward.groups) if forward else {}
    action = Forward.to({**weights, group: 0}, forward.sticky if forward else None)
    return Step(
        ATTACH,
        f"have the health of {name_of(group)} checked, without traffic",
        {"rule": replace(default, actions=(action,)), "before": default},
    )


def _changes(listener: Listener, wanted: Wanted, aim: Aim) -> list[Step]:
    live = _rule_step(listener, wanted, LIVE, aim.live)
    taken = live[0].detail["rule"].priority if live and live[0].action == CREATE else 0
    candidate = _rule_step(listener, wanted, CANDIDATE, aim.candidate, taken)
    default: list[Step] = []
    if aim.default is not None and aim.default != listener.default.action:
        rule = replace(listener.default, actions=(aim.default,))
        default = [
            Step(DEFAULT, f"send all others to {say(aim.default)}", _detail(rule, listener.default))
        ]
    surplus = [
        Step(DELETE, f"delete rule {rule.priority}, one too many", {"before": rule})
        for rule in listener.rules
        if rule.arn in listener.surplus
    ]
    if isinstance(aim.candidate, Forward):
        blue = forward_of(listener.rule(LIVE))
        if blue is not None and set(aim.candidate.attached) & set(blue.attached):
            # The former group comes again: out of the live rule first, nobody would check it.
            return candidate + live + default + surplus
        return live + candidate + default + surplus
    return live + default + candidate + surplus


def _detail(rule: Rule, before: Rule | None, role: str | None = None) -> dict[str, Any]:
    return {"rule": rule, "before": before, "role": role}


def _rule_step(
    listener: Listener, wanted: Wanted, role: str, action: Action | None, taken: int = 0
) -> list[Step]:
    if action is None:
        return []
    condition = wanted.condition(role)
    text = f"send {wanted.header_name}: {condition.values[0]} to {say(action)}"
    have = listener.rule(role)
    if have is not None:
        _require_first(listener, condition, have.priority or 0)
        renamed = len(have.conditions) != 1 or not same_condition(have.conditions[0], condition)
        if have.actions == (action,) and not renamed:
            return []
        rule = replace(have, conditions=(condition,), actions=(action,))
        return [Step(MODIFY, text, _detail(rule, have, role))]
    priority = free_priority(listener, max(wanted.first_priority, taken + 1))
    _require_first(listener, condition, priority)
    # It has no name before it is made; a step's rule must not be taken for another's.
    rule = Rule(f"{listener.arn} {role}", priority, (condition,), (action,))
    return [Step(CREATE, f"{text}, by a new rule {priority}", _detail(rule, None, role))]


def _require_first(listener: Listener, condition: Condition, priority: int) -> None:
    for rule in listener.rules:
        if rule.arn in (*listener.owned.values(), *listener.surplus) or rule.priority is None:
            continue
        if rule.priority < priority and all(
            same_condition(have, condition) for have in rule.conditions
        ):
            raise Unclear(
                f"rule {rule.priority} of the listener, which is not of our making, takes "
                f"{condition.name}: {condition.values[0]} before ours could",
                next_step="Remove that rule, or give another header or other values.",
            )


def free_priority(listener: Listener, first: int) -> int:
    """Return the first free priority from *first* on.

    :raises Unclear: there is none.
    """
    taken = {rule.priority for rule in listener.rules}
    for priority in range(first, LAST_PRIORITY + 1):
        if priority not in taken:
            return priority
    raise Unclear(f"no priority from {first} to {LAST_PRIORITY} is free")


def say(action: Action) -> str:
    """Say in a few words what *action* does."""
    if isinstance(action, Fixed):
        return str(action.status)
    if not isinstance(action, Forward):
        return action.kind
    if len(action.receiving) == 1:
        idle = [name_of(arn) for arn in action.attached if arn not in action.receiving]
        kept = f" (keeping {', '.join(idle)} at hand)" if idle else ""
        return name_of(action.receiving[0]) + kept
    text = " and ".join(f"{name_of(arn)} ({weight})" for arn, weight in action.groups)
    return text + (f", sticky for {action.sticky} s" if action.sticky is not None else "")


def after(listener: Listener, step: Step) -> Listener:
    """Return what the listener is after *step*."""
    if step.action == DELETE:
        return listener.without(step.detail["before"].arn)
    rule = step.detail.get("rule")
    if not isinstance(rule, Rule):
        return listener
    return listener.with_rule(rule, step.detail.get("role"))
