# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module returns of a listener."""

from __future__ import annotations

from typing import Any

from .roles import CANDIDATE, LIVE, Listener
from .rules import Fixed, Forward, Rule


def rules_of(listener: Listener) -> list[dict[str, Any]]:
    """Return our rules and the default action as plain data."""
    rules = [(role, listener.rule(role)) for role in (LIVE, CANDIDATE)]
    rules.append(("default", listener.default))
    return [_rule(role, rule) for role, rule in rules if rule is not None]


def _rule(role: str, rule: Rule) -> dict[str, Any]:
    action = rule.actions[-1]
    return {
        "role": role,
        # One that is only planned has no ARN yet.
        "arn": rule.arn if " " not in rule.arn else None,
        "priority": rule.priority,
        "target_groups": dict(action.groups) if isinstance(action, Forward) else {},
        "status": action.status if isinstance(action, Fixed) else None,
    }
