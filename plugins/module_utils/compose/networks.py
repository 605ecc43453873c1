# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The networks and volumes that compose makes for a project, and what an undo leaves of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ..engine.errors import engine_errors
from .engine_state import PROJECT
from .project import Project

if TYPE_CHECKING:
    from docker import DockerClient


def network_ids(client: DockerClient, project: str) -> set[str]:
    """Return the ids of a project's networks."""
    with engine_errors(f"list the networks of {project}"):
        return {
            str(network["Id"])
            for network in client.api.networks(filters={"label": f"{PROJECT}={project}"})
        }


def missing(client: DockerClient, project: Project) -> list[str]:
    """Return the networks and volumes of a project that are not there, as ``network p_back``."""
    with engine_errors(f"list the networks and volumes of {project.name}"):
        networks = {str(one["Name"]) for one in client.api.networks()}
        volumes = {str(one["Name"]) for one in client.api.volumes()["Volumes"] or ()}
    found = set()
    for service in project.services.values():
        mounts = [m for m in service.spec.get("volumes") or () if m.get("type") == "volume"]
        for kind, keys, there in (
            ("networks", service.spec.get("networks") or (), networks),
            ("volumes", [m["source"] for m in mounts if m.get("source")], volumes),
        ):
            for key in keys:
                written = (project.model.get(kind) or {}).get(key) or {}
                name = project.real_name(kind, key)
                if not written.get("external") and name not in there:
                    found.add(f"{kind.removesuffix('s')} {name}")
    return sorted(found)


def remove_networks(client: DockerClient, project: str, keep: Collection[str] = ()) -> None:
    """Remove a project's networks but those that *keep* names by their ids."""
    for network_id in network_ids(client, project) - set(keep):
        with engine_errors(f"remove the network {network_id[:12]}"):
            client.api.remove_network(network_id)
