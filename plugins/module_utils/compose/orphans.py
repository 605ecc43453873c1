# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers of a project whose service is no longer in the compose files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ..errors import enumerate_words
from .cli import Compose
from .engine_state import Instance
from .project import Project
from .service import Service


def orphans_of(
    compose: Compose, project: Project, found: Mapping[str, Sequence[Instance]]
) -> dict[str, Sequence[Instance]]:
    """Return the orphans among a project's containers, by the service that they were of.

    Services of profiles that are not enabled are in the files, so their containers are none. Those
    that the files enable now, and a release that comes back does not have, are orphans.
    """
    unknown = set(found) - set(project.model.get("services") or {})
    if not unknown:
        return {}
    told, _warnings = compose.read("--profile", "*", "config", "--services")
    if disabled := unknown & set(told.split()):
        enabled, _warnings = compose.read("config", "--services")
        disabled -= set(enabled.split())
    return {name: found[name] for name in sorted(unknown - disabled)}


def with_orphans(project: Project, orphans: Mapping[str, Sequence[Instance]]) -> Project:
    """Return the project with a service for each of its orphans, of which there shall be none."""
    services = {
        name: Service(name, {}, ones[0].container.image, 0, orphan=True)
        for name, ones in orphans.items()
    }
    return replace(project, services={**project.services, **services})


def warning(orphans: Iterable[Instance]) -> str:
    """Return the sentence on orphans that stay."""
    names = sorted(one.name for one in orphans)
    are = "is" if len(names) == 1 else "are"
    return (
        f"{enumerate_words(names)} {are} of no service that the compose files have, and {are} left "
        "as before. To remove what was renamed or is no longer wanted, set remove_orphans"
    )
