# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A load balancer that lives in memory, for the properties of plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.immutable.delivery.plugins.module_utils.alb.plan import (
    CREATE,
    WAIT,
    Wanted,
    after,
    newcomer,
    plan,
)
from ansible_collections.immutable.delivery.plugins.module_utils.alb.roles import (
    Listener,
    Target,
)
from ansible_collections.immutable.delivery.plugins.module_utils.alb.rules import (
    Condition,
    Fixed,
    Forward,
    Request,
    Rule,
    route,
)
from ansible_collections.immutable.delivery.plugins.module_utils.change import Step

LISTENER = "arn:aws:elasticloadbalancing:eu-west-1:1:listener/app/lb/1/2"
GROUPS = "abcd"
CLIENTS = {"blue": (("X-Client-Mode", "BLUE"),), "green": (("x-client-mode", "green"),), "none": ()}


def group(name: str) -> str:
    """The ARN of the target group *name*."""
    return f"arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/{name}/0"


def listener(default: str | None = "a", foreign: Sequence[int] = ()) -> Listener:
    """A listener that was never ours; foreign rules take /foreign/PRIORITY."""
    action = Forward.to({group(default): 1}) if default else Fixed(503)
    rules = [Rule("default", None, (), (action,))]
    rules += [
        Rule(
            f"foreign {number}",
            number,
            (Condition("path-pattern", (f"/foreign/{number}",)),),
            (Forward.to({group("foreign"): 1}),),
        )
        for number in foreign
    ]
    return Listener(LISTENER, tuple(rules))


class World:
    """A listener and the health of the groups that it may forward to.

    As with AWS, a group's targets are checked, and can be healthy, only while a rule names it.
    """

    def __init__(self, have: Listener, *, healthy: Sequence[str] = ()) -> None:
        self.listener = have
        self.states = dict.fromkeys(map(group, GROUPS), "unused")
        self.states.update(dict.fromkeys(map(group, healthy), "healthy"))
        self.made = 0
        self._check()

    def _check(self) -> None:
        named = {
            arn
            for rule in self.listener.rules
            for action in rule.actions
            if isinstance(action, Forward)
            for arn in action.attached
        }
        for arn, state in self.states.items():
            if arn not in named:
                self.states[arn] = "unused"
            elif state == "unused":
                self.states[arn] = "initial"

    def observe(self, wanted: Wanted) -> Listener:
        """What a run sees."""
        arn = newcomer(self.listener, wanted)
        health = {arn: (Target("i-1:80", self.states[arn]),)} if arn else {}
        return replace(self.listener, health=health)

    def plan(self, wanted: Wanted) -> list[Step]:
        return plan(self.observe(wanted), wanted)

    def apply(self, step: Step) -> None:
        if step.action == WAIT:
            self.states[step.detail["group"]] = "healthy"
        if step.action == CREATE:
            self.made += 1
            rule = replace(step.detail["rule"], arn=f"made {self.made}")
            step = replace(step, detail={**step.detail, "rule": rule})
        self.listener = after(self.listener, step)
        self._check()

    def routed(self, client: str, path: str = "/") -> set[str]:
        """Who may answer: names of groups, or a status."""
        answer = route(self.listener.rules, Request(path, headers=CLIENTS[client]))
        return {arn.split("/")[-2] for arn in answer.shares} or {str(answer.status)}

    def unserved(self) -> str:
        """Say which client is sent to somebody who cannot answer; empty where none is."""
        for client in CLIENTS:
            for name in self.routed(client):
                healthy = self.states.get(group(name)) == "healthy"
                if not healthy and not (client == "green" and name == "404"):
                    return f"{client} is sent to {name}"
        return ""
