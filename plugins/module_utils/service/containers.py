# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers of a service: made, started, stopped, removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..engine.client import EngineError, Missing, engine_errors
from ..engine.container import Container, container_of
from .model import SERVICE, Shape
from .refusals import refusals

if TYPE_CHECKING:
    from docker import DockerClient


@dataclass(frozen=True)
class Engine:
    """What a deploy does with an engine's containers."""

    client: DockerClient

    def of_service(self, service: str) -> list[Container]:
        """Return all containers that bear the service's name in their labels."""
        with engine_errors(f"list the containers of {service}"):
            listed = self.client.api.containers(
                all=True, filters={"label": [f"{SERVICE}={service}"]}
            )
        found = []
        for entry in listed:
            try:
                found.append(self.inspect(entry["Id"]))
            except Missing:
                # Removed between the two questions, which is as if it had never been listed.
                continue
        return found

    def inspect(self, container: str) -> Container:
        """Return one container by its id or name.

        :raises Missing: there is none.
        """
        with engine_errors(f"inspect {container}"):
            return container_of(self.client.api.inspect_container(container))

    def create(
        self, name: str, image: str, shape: Shape, labels: Mapping[str, str], port: int | None
    ) -> str:
        """Make a container that does not run yet; return its id.

        :param port: the host's port to publish at; None for one that the engine picks.
        """
        with refusals(f"create {name}"):
            host_config = self.client.api.create_host_config(
                port_bindings={f"{shape.container_port}/tcp": (shape.bind_address, port)},
                binds=list(shape.volumes) or None,
                extra_hosts=dict(shape.extra_hosts) or None,
                mem_limit=shape.memory or None,
                nano_cpus=round(shape.cpus * 1e9) or None,
                restart_policy={"Name": shape.restart_policy},
                network_mode=shape.networks[0] if shape.networks else None,
            )
            made = self.client.api.create_container(
                image,
                command=list(shape.command) or None,
                name=name,
                user=shape.user or None,
                environment=dict(shape.environment) or None,
                labels={**shape.labels, **labels},
                ports=[(shape.container_port, "tcp")],
                stop_timeout=shape.stop_timeout,
                host_config=host_config,
            )
            for network in shape.networks[1:]:
                self.client.api.connect_container_to_network(made["Id"], network)
        return str(made["Id"])

    def start(self, container: str) -> None:
        """Start a container; satisfied where it runs."""
        with refusals(f"start {container}"):
            self.client.api.start(container)

    def stop(self, container: str, timeout: int) -> None:
        """Ask a container to end, and end it after *timeout* seconds; satisfied where it has."""
        with engine_errors(f"stop {container}"):
            self.client.api.stop(container, timeout=timeout)

    def remove(self, container: str) -> None:
        """Remove a container and its unnamed volumes; satisfied where it is gone."""
        try:
            with engine_errors(f"remove {container}"):
                self.client.api.remove_container(container, v=True, force=True)
        except Missing:
            return
        except EngineError as error:
            if "already in progress" not in error.message:
                raise

    def rename(self, container: str, name: str) -> None:
        """Give a container another name."""
        with engine_errors(f"rename {container} to {name}"):
            self.client.api.rename(container, name)
