# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The listener of an AWS load balancer as a router: a version behind each target group.

No package of a system imports another one, except for this: it makes a router of what ``alb/`` can
do, which is written there once. A switch is a promotion by alb's plan, so all that holds for a
promotion holds for it.

The listener says which group is live. Where the version behind a group can be asked directly, which
the load balancer has no part in, is told by who deploys, by the group's tag, or by the addresses of
its targets, in this order.

The API does not count requests. What is known is the group's own deregistration delay, the time
that its owner gives to requests under way; a drain waits for that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from ..alb.client import ApiError, Balancer
from ..alb.groups import URL_TAG, NoAddress, TargetGroup, addresses_of
from ..alb.plan import DEFAULT, MODIFY, NO_CANDIDATE, PROMOTED, RETIRED, WAIT, Wanted
from ..alb.roles import CANDIDATE, LIVE, Listener, forward_of, name_of, roles_of
from ..alb.rules import Fixed, Forward
from ..alb.switch import ListenerChange
from ..change import OnUndo, Step, Undo, undoing
from ..errors import DeliveryError, enumerate_words, join_sentences
from ..signals import uninterrupted
from .base import APART, Overtaken, Route, RouterError, same_targets
from .plan import where

NOBODY = Fixed(503, "No version is deployed.")
NO_SUCH_GROUP = "TargetGroupNotFound"


