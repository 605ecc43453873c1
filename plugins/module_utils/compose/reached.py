# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a redeploy in place has reached what was planned."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ..errors import DeliveryError, enumerate_words
from .decision import Decision, State, Wanted, decide


class NotReached(DeliveryError):
    """The final state is not what was planned."""

    kind = "not_reached"


def check_reached(wanted: Wanted, former: Collection[str], after: State) -> State:
    """Return the containers that stay; only *former* ones may be beside them.

    :param former: ids of those that are going to be removed.
    :raises NotReached: something is missing, or there is more.
    """
    decisions = decide(wanted, after)
    for name, decision in decisions.items():
        strange = [why for one, why in decision.olds if one.id not in former]
        if decision.news or strange:
            missing = f"{decision.news} container(s) are missing"
            raise NotReached(
                f"{name} is not as it should be: {enumerate_words(strange) or missing}",
                next_step="Check whether anything else manages the containers of this project, "
                "then run this again.",
            )
        _check_mounts(wanted, after, name, decision)
    others = {name: ones for name, ones in after.instances.items() if name not in decisions}
    keep = {name: one.keep for name, one in decisions.items()}
    return replace(after, instances={**others, **keep})


def _check_mounts(wanted: Wanted, after: State, name: str, decision: Decision) -> None:
    """Make sure that who mounts another container's volumes has those of the new one.

    :raises NotReached: a container has others.
    """
    for one in decision.keep:
        has = {mount.name for mount in one.mounts}
        for source in wanted.project.services[name].volumes_from:
            for other in after.of(source):
                lacks = {mount.name for mount in other.mounts} - has
                if other.id in one.volumes_from and lacks:
                    raise NotReached(
                        f"{one.name} does not mount all volumes of {other.name}",
                        next_step=f"Remove {one.name}, then run this again.",
                    )
