# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers started, stopped, renamed and removed, and what undoes each.

Every call is satisfied where it finds nothing to do, so that it can be repeated. The *name* of a
call is for messages only.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ..deadline import Deadline, Pace, wait_for
from ..errors import TimeoutExceeded
from .errors import EngineError, Missing, engine_errors, refusals
from .inspect import SECOND, Container, inspect, parse_time

if TYPE_CHECKING:
    from docker import DockerClient

# The restart policy of what is kept, tried or rehearsed: it never runs after a reboot.
NO_RESTART = "no"
# Seconds that an engine may take to end a container once its grace is over.
KILL_SECONDS = 10.0
STOP_PACE = Pace(interval=0.2, first=0.0)


@dataclass(frozen=True)
class Containers:
    """What is done with an engine's containers."""

    client: DockerClient

    def find(self, *labels: str) -> list[Container]:
        """Return the containers, running or not, that have all *labels* (``NAME=VALUE``)."""
        with engine_errors(f"list the containers with {', '.join(labels)}"):
            listed = self.client.api.containers(all=True, filters={"label": list(labels)})
        found = []
        for entry in listed:
            # Removed between the two questions is as good as never listed.
            with suppress(Missing):
                found.append(self.inspect(entry["Id"]))
        return found

    def inspect(self, container: str, name: str = "") -> Container:
        """Return one container by its id or name.

        :raises Missing: there is none.
        """
        return inspect(self.client, container, name)

    def start(self, container: str, name: str = "", *, restart: str | None = None) -> None:
        """Start a container.

        :param restart: the restart policy to give it first; None leaves it as it is.
        """
        if restart is not None:
            self.set_restart(container, restart, name)
        with refusals(f"start {_called(container, name)}"):
            self.client.api.start(container)

    def stop(self, container: str, grace: int, name: str = "") -> None:
        """Ask a container to end, and kill it after *grace* seconds.

        A call that is interrupted goes on in the engine: see :meth:`start_again`.
        """
        with engine_errors(f"stop {_called(container, name)}"):
            self.client.api.stop(container, timeout=grace)

    def stop_and_keep(self, container: str, grace: int, name: str = "") -> None:
        """Stop a container so that it stays stopped, also when the engine starts anew."""
        self.stop(container, grace, name)
        self.set_restart(container, NO_RESTART, name)

    def start_again(
        self, container: str, grace: int, name: str = "", *, restart: str | None = None
    ) -> None:
        """Undo :meth:`stop` or :meth:`stop_and_keep`, whether it ended or was interrupted.

        To start a container does nothing while the engine is still stopping it, and leaves it
        stopped. So the end of the stop is waited for. A container that runs on after its grace was
        never asked to stop.

        :param grace: the seconds that the stop gave it.
        :param restart: the restart policy that it had.
        """
        with suppress(TimeoutExceeded):
            wait_for(
                lambda: None if self.inspect(container, name).alive else True,
                deadline=Deadline(grace + KILL_SECONDS),
                pace=STOP_PACE,
                what=f"{_called(container, name)} to stop",
            )
        self.start(container, name, restart=restart)

    def set_restart(self, container: str, policy: str, name: str = "") -> None:
        """Give a container a restart policy, as the CLI writes it: ``on-failure:3``."""
        if self.inspect(container, name).restart == policy:
            return
        kind, _colon, most = policy.partition(":")
        with engine_errors(f"set the restart policy of {_called(container, name)}"):
            self.client.api.update_container(
                container,
                restart_policy={"Name": cast(Any, kind), "MaximumRetryCount": int(most or 0)},
            )

    def rename(self, container: str, new: str) -> None:
        """Give a container another name."""
        if self.inspect(container).name == new:
            return
        with engine_errors(f"rename the container {container[:12]} to {new}"):
            self.client.api.rename(container, new)

    def remove(self, container: str, name: str = "", *, volumes: bool = True) -> bool:
        """Remove a container, running or not; return whether there was one.

        :param volumes: whether the volumes without a name that were made for it go with it.
        """
        try:
            with engine_errors(f"remove {_called(container, name)}"):
                self.client.api.remove_container(container, v=volumes, force=True)
        except Missing:
            return False
        except EngineError as error:
            if "already in progress" not in error.message:
                raise
        return True

    def last_exit(self, container: Container) -> int | None:
        """Return the code of its last exit, also if it has been restarted since."""
        return last_exit(self.client, container)


def last_exit(client: DockerClient, container: Container) -> int | None:
    """Return the exit code of a container's last end; None if the engine does not know it.

    What runs again has no exit code. The engine's events have it, the last 256 of all of them.
    """
    if not container.running:
        return container.exit_code
    filters = {"container": container.id, "event": "die", "type": "container"}
    code: int | None = None
    try:
        with engine_errors(f"ask for the events of {container.name}"):
            now = parse_time(str(client.api.info().get("SystemTime", "")))
            # The engine takes SECONDS.NANOSECONDS, which the SDK's types do not know of.
            events: Any = client.api.events
            since, until = container.created // SECOND, f"{now // SECOND}.{now % SECOND:09d}"
            for event in events(since=since, until=until, filters=filters, decode=True):
                attributes = (event.get("Actor") or {}).get("Attributes") or {}
                code = int(attributes.get("exitCode") or 0)
    except EngineError:
        return code
    return code


def _called(container: str, name: str) -> str:
    return name or (container if len(container) < 64 else f"the container {container[:12]}")