class Alb:
    """One listener, which serves one service by its default action.

    :param listener_arn: known, or found out by calling it.
    :param groups: the target groups that there may be, by name or ARN, with the address of what
        stands behind each; empty where the group itself tells it.
    :param min_healthy: how many healthy targets a group needs; None for all, and at least one.
    :param health_timeout: seconds that a group may take to become healthy.
    :param entrance: where clients ask; by default the load balancer's own name.
    """

    name = "alb"

    def __init__(
        self,
        balancer: Balancer,
        listener_arn: str | Callable[[], str],
        groups: Mapping[str, str],
        *,
        min_healthy: int | None = None,
        health_timeout: float = 300.0,
        entrance: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.balancer = balancer
        self.groups = groups
        self.wanted = Wanted(PROMOTED, min_healthy=min_healthy)
        self.health_timeout = health_timeout
        self.clock = clock
        self._find = listener_arn
        self._entrance = entrance
        # What each service was when it was last observed; a switch holds for that only.
        self.seen: dict[str, Route] = {}
        # Neither changes while a deploy goes on.
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._known: dict[str, TargetGroup] = {}
        # When this router sent the traffic away from a group, or first found it to be a former one.
        self._left: dict[str, float] = {}
        # What takes the last switch back to where it came from, to the letter.
        self._origin: Route | None = None
        self._undos: list[Undo] = []
        self._target: str | None = None

    def observe(self, service: str) -> Route:
        """Ask which group is live, and what stands behind it.

        :raises RouterError: the listener sends a part of the traffic elsewhere.
        """
        self.seen[service] = self._route(service, self._listener())
        return self.seen[service]

    def prepare(self, service: str, urls: Sequence[str], on_undo: OnUndo) -> None:
        """Have the load balancer check the group of *urls*, without traffic, until it is healthy.

        :raises NotHealthy: it did not become healthy in time.
        """
        change, listener = self._promotion(urls, wait_healthy=True)
        steps = list(change.plan(listener))
        waits = [number for number, step in enumerate(steps) if step.action == WAIT]
        for step in steps[: waits[0] + 1] if waits else ():
            change.apply(step, on_undo)

    def switch(self, service: str, urls: Sequence[str]) -> None:
        """Promote the group of *urls*; a switch back to where the last came from restores that.

        :raises Overtaken: another group is live than was observed; nothing was changed.
        :raises DeliveryError: it failed, and what had been changed was restored, as it says.
        """
        if self._undos and self._origin is not None and same_targets(self._origin.urls, urls):
            self._take_back()
            self.seen[service] = self._origin
            return
        change, listener = self._promotion(urls, wait_healthy=False)
        self._check_seen(service, listener)
        self._target = change.wanted.target_group
        self._apply(service, change, listener, change.plan(listener))
        self.seen[service] = Route(service, tuple(urls))

    def remove(self, service: str) -> None:
        """Answer everybody with 503; the rules that are alb's stay."""
        if self._undos and self._origin is not None and not self._origin.urls:
            self._take_back()
            self.seen[service] = self._origin
            return
        change = self._change(RETIRED)
        listener = change.observe()
        self._check_seen(service, listener)
        self._target = None
        steps = []
        ours = ((DEFAULT, None, NOBODY), (MODIFY, LIVE, NOBODY), (MODIFY, CANDIDATE, NO_CANDIDATE))
        for action, role, answer in ours:
            have = listener.rule(role) if role else listener.default
            if have is not None and have.actions != (answer,):
                detail = {"rule": replace(have, actions=(answer,)), "before": have, "role": role}
                steps.append(Step(action, f"answer {answer.status}", detail))
        self._apply(service, change, listener, steps)
        self.seen[service] = Route(service)

    def in_flight(self, service: str) -> int | None:
        """Return 0 where no former group has a target; None otherwise, since nobody counts."""
        return None if any(self._has_targets(arn) for arn in self._former()) else 0

    def drains_in(self, service: str) -> float:
        """Return the seconds until the requests on former groups have had the time they get.

        It is counted from our switch, and by who comes later from when that one first asked.
        """
        ends = [
            since + self.balancer.deregistration_delay(arn)
            for arn, since in self._former().items()
            if self._has_targets(arn)
        ]
        return max(0.0, max(ends, default=0.0) - self.clock())

    def entrance(self, service: str) -> str:
        """Return where clients ask."""
        if not self._entrance:
            self._entrance = self.balancer.entrance(self._arn())
        return self._entrance

    # What there is

    def _arn(self) -> str:
        if not isinstance(self._find, str):
            self._find = self._find()
        return self._find

    def _change(self, state: str, group: str | None = None, wait: bool = False) -> ListenerChange:
        wanted = replace(self.wanted, state=state, target_group=group, wait_healthy=wait)
        return ListenerChange(self.balancer, self._arn(), wanted, timeout=self.health_timeout)

    def _listener(self) -> Listener:
        # Of all that may be wanted, this looks at nothing but the rules.
        listener = self._change(RETIRED).observe()
        self._adopt(listener)
        return listener

    def _adopt(self, listener: Listener) -> None:
        """Take over the header that our rules have, which others may have chosen."""
        for role in (LIVE, CANDIDATE):
            rule = listener.rule(role)
            if rule is None or len(rule.conditions) != 1 or not rule.conditions[0].values:
                continue
            name, value = rule.conditions[0].name, rule.conditions[0].values[0]
            if role == LIVE:
                self.wanted = replace(self.wanted, header_name=name, live_value=value)
            else:
                self.wanted = replace(self.wanted, header_name=name, candidate_value=value)

    def _route(self, service: str, listener: Listener) -> Route:
        live = roles_of(listener).live
        if live is None:
            return Route(service)
        self._require_sole(listener, live)
        return Route(service, self._addresses_of(live))

    def _require_sole(self, listener: Listener, group: str) -> None:
        """Make sure that the traffic of *group* is where a switch can take it away as a whole."""
        forward = forward_of(listener.default)
        if forward is not None and len(forward.receiving) > 1:
            names = enumerate_words(name_of(arn) for arn in forward.receiving)
            raise RouterError(
                f"the listener divides its traffic among {names}",
                next_step="End that canary with alb_switch, promoted or rolled_back.",
            )
        ours = (*listener.owned.values(), *listener.surplus)
        for rule in listener.rules:
            if rule.is_default or rule.arn in ours:
                continue
            for action in rule.actions:
                if isinstance(action, Forward) and group in action.receiving:
                    raise RouterError(
                        f"rule {rule.priority} of the listener, which is not of our making, sends "
                        f"requests to {name_of(group)}, and no switch would change that",
                        next_step="Remove that rule, or give the service a listener of its own.",
                    )

    def _addresses_of(self, arn: str) -> tuple[str, ...]:
        """Return what stands behind a group.

        :raises NoAddress: nothing tells it.
        """
        given = self.groups.get(arn) or self.groups.get(name_of(arn))
        if given:
            return (given.rstrip("/"),)
        if arn not in self._addresses:
            if arn not in self._known:
                self._known[arn] = self.balancer.group(arn=arn)
            self._addresses[arn] = self._ask_address(self._known[arn])
        return self._addresses[arn]

    def _ask_address(self, group: TargetGroup) -> tuple[str, ...]:
        tag = self.balancer.tags([group.arn]).get(group.arn, {}).get(URL_TAG)
        if tag:
            return (tag.rstrip("/"),)
        return addresses_of(group, self.balancer.health(group.arn))

    def _promotion(
        self, urls: Sequence[str], *, wait_healthy: bool
    ) -> tuple[ListenerChange, Listener]:
        listener = self._listener()
        group = self._group_of(listener, urls)
        # Refuses a group that a part of the users is at already.
        self._require_sole(listener, group)
        change = self._change(PROMOTED, group, wait_healthy)
        return change, change.observe()

    def _group_of(self, listener: Listener, urls: Sequence[str]) -> str:
        """Return the ARN of the group that *urls* stand behind.

        :raises RouterError: there is none, or more than one.
        """
        roles = roles_of(listener)
        arns = [arn for arn in (roles.live, roles.candidate, roles.previous) if arn]
        unknown = []
        for named in self.groups:
            try:
                arns.append(self._arn_of(named, arns))
            except ApiError as error:
                if error.code != NO_SUCH_GROUP:
                    raise
                unknown.append(f"{named} does not exist")
        found, others = [], unknown
        for arn in dict.fromkeys(arns):
            try:
                addresses = self._addresses_of(arn)
            except NoAddress as error:
                others.append(error.message)
                continue
            if same_targets(addresses, urls):
                found.append(arn)
            else:
                others.append(f"{name_of(arn)} is at {enumerate_words(addresses)}")
        if len(found) == 1:
            return found[0]
        wanted = enumerate_words(urls)
        if found:
            raise RouterError(
                f"{wanted} is behind {enumerate_words(map(name_of, found))}, and only one of them "
                "can be meant",
                next_step=f"Correct target_groups, or the tag {URL_TAG} of these groups.",
            )
        raise RouterError(
            f"no target group is known that {wanted} stands behind"
            + (f"; {enumerate_words(others)}" if others else ""),
            next_step="Name it in target_groups, with that address where it does not tell it.",
        )

    def _arn_of(self, named: str, known: Sequence[str]) -> str:
        if named.startswith("arn:"):
            return named
        for arn in (*known, *self._known):
            if name_of(arn) == named:
                return arn
        group = self.balancer.group(name=named)
        self._known[group.arn] = group
        return group.arn

    def _former(self) -> dict[str, float]:
        """Return the groups that may still have requests, and since when they get no new ones."""
        roles = roles_of(self._listener())
        if roles.previous:
            self._left.setdefault(roles.previous, self.clock())
        return {arn: since for arn, since in self._left.items() if arn != roles.live}

    def _has_targets(self, arn: str) -> bool:
        try:
            return bool(self.balancer.health(arn))
        except ApiError as error:
            if error.code != NO_SUCH_GROUP:
                raise
            return False

    # What is done

    def _check_seen(self, service: str, listener: Listener) -> None:
        """Compare as late as can be: the API itself compares nothing."""
        seen, now = self.seen.get(service), self._route(service, listener)
        if seen is not None and not same_targets(now.urls, seen.urls):
            raise Overtaken(f"somebody else was first: {where(now)}", next_step=APART)

    def _apply(
        self, service: str, change: ListenerChange, listener: Listener, steps: Sequence[Step]
    ) -> None:
        """Apply *steps* and see that they took effect; on a failure restore what stood."""
        self._origin = self._route(service, listener)
        self._undos = []
        said: list[str] = []
        live = roles_of(listener).live

        def note(undo: Undo, state: str = "") -> None:
            self._undos.append(undo)
            said.append(state)

        try:
            with undoing(partial(self._restored, said)):
                for step in steps:
                    change.apply(step, note)
                change.verify(listener, steps)
        finally:
            if live is not None:
                self._left[live] = self.clock()

    def _restored(self, said: Sequence[str]) -> str:
        """Undo what was done; return the state then."""
        self._take_back()
        return join_sentences(*reversed(said))

    def _take_back(self) -> None:
        """Run the undos; those that fail are kept, for another try.

        :raises RouterError: one of them failed.
        """
        kept: list[Undo] = []
        failures = []
        now = self.clock()
        with uninterrupted():
            for undo in reversed(self._undos):
                try:
                    undo()
                except DeliveryError as error:
                    kept.insert(0, undo)
                    failures.append(str(error))
        self._undos = kept
        if self._target is not None:
            self._left[self._target] = now
        if failures:
            raise RouterError(f"not all of the listener was restored: {' '.join(failures)}")
