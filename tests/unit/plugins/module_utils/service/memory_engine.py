# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine in memory that answers the calls of the SDK which a deploy makes."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import docker.errors

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def _labels(one: dict[str, Any]) -> dict[str, str]:
    return dict(one["Config"]["Labels"])


class MemoryEngine:
    """Containers by id. Ports that the engine picks change with each start."""

    def __init__(self) -> None:
        self.api = self
        self.images = SimpleNamespace()
        self.found: dict[str, dict[str, Any]] = {}
        self.clock = 0
        self.port = 40000
        # Called before each call, with its name and the container's.
        self.before: Callable[[str, str], None] = lambda call, name: None

    # Looking

    def containers(
        self, all: bool, filters: dict[str, list[str]] | None = None
    ) -> list[dict[str, str]]:
        pairs = [label.partition("=") for label in (filters or {}).get("label", ())]
        return [
            {"Id": one["Id"]}
            for one in self.found.values()
            if not [1 for name, _equals, value in pairs if _labels(one).get(name) != value]
        ]

    def inspect_container(self, container: str) -> dict[str, Any]:
        return self._of(container, "inspect")

    def inspect_image(self, name: str) -> dict[str, str]:
        return {"Id": name}

    def networks(self, filters: dict[str, str]) -> list[dict[str, str]]:
        return []

    def logs(self, container: str, **more: Any) -> bytes:
        return b""

    def info(self) -> dict[str, str]:
        return {"SystemTime": self._now(), "Name": socket.gethostname()}

    def events(self, **more: Any) -> list[Any]:
        return []

    def named(self, name: str) -> dict[str, Any]:
        """Return a container by its name."""
        return next(one for one in self.found.values() if one["Name"] == f"/{name}")

    def running(self) -> list[str]:
        """Return the names of those that run."""
        states = ((one["Name"][1:], one["State"]["Status"]) for one in self.found.values())
        return sorted(name for name, status in states if status == "running")

    # Changing

    def make(self, name: str, labels: dict[str, str], port: int) -> str:
        """Run a container; return its id."""
        host = {"restart_policy": {"Name": "no"}, "port_bindings": {f"{port}/tcp": ("", None)}}
        one = self.create_container("image", name=name, labels=labels, host_config=host)["Id"]
        self.start(one)
        return one

    def create_host_config(self, **values: Any) -> dict[str, Any]:
        return values

    def create_container(self, image: str, **values: Any) -> dict[str, str]:
        self.clock += 1
        one = f"{self.clock:064x}"
        host = values["host_config"]
        self.found[one] = {
            "Id": one,
            "Name": f"/{values['name']}",
            "Image": image,
            "Created": self._now(),
            "State": {"Status": "created"},
            "Config": {"Image": image, "Labels": values["labels"]},
            "HostConfig": {
                "RestartPolicy": host["restart_policy"],
                "PortBindings": {
                    inner: [{"HostIp": where[0], "HostPort": str(where[1] or "")}]
                    for inner, where in host["port_bindings"].items()
                },
            },
            "NetworkSettings": {},
        }
        return {"Id": one}

    def start(self, container: str) -> None:
        one = self._of(container, "start")
        if one["State"]["Status"] == "running":
            return
        self.port += 1
        one["State"] = {"Status": "running", "StartedAt": self._now()}
        one["NetworkSettings"] = {
            "Ports": {
                inner: [{"HostPort": bindings[0]["HostPort"] or str(self.port)}]
                for inner, bindings in one["HostConfig"]["PortBindings"].items()
            }
        }

    def stop(self, container: str, timeout: int) -> None:
        self._ended(self._of(container, "stop"), 0)

    def crash(self, name: str) -> None:
        """End a container, which its engine does not start again."""
        self._ended(self.named(name), 3)

    def restart(self, name: str) -> None:
        """End a container and start it again, as an engine does that is restarted."""
        self.crash(name)
        self.start(self.named(name)["Id"])

    def update_container(self, container: str, restart_policy: dict[str, Any]) -> None:
        self._of(container, "update")["HostConfig"]["RestartPolicy"] = restart_policy

    def rename(self, container: str, new: str) -> None:
        self._of(container, "rename")["Name"] = f"/{new}"

    def remove_container(self, container: str, v: bool, force: bool) -> None:
        del self.found[self._of(container, "remove")["Id"]]

    def _of(self, container: str, call: str) -> dict[str, Any]:
        for one in (self.found.get(container), *self.found.values()):
            if one is not None and container in (one["Id"], one["Name"][1:]):
                self.before(call, one["Name"][1:])
                if one["Id"] in self.found:
                    return one
        raise docker.errors.NotFound(f"No such container: {container}")

    def _ended(self, one: dict[str, Any], code: int) -> None:
        one["State"] = {"Status": "exited", "ExitCode": code, "FinishedAt": self._now()}
        one["NetworkSettings"] = {}

    def _now(self) -> str:
        self.clock += 1
        return (BEGAN + timedelta(seconds=self.clock)).isoformat()
