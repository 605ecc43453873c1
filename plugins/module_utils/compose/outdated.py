# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which containers are to be replaced for what neither their image nor configuration shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..engine.errors import Missing, engine_errors
from .cli import Compose
from .engine_state import Instance
from .host_files import HostFile, host_files
from .inline_files import find_changed, read_inline
from .project import Project

if TYPE_CHECKING:
    from docker import DockerClient

FORCED = "recreate is always"


def find_outdated(
    client: DockerClient,
    compose: Compose,
    project: Project,
    standing: Mapping[str, Sequence[Instance]],
    *,
    forced: bool = False,
) -> dict[str, str]:
    """Return why containers cannot stay, by their ids; those that can are left out.

    :param standing: the project's containers by service.
    :param forced: whether all of them are to be replaced.
    """
    found: dict[str, str] = {}
    inline = {} if forced else read_inline(compose, project)
    for name, service in project.services.items():
        files = host_files(project.model, service.spec) if compose.connection.local else []
        for one in standing.get(name, ()):
            why = FORCED if forced else ""
            if not why and (path := _changed_file(client, files, one)):
                why = f"its file {path.shown(compose.folder)} changed"
            if not why and (given := find_changed(client, one.container, inline.get(name, ()))):
                why = f"its {given.kind} {given.source} changed"
            if why:
                found[one.id] = why
    return found


def _changed_file(
    client: DockerClient, files: Sequence[HostFile], one: Instance
) -> HostFile | None:
    there = [file for file in files if file.path.is_file()]
    if not there:
        return None
    try:
        with engine_errors(f"inspect {one.name}"):
            pid = int(client.api.inspect_container(one.id)["State"].get("Pid") or 0)
    except Missing:
        return None
    started = one.container.started
    return next((file for file in there if file.changed(one.id, pid, started)), None)
