# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Target groups, and the addresses at which what stands behind them is reached directly.

Source: Elastic Load Balancing API Reference, version 2015-12-01 (TargetGroup, TargetDescription).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import DeliveryError
from .roles import Target

# On a target group: the address of what stands behind it, where its targets do not tell it.
URL_TAG = "immutable.delivery:url"


class NoAddress(DeliveryError):
    """What stands behind a target group cannot be asked directly: nothing says where it is."""

    kind = "no_address"


@dataclass(frozen=True)
class TargetGroup:
    """A target group.

    :param kind: what its targets are: instance, ip, lambda or alb.
    """

    arn: str
    name: str
    protocol: str
    kind: str


def group_from(data: Mapping[str, Any]) -> TargetGroup:
    """Return a target group of ``DescribeTargetGroups``."""
    return TargetGroup(
        data["TargetGroupArn"],
        data["TargetGroupName"],
        str(data.get("Protocol") or "HTTP").lower(),
        data.get("TargetType") or "instance",
    )


def addresses_of(group: TargetGroup, targets: Sequence[Target]) -> tuple[str, ...]:
    """Return the addresses of a group's targets, those that are leaving not among them.

    :raises NoAddress: it has no targets, or they are not registered by an address.
    """
    staying = [target for target in targets if not target.leaving]
    if not staying:
        raise NoAddress(
            f"target group {group.name} has no target, so nothing stands behind it",
            next_step="Register its target.",
        )
    if group.kind != "ip":
        raise NoAddress(
            f"the targets of {group.name} are of the type {group.kind}, which does not tell their "
            "address",
            next_step=f"Give it in target_groups, or as the group's tag {URL_TAG}.",
        )
    return tuple(sorted(_url(group.protocol, target.name) for target in staying))


def _url(protocol: str, name: str) -> str:
    host, _colon, port = name.rpartition(":")
    return f"{protocol}://[{host}]:{port}" if ":" in host else f"{protocol}://{host}:{port}"
