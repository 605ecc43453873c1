# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is live, candidate and previous on a listener; read from it, and from nothing else.

The live rule (header blue) and the candidate rule (header green) are ours; the default action is
the listener's. A promotion leaves the former group in the live rule at weight 0: nobody is sent
there, but the load balancer goes on checking its health, so a rollback need not wait for that, and
the listener itself says who came before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..errors import DeliveryError
from .rules import Action, Fixed, Forward, Rule

LIVE = "live"
CANDIDATE = "candidate"
# On each rule that is ours, with its role as the value.
ROLE_TAG = "immutable.delivery:role"
# The run that made it, by which a run knows a rule whose making was never answered.
RUN_TAG = "immutable.delivery:run"


class Unclear(DeliveryError):
    """The listener does not say who is live, or has something that must not be replaced."""

    kind = "unclear"


@dataclass(frozen=True)
class Target:
    """A target of a group, and what its health checks came to.

    :param state: initial, healthy, unhealthy, draining, unhealthy.draining, unused or unavailable.
    :param reason: the reason code, such as ``Target.Timeout``; empty where it is healthy.
    """

    name: str
    state: str
    reason: str = ""
    description: str = ""

    @property
    def leaving(self) -> bool:
        """Whether it is being taken out of its group."""
        return self.state in ("draining", "unhealthy.draining")

    def __str__(self) -> str:
        details = ", ".join(item for item in (self.reason, self.description) if item)
        return f"{self.name} is {self.state}" + (f" ({details})" if details else "")


@dataclass(frozen=True)
class Listener:
    """What was observed.

    :param rules: all of the listener's rules, the default action among them.
    :param owned: the ARN of our rule, by role.
    :param surplus: ARNs of further rules of ours, left by two runs at once.
    :param health: the targets of a group, where they were asked for.
    """

    arn: str
    rules: tuple[Rule, ...]
    owned: Mapping[str, str] = field(default_factory=dict)
    surplus: tuple[str, ...] = ()
    health: Mapping[str, tuple[Target, ...]] = field(default_factory=dict)

    @property
    def default(self) -> Rule:
        """The default action."""
        for rule in self.rules:
            if rule.is_default:
                return rule
        raise Unclear(f"{self.arn} has no default action")

    def rule(self, role: str) -> Rule | None:
        """Our rule of that role."""
        arn = self.owned.get(role)
        return next((rule for rule in self.rules if rule.arn == arn), None) if arn else None

    def with_rule(self, rule: Rule, role: str | None = None) -> Listener:
        """Return the listener with *rule* put in, in place of the one of its ARN."""
        rules = tuple(rule if have.arn == rule.arn else have for have in self.rules)
        if rule not in rules:
            rules = (*rules, rule)
        owned = {**self.owned, role: rule.arn} if role else self.owned
        return replace(self, rules=rules, owned=owned)

    def without(self, arn: str) -> Listener:
        """Return the listener without a surplus rule."""
        rules = tuple(rule for rule in self.rules if rule.arn != arn)
        return replace(
            self, rules=rules, surplus=tuple(item for item in self.surplus if item != arn)
        )


@dataclass(frozen=True)
class Roles:
    """The target groups' ARNs by their roles."""

    live: str | None
    candidate: str | None = None
    previous: str | None = None


def forward_of(rule: Rule | None) -> Forward | None:
    """Return where *rule* forwards to, if that is all it does."""
    action = rule.action if rule is not None else None
    return action if isinstance(action, Forward) else None


def receiver_of(rule: Rule | None) -> str | None:
    """Return the one group that *rule* sends everything to."""
    forward = forward_of(rule)
    return forward.receiving[0] if forward and len(forward.receiving) == 1 else None


def idle_of(forward: Forward | None) -> list[str]:
    """Return the groups that *forward* names without sending them anything."""
    return [arn for arn in forward.attached if arn not in forward.receiving] if forward else []


def roles_of(listener: Listener) -> Roles:
    """Read the roles; a change that was broken off half-way is understood as well.

    :raises Unclear: the default action is no forward or fixed response, or is divided among
        groups of which none is known for the live one.
    """
    default = listener.default
    if default.action is None or not isinstance(default.action, (Forward, Fixed)):
        raise Unclear(
            f"the default action of {listener.arn} is {kinds(default.actions)}",
            next_step="Give a listener whose default action is one forward or one fixed response.",
        )
    blue = forward_of(listener.rule(LIVE))
    sole = receiver_of(listener.rule(LIVE))
    green = receiver_of(listener.rule(CANDIDATE))
    forward = forward_of(default)
    if forward is None or not forward.receiving:
        return Roles(None, green)
    live = receiver_of(default)
    if live is None:
        live = _live_of_several(listener, forward, sole, green)
    others = [arn for arn in forward.attached if arn != live]
    idle = idle_of(blue)
    candidate = green if green and green != live else (others[0] if len(others) == 1 else None)
    if candidate is None and sole and sole != live and live in idle:
        # A promotion that got as far as the live rule.
        candidate = sole
    previous = None
    if candidate is None:
        # The live rule lags behind the default in a promotion and leads in a rollback.
        previous = sole if sole and sole != live else (idle[0] if idle else None)
    return Roles(live, candidate, previous)


def _live_of_several(
    listener: Listener, forward: Forward, sole: str | None, green: str | None
) -> str:
    if sole in forward.receiving and sole is not None:
        return sole
    others = [arn for arn in forward.receiving if arn != green]
    if green in forward.receiving and len(others) == 1:
        return others[0]
    raise Unclear(
        f"the default action of {listener.arn} is divided among "
        f"{', '.join(name_of(arn) for arn in forward.receiving)}, and nothing says which is live",
        next_step="Let it forward to the live target group alone, then run this again.",
    )


def kinds(actions: Sequence[Action]) -> str:
    """Name the kinds of *actions*."""
    return " and ".join(kind_of(action) for action in actions) or "empty"


def kind_of(action: Action) -> str:
    """Name the kind of *action*."""
    if isinstance(action, Forward):
        return "a forward"
    return getattr(action, "kind", "a fixed response")


def name_of(arn: str | None) -> str:
    """Return the name within a target group's ARN: ``...:targetgroup/NAME/ID``."""
    if not arn:
        return "nobody"
    parts = arn.rsplit("/", 2)
    return parts[1] if len(parts) == 3 else arn
