# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which number, and so which name, each new container gets: pure.

A new container takes the number and the name of the one that it follows, as with compose's own
``up``. While both are there, one of them has a name with an id at its end.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ..engine.inspect import CREATED
from .engine_state import Instance
from .service import Service

ASIDE = re.compile(r"_[0-9a-f]{12}$")
LAST_NUMBER = re.compile(r"\d+$")


@dataclass(frozen=True)
class Slot:
    """What a new container comes for.

    :param follows: the former container that has the number, whose anonymous volumes it takes over.
    """

    number: int
    follows: Instance | None = None


def slots(keep: Iterable[Instance], olds: Sequence[Instance], count: int) -> list[Slot]:
    """Return what each of *count* new containers comes for, in the order of *olds*.

    Former containers that run come first, and those that never ran last: they hold no data.
    """
    taken = {one.number for one in keep}
    found: list[Slot] = []
    for one in sorted(olds, key=_rank):
        if len(found) < count and one.number not in taken:
            taken.add(one.number)
            found.append(Slot(one.number, one))
    while len(found) < count:
        taken.add(max(taken, default=0) + 1)
        found.append(Slot(max(taken)))
    return found


def _rank(one: Instance) -> int:
    return 0 if one.container.alive else 2 if one.container.status == CREATED else 1


def name_for(service: Service, number: int, made: str) -> str:
    """Return the name of a service's container of that number.

    :param made: the name that compose has given to another one of the service.
    """
    return service.container_name or LAST_NUMBER.sub(str(number), made)


def aside(name: str, container_id: str) -> str:
    """Return the name of a container whose own is somebody else's now."""
    return f"{plain_name(name)}_{container_id[:12]}"


def plain_name(name: str) -> str:
    """Return a name without what :func:`aside` has added."""
    return ASIDE.sub("", name)


def due_name(service: Service, one: Instance) -> str:
    """Return the name that a container should have; its own, unless a run was killed."""
    if service.container_name:
        return service.container_name
    name = plain_name(one.name)
    found = LAST_NUMBER.search(name)
    return name if found and found[0] == str(one.number) else one.name


def due_links(
    service: Service, links: Iterable[str], made: int, number: int, gone: Collection[str]
) -> list[str]:
    """Return the links of a container that compose has created, as those of the real one.

    Compose links each container of the linked service by several aliases. One ends with the number
    of the container that has the link.

    :param links: each as ``NAME:ALIAS``.
    :param made: the number that it was created with; *number* is the real one's.
    :param gone: the names that containers have only until the real ones are made.
    """
    entries = [*(service.spec.get("links") or ()), *(service.spec.get("external_links") or ())]
    written = {part for entry in entries for part in entry.split(":")}
    found = {}
    for link in links:
        name, _colon, alias = link.partition(":")
        if name in gone or ASIDE.search(name):
            continue
        last = LAST_NUMBER.search(alias)
        if alias not in written and last and last[0] == str(made):
            alias = LAST_NUMBER.sub(str(number), alias)
        found[f"{name}:{alias}"] = True
    return list(found)
