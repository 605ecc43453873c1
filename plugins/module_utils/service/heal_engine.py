# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a repair asks of an engine beside what a deploy does.

It asks for all services, and makes containers anew from what the engine knows of others, so that
nobody has to say again what is in an environment, and nothing of it is written anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..engine.containers import NO_RESTART
from ..engine.errors import EngineError, Missing, engine_errors, refusals
from ..engine.inspect import container_of, parse_time
from ..redaction import split_settings
from .model import HELPS, INSTANCES, RESTART, SERVICE, live_restart

if TYPE_CHECKING:
    from docker import DockerClient

Attributes = Mapping[str, Any]
# The engine's default (docker stop --time).
STOP_SECONDS = 10


@dataclass(frozen=True)
class Ward:
    """The containers of an engine that belong to services."""

    client: DockerClient

    def now(self) -> int:
        """Return the engine's time, which need not be ours, in nanoseconds since 1970."""
        with engine_errors("ask the engine for its time"):
            return parse_time(str(self.client.api.info().get("SystemTime", "")))

    def services(self) -> dict[str, list[Attributes]]:
        """Return what the engine says of each container, by the names of their services."""
        with engine_errors("list the containers of services"):
            listed = self.client.api.containers(all=True, filters={"label": [SERVICE]})
        found: dict[str, list[Attributes]] = {}
        for entry in listed:
            try:
                attributes = self.look(entry["Id"])
            except Missing:
                # Removed between the two questions, which is as if it had never been listed.
                continue
            if (attributes.get("State") or {}).get("Status") != "removing":
                found.setdefault(attributes["Config"]["Labels"][SERVICE], []).append(attributes)
        return found

    def look(self, container: str) -> Attributes:
        """Return what the engine says of a container.

        :raises Missing: there is none.
        """
        with engine_errors(f"inspect {container}"):
            seen: Attributes = self.client.api.inspect_container(container)
        return seen

    def make_like(self, template: str, name: str, instances: int, helps: str = "") -> str:
        """Make a container like *template* that does not run yet, nor after a reboot.

        Return its id.

        :param instances: how many there are to be, for its labels.
        :param helps: what it is for, where it is no instance.
        :raises Refused: the engine would not, such as for an image that is gone.
        """
        seen = self.look(template)
        api: Any = self.client.api  # The SDK has no types for this call.
        with refusals(f"create {name}"):
            made = api.create_container_from_config(config_like(seen, instances, helps), name)
            for network in further_networks(seen):
                self.client.api.connect_container_to_network(made["Id"], network)
        return str(made["Id"])

    def wake(self, container: str) -> None:
        """Have a container run: one that is paused goes on, one that hangs is started anew."""
        seen = self.look(container)
        state = seen.get("State") or {}
        if state.get("Paused"):
            with engine_errors(f"let {container} go on"):
                self.client.api.unpause(container)
            return
        if state.get("Running"):
            self.stop(container)
        with refusals(f"start {container}"):
            self.client.api.start(container)

    def stop(self, container: str) -> None:
        """Ask a container to end, within the time that it was made with."""
        seconds = (self.look(container).get("Config") or {}).get("StopTimeout")
        with engine_errors(f"stop {container}"):
            # The client must not give up before the engine does.
            self.client.api.stop(container, timeout=STOP_SECONDS if seconds is None else seconds)

    def secrets(self, container: str) -> set[str]:
        """Return the values of a container's environment that its image does not have."""
        seen = self.look(container)
        try:
            with engine_errors("inspect an image"):
                image = self.client.images.get(seen["Image"]).attrs
        except EngineError:
            image = {}
        own = set(seen["Config"].get("Env") or ()) - set(
            (image.get("Config") or {}).get("Env") or ()
        )
        pairs = (variable.partition("=") for variable in own)
        return split_settings({name: value for name, _equals, value in pairs})[0]


def config_like(seen: Attributes, instances: int, helps: str) -> dict[str, Any]:
    """Return the request for a container like the one the engine has *seen*; pure.

    Its restart policy is ``no`` until it is live.
    """
    config = dict(seen["Config"])
    # By default a container is called after its own id.
    if config.get("Hostname") and seen["Id"].startswith(config["Hostname"]):
        del config["Hostname"]
    labels = {name: value for name, value in (config.get("Labels") or {}).items() if name != HELPS}
    labels[INSTANCES] = str(instances)
    labels[RESTART] = live_restart(container_of(seen))
    if helps:
        labels[HELPS] = helps
    host = {name: value for name, value in seen["HostConfig"].items() if name != "ContainerIDFile"}
    host["RestartPolicy"] = {"Name": NO_RESTART}
    return {**config, "Labels": labels, "HostConfig": host}


def further_networks(seen: Attributes) -> list[str]:
    """Return the networks that a container joins beside the one it is made in."""
    mode = seen["HostConfig"].get("NetworkMode") or "default"
    first = "bridge" if mode == "default" else mode
    return [
        name for name in (seen.get("NetworkSettings") or {}).get("Networks") or {} if name != first
    ]
