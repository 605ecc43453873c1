# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers of a service: found, made, and given the restart policy of what is live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..engine.containers import NO_RESTART, Containers
from ..engine.errors import refusals
from ..engine.inspect import Container
from .model import RESTART, SERVICE, Shape, live_restart


@dataclass(frozen=True)
class Engine(Containers):
    """What a deploy does with an engine's containers."""

    def of_service(self, service: str) -> list[Container]:
        """Return all containers that bear the service's name in their labels."""
        return self.find(f"{SERVICE}={service}")

    def create(
        self, name: str, image: str, shape: Shape, labels: Mapping[str, str], port: int | None
    ) -> str:
        """Make a container that does not run yet, nor after a reboot; return its id.

        :param port: the host's port to publish at; None for one that the engine picks.
        """
        with refusals(f"create {name}"):
            host_config = self.client.api.create_host_config(
                port_bindings={f"{shape.container_port}/tcp": (shape.bind_address, port)},
                binds=list(shape.volumes) or None,
                extra_hosts=dict(shape.extra_hosts) or None,
                mem_limit=shape.memory or None,
                nano_cpus=round(shape.cpus * 1e9) or None,
                restart_policy={"Name": NO_RESTART},
                network_mode=shape.networks[0] if shape.networks else None,
            )
            made = self.client.api.create_container(
                image,
                command=list(shape.command) or None,
                name=name,
                user=shape.user or None,
                environment=dict(shape.environment) or None,
                labels={**shape.labels, **labels, RESTART: shape.restart_policy},
                ports=[(shape.container_port, "tcp")],
                stop_timeout=shape.stop_timeout,
                host_config=host_config,
            )
            for network in shape.networks[1:]:
                self.client.api.connect_container_to_network(made["Id"], network)
        return str(made["Id"])

    def make_live(self, container: str) -> None:
        """Give a container the restart policy that it has while it is live."""
        seen = self.inspect(container)
        self.set_restart(seen.id, live_restart(seen), seen.name)
