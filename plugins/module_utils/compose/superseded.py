# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Former containers removed, and their volumes kept: somebody may want the data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..engine.containers import Containers
from ..engine.errors import Missing, engine_errors
from ..engine.inspect import CREATED
from ..errors import DeliveryError
from .engine_state import ANONYMOUS, Instance

if TYPE_CHECKING:
    from docker import DockerClient


@dataclass(frozen=True)
class Superseded:
    """A volume that no container uses any more: an anonymous one, or one by another name before."""

    name: str
    service: str
    place: str

    def __str__(self) -> str:
        kind = "anonymous volume" if len(self.name) == ANONYMOUS else "volume"
        return (
            f"the {kind} {self.name} of {self.service} ({self.place}) was kept, and no "
            f"container uses it any more. To remove it, run: docker volume rm {self.name}"
        )


@dataclass
class Removed:
    """What came of the removal.

    :param left: what could not be removed, each with the reason.
    """

    left: list[str] = field(default_factory=list)
    superseded: list[Superseded] = field(default_factory=list)


def remove_former(
    containers: Containers, olds: Iterable[Instance], static: Collection[str]
) -> Removed:
    """Remove former containers. Their volumes stay unless they hold nothing of their own.

    These are anonymous volumes of services whose content is their image's, and of containers that
    never ran.

    :param static: those services.
    """
    # Those that mount others' volumes first, so that these go with their own containers.
    ordered = sorted(olds, key=lambda one: not one.volumes_from)
    removed, found = Removed(), kept_volumes(ordered, static)
    for one in ordered:
        try:
            containers.remove(one.id, volumes=_is_filled_anew(one, static))
        except DeliveryError as error:
            removed.left.append(f"the former container {one.name} is left: {error.message}")
    try:
        removed.superseded = [one for one in found if _is_unused(containers.client, one.name)]
    except DeliveryError as error:
        names = ", ".join(one.name for one in found)
        removed.left.append(
            f"it is not known whether these volumes are still used: {names} ({error.message})"
        )
    return removed


def kept_volumes(olds: Sequence[Instance], static: Collection[str]) -> list[Superseded]:
    """Return the volumes of former containers that are not removed with them: pure."""
    gone = {
        mount.name
        for one in olds
        if _is_filled_anew(one, static)
        for mount in one.mounts
        if mount.anonymous
    }
    found: dict[str, Superseded] = {}
    # What comes from another container is that one's.
    for one in sorted(olds, key=lambda one: bool(one.volumes_from)):
        for mount in one.mounts:
            never_ran = one.container.status == CREATED
            if mount.name not in gone and not (never_ran and not mount.anonymous):
                found.setdefault(mount.name, Superseded(mount.name, one.service, mount.place))
    return list(found.values())


def _is_filled_anew(one: Instance, static: Collection[str]) -> bool:
    return one.service in static or one.container.status == CREATED


def _is_unused(client: DockerClient, volume: str) -> bool:
    with engine_errors(f"look who uses the volume {volume}"):
        if client.api.containers(all=True, filters={"volume": volume}):
            return False
        try:
            with engine_errors(f"inspect the volume {volume}"):
                client.api.inspect_volume(volume)
        except Missing:
            return False
    return True
