# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The networks that compose makes for a project, so that an undo leaves none behind."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ..engine.errors import engine_errors
from .engine_state import PROJECT

if TYPE_CHECKING:
    from docker import DockerClient


def network_ids(client: DockerClient, project: str) -> set[str]:
    """Return the ids of a project's networks."""
    with engine_errors(f"list the networks of {project}"):
        return {
            str(network["Id"])
            for network in client.api.networks(filters={"label": f"{PROJECT}={project}"})
        }


def remove_networks(client: DockerClient, project: str, keep: Collection[str] = ()) -> None:
    """Remove a project's networks but those that *keep* names by their ids."""
    for network_id in network_ids(client, project) - set(keep):
        with engine_errors(f"remove the network {network_id[:12]}"):
            client.api.remove_network(network_id)
