# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which containers are to be replaced for what neither their image nor configuration shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..engine.errors import Missing, engine_errors
from ..engine.options import Connection
from .cli import Compose
from .engine_state import Instance
from .host_files import host_files
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
    for name in project.services:
        for one in standing.get(name, ()):
            why = FORCED if forced else _changed_file(client, compose, project, one)
            if why:
                found[one.id] = why
    return found


def _changed_file(client: DockerClient, compose: Compose, project: Project, one: Instance) -> str:
    if not is_local(compose.connection):
        return ""
    files = host_files(project.model, project.services[one.service].spec)
    files = [file for file in files if file.path.is_file()]
    if not files:
        return ""
    try:
        with engine_errors(f"inspect {one.name}"):
            pid = int(client.api.inspect_container(one.id)["State"].get("Pid") or 0)
    except Missing:
        return ""
    for file in files:
        if file.changed(one.id, pid, one.container.started):
            return f"its file {file.shown(compose.folder)} changed"
    return ""


def is_local(connection: Connection) -> bool:
    """Tell whether the engine's files are those that are seen here."""
    return urlsplit(connection.host).scheme == "unix"
