# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The switch of a listener as a change: observe, plan, apply with undo, verify."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NoReturn

from ..change import OnUndo, Step
from ..deadline import Deadline, Pace, wait_for
from ..errors import DeliveryError, TimeoutExceeded
from .client import ApiError, Balancer
from .plan import (
    CREATE,
    DEFAULT,
    DELETE,
    PROVE,
    WAIT,
    NotHealthy,
    Wanted,
    after,
    free_priority,
    newcomer,
    plan,
    say,
    shortcoming,
)
from .proof import Proof
from .roles import CANDIDATE, LIVE, ROLE_TAG, RUN_TAG, Listener, name_of, roles_of
from .rules import Forward, Rule, same_condition, same_effect

HEALTH_PACE = Pace(interval=5.0, first=0.5)
PRIORITY_TRIES = 5
GONE = ("RuleNotFound", "ListenerNotFound")


class Overtaken(DeliveryError):
    """Somebody else changed the same listener meanwhile."""

    kind = "overtaken"


class NotTaken(DeliveryError):
    """The API confirmed a change and shows something else."""

    kind = "not_taken"


class ListenerChange:
    """Bring a listener to *wanted*.

    :param listener_arn: known, or found out by calling it.
    :param timeout: the seconds that a group may take to become healthy.
    """

    def __init__(
        self,
        balancer: Balancer,
        listener_arn: str | Callable[[], str],
        wanted: Wanted,
        *,
        timeout: float = 300,
        proof: Proof | None = None,
        pace: Pace = HEALTH_PACE,
    ) -> None:
        self.balancer = balancer
        self.wanted = wanted
        self.timeout = timeout
        self.proof = proof
        self.pace = pace
        self._find = listener_arn
        self._now: Listener | None = None
        # What the API answered to each of our own changes is the newest there is to see.
        self._seen: set[str] = set()
        self._run = uuid.uuid4().hex
        self._made = False
        self._waited = False

    def observe(self) -> Listener:
        """Read the rules, the tags of those that may be ours, and a newcomer's health."""
        arn = self._find if isinstance(self._find, str) else self._find()
        self._find = arn
        rules = self.balancer.rules(arn)
        owned, surplus = self._owned(rules)
        listener = Listener(arn, rules, owned, surplus)
        self.wanted = replace(self.wanted, target_group=self._group(rules))
        group = newcomer(listener, self.wanted)
        if group is not None and self.wanted.min_healthy != 0:
            listener = replace(listener, health={group: self.balancer.health(group)})
        self._now = listener
        return listener

    def _owned(self, rules: Sequence[Rule]) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return our rules by role, and those too many, asking for as few tags as will do.

        The rules that have our headers are asked first; only where one is missing, those made for
        another header or value are looked for.
        """
        roles = (LIVE, CANDIDATE)
        conditions = [self.wanted.condition(role) for role in roles]
        headers = [
            rule
            for rule in sorted(rules, key=lambda rule: rule.priority or 0)
            if len(rule.conditions) == 1 and rule.conditions[0].kind == "http-header"
        ]
        alike = [
            rule.arn
            for rule in headers
            if any(same_condition(rule.conditions[0], have) for have in conditions)
        ]
        owned: dict[str, str] = {}
        surplus: list[str] = []

        def ask(arns: list[str]) -> None:
            tags = self.balancer.tags(arns)
            for arn in arns:
                role = tags.get(arn, {}).get(ROLE_TAG)
                if role in roles and owned.setdefault(role, arn) != arn:
                    surplus.append(arn)

        ask(alike)
        if len(owned) < len(roles):
            ask([rule.arn for rule in headers if rule.arn not in alike])
        return owned, tuple(surplus)

    def _group(self, rules: Sequence[Rule]) -> str | None:
        """Return the ARN of the group that was named; the rules often have it already."""
        named = self.wanted.target_group
        if named is None or named.startswith("arn:"):
            return named
        for rule in rules:
            for action in rule.actions:
                for arn in action.attached if isinstance(action, Forward) else ():
                    if name_of(arn) == named:
                        return arn
        return self.balancer.group_arn(named)

    def plan(self, observed: Listener) -> Sequence[Step]:
        """Return the steps."""
        return plan(observed, self.wanted)

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step."""
        if step.action == WAIT:
            self._wait(step.detail["group"])
            return
        if step.action == PROVE:
            self.prove()
            return
        if self._waited:
            # The API compares nothing, so this looks as late as it can.
            self._waited = False
            self._check_ours(self.balancer.rules(self._listener.arn))
        if step.action == CREATE:
            self._create(step, on_undo)
        elif step.action == DELETE:
            self._delete_surplus(step, on_undo)
        else:
            self._modify(step, on_undo)

    def _wait(self, group: str) -> None:
        lacks = ""

        def look() -> bool | None:
            nonlocal lacks
            lacks = shortcoming(self.balancer.health(group), self.wanted.min_healthy)
            return None if lacks else True

        what = f"{name_of(group)} to be healthy"
        try:
            wait_for(look, deadline=Deadline(self.timeout), pace=self.pace, what=what)
        except TimeoutExceeded as error:
            raise NotHealthy(
                f"{name_of(group)} did not become healthy within {self.timeout:.0f} s: {lacks}",
                next_step="See to these targets, then run this again.",
            ) from error
        # The wait may have been long.
        self._seen.clear()
        self._waited = True

    def _modify(self, step: Step, on_undo: OnUndo) -> None:
        rule, before = step.detail["rule"], step.detail["before"]
        # Noted first: a call whose answer is lost may have been carried out.
        stands = f"Restored {self._what(before)} to {say(before.actions[-1])}"
        on_undo(lambda: self._put_back(rule, before), stands)
        self._check(rule, self._write(rule, before), step)

    def _write(self, wanted: Rule, have: Rule) -> Rule:
        if wanted.is_default:
            return self.balancer.modify_default(self._listener.arn, wanted)
        renamed = wanted.conditions != have.conditions
        return self.balancer.modify(wanted, conditions=renamed)

    def _create(self, step: Step, on_undo: OnUndo) -> None:
        rule, role = step.detail["rule"], step.detail["role"]
        made: list[str] = []

        def undo() -> None:
            for arn in made or self._lost(role):
                self._delete(arn)

        on_undo(undo, f"Removed {self._what(rule)}")
        self._made = True
        for _attempt in range(PRIORITY_TRIES):
            try:
                answer = self._make(rule, role)
            except ApiError as error:
                if error.code != "PriorityInUse":
                    raise
                # Taken meanwhile, or our own call was repeated because its answer was lost.
                made += self._lost(role)
                if made:
                    answer = self.balancer.rule(made[0])
                    break
                taken = replace(self._listener, rules=self.balancer.rules(self._listener.arn))
                rule = replace(rule, priority=free_priority(taken, (rule.priority or 0) + 1))
            else:
                made.append(answer.arn)
                break
        else:
            raise Overtaken(
                f"{PRIORITY_TRIES} priorities in a row were taken by somebody else meanwhile",
                next_step="Keep deploys of this listener apart with deploy_lock.",
            )
        made_step = replace(step, detail={**step.detail, "rule": replace(rule, arn=answer.arn)})
        self._check(made_step.detail["rule"], answer, made_step)

    def _make(self, rule: Rule, role: str) -> Rule:
        tags = {ROLE_TAG: role, RUN_TAG: f"{self._run}-{role}"}
        return self.balancer.create(self._listener.arn, rule, tags)

    def _lost(self, role: str) -> list[str]:
        """Return the rule that one of our calls made without our getting its answer."""
        known = {rule.arn for rule in self._listener.rules}
        rules = self.balancer.rules(self._listener.arn)
        tags = self.balancer.tags([rule.arn for rule in rules if rule.arn not in known])
        return [arn for arn, have in tags.items() if have.get(RUN_TAG) == f"{self._run}-{role}"]

    def _delete_surplus(self, step: Step, on_undo: OnUndo) -> None:
        rule = step.detail["before"]
        role = (
            LIVE if same_condition(rule.conditions[0], self.wanted.condition(LIVE)) else CANDIDATE
        )
        on_undo(lambda: self._make(rule, role), f"Made {self._what(rule)} again")
        self._delete(rule.arn)
        self._now = after(self._listener, step)

    def _delete(self, arn: str) -> None:
        try:
            self.balancer.delete(arn)
        except ApiError as error:
            if error.code not in GONE:
                raise

    def _put_back(self, rule: Rule, before: Rule) -> None:
        now = self.balancer.rule(rule.arn)
        if same_effect(now, before):
            return
        if not same_effect(now, rule):
            raise Overtaken(
                "left as it is, since somebody else changed it: "
                f"{self._what(now)} to {say(now.actions[-1])}"
            )
        self._write(before, rule)

    def _check(self, rule: Rule, answer: Rule, step: Step) -> None:
        if not same_effect(answer, rule):
            raise NotTaken(
                f"the API confirmed to {step.summary}, and shows {self._what(answer)} to "
                f"{say(answer.actions[-1])}"
            )
        self._now = after(self._listener, step)
        self._seen.add(step.detail.get("role") or DEFAULT)

    def verify(self, observed: Listener, applied: Sequence[Step]) -> Listener:
        """Return what stands, and make sure that it is what was planned.

        Where our own changes have just shown every part of it, their answers are what was seen;
        otherwise, and after a proof, which takes its time, the listener is read again.

        :raises Overtaken: it is something else.
        """
        shown = self._seen == {LIVE, CANDIDATE, DEFAULT} and not self._made
        if shown and self.proof is None:
            return self._listener
        have = self._listener
        rules = self.balancer.rules(have.arn)
        ours = self._check_ours(rules)
        known = {rule.arn for rule in have.rules}
        for now in rules:
            if now.arn not in known and any(
                now.conditions == rule.conditions for rule in ours if not rule.is_default
            ):
                self._overtaken(f"there is a second {self._what(now)}")
        self._now = replace(have, rules=rules)
        return self._now

    def _check_ours(self, rules: Sequence[Rule]) -> list[Rule]:
        """Return our rules and the default, which are still as we know them.

        :raises Overtaken: one of them is not.
        """
        have = self._listener
        ours = [have.default, *(rule for role in (LIVE, CANDIDATE) if (rule := have.rule(role)))]
        for rule in ours:
            now = next((item for item in rules if item.arn == rule.arn), None)
            if now is None or not same_effect(now, rule):
                does = f"it goes to {say(now.actions[-1])}" if now else "it is gone"
                self._overtaken(
                    f"{self._what(rule)} was to go to {say(rule.actions[-1])}, and {does}"
                )
        return ours

    def _overtaken(self, found: str) -> NoReturn:
        raise Overtaken(
            f"somebody else changed the listener meanwhile: {found}",
            next_step="Find out who deploys, and keep deploys apart with deploy_lock: the load "
            "balancer cannot refuse the second of two callers.",
        )

    def prove(self) -> bool:
        """Ask through the listener; return whether there was something to ask.

        :raises Unproved: the answers are not those expected.
        """
        if self.proof is None:
            return False
        self.proof.run()
        return True

    def describe(self, observed: Listener) -> str:
        """Show the parts that are ours, and the default action."""
        lines = [
            f"{self._what(rule)}: {say(rule.actions[-1])}\n"
            for rule in (observed.rule(LIVE), observed.rule(CANDIDATE), observed.default)
            if rule is not None
        ]
        roles = roles_of(observed)
        lines += [
            f"{name}: {name_of(arn)}\n"
            for name, arn in (
                ("live", roles.live),
                ("candidate", roles.candidate),
                ("previous", roles.previous),
            )
            if arn
        ]
        return "".join(lines)

    def expected(self, observed: Listener, steps: Sequence[Step]) -> str:
        """Show what they will be."""
        return self.describe(_foreseen(observed, steps))

    def foreseen(self, observed: Listener) -> Listener:
        """Return what the listener will be when all is done."""
        return _foreseen(observed, self.plan(observed))

    @property
    def _listener(self) -> Listener:
        if self._now is None:
            raise DeliveryError("the listener was not observed")
        return self._now

    def _what(self, rule: Rule) -> str:
        if rule.is_default:
            return "all others"
        return f"rule {rule.priority}, {rule.conditions[0].name}: {rule.conditions[0].values[0]}"


def _foreseen(observed: Listener, steps: Sequence[Step]) -> Listener:
    for step in steps:
        observed = after(observed, step)
    return observed
