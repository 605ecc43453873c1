# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The colours of a project on the engine: their containers, and what they join and leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..engine.containers import Containers as EngineContainers
from ..engine.errors import engine_errors
from ..engine.parallel import patiently
from .coloured import LABEL, Joint
from .engine_state import PROJECT, VOLUME, Instance, instances
from .networks import remove_networks

if TYPE_CHECKING:
    from docker import DockerClient


@dataclass(frozen=True)
class ColourEngine:
    """Works on the colours of a project, and on those services of its own that they double.

    :param base: the project's name.
    :param services: the services that are doubled.
    :param joint: what the colours use of the project.
    :param volumes: how the compose files describe volumes, by their keys.
    """

    client: DockerClient
    base: str
    services: frozenset[str]
    joint: Joint = field(default_factory=Joint)
    volumes: Mapping[str, Any] = field(default_factory=dict)

    def instances(self, project: str) -> dict[str, list[Instance]]:
        """Return a colour's containers by service; of the project itself those it doubles."""
        found = instances(self.client, project)
        if project != self.base:
            return found
        return {name: ones for name, ones in found.items() if name in self.services}

    def prepare(self) -> None:
        """Make those volumes of the project that a colour uses and nobody has made yet."""
        for real, key in self.joint.volumes.items():
            written = self.volumes.get(key) or {}
            # One that is there is left as it is.
            with engine_errors(f"make the volume {real}"):
                self.client.api.create_volume(
                    name=real,
                    driver=written.get("driver"),
                    driver_opts=written.get("driver_opts"),
                    labels={**(written.get("labels") or {}), PROJECT: self.base, VOLUME: key},
                )

    def join(self, project: str) -> None:
        """Bring a colour's new containers into the project's networks, where they bear no name."""
        for service, ones in self.instances(project).items():
            for network in self.joint.networks.get(service, ()):
                for one in ones:
                    with engine_errors(f"bring {one.name} into the network {network}"):
                        self.client.api.connect_container_to_network(one.id, network)

    def remove(self, project: str) -> None:
        """Remove a colour with all that it has made; of the project itself what is doubled.

        Volumes of what was not brought up as a colour may hold data, and stay.
        """
        found = [one for ones in patiently(self.instances, project).values() for one in ones]
        ours = project != self.base and all(LABEL in one.container.labels for one in found)
        for one in found:
            patiently(EngineContainers(self.client).remove, one.id, volumes=ours)
        if project == self.base:
            return
        patiently(remove_networks, self.client, project)
        if found and ours:
            patiently(self._remove_volumes, project)

    def _remove_volumes(self, project: str) -> None:
        with engine_errors(f"remove the volumes of {project}"):
            listed = self.client.api.volumes(filters={"label": f"{PROJECT}={project}"})
            for volume in listed["Volumes"] or ():
                self.client.api.remove_volume(volume["Name"])
