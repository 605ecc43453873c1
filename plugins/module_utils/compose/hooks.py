# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``post_start`` and ``pre_stop``: commands that compose runs in a container (since 2.30)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Thread
from typing import TYPE_CHECKING, Any

from ..deadline import Deadline, Pace, wait_for
from ..engine.errors import engine_errors
from ..engine.inspect import Container
from ..errors import DeliveryError, TimeoutExceeded, cut_log

if TYPE_CHECKING:
    from docker import DockerClient

POST_START = "post_start"
PRE_STOP = "pre_stop"
HOOK_PACE = Pace(interval=0.1, first=0.0)


class HookFailed(DeliveryError):
    """A hook did not end with 0, or not in time."""

    kind = "hook"


def run_hooks(
    client: DockerClient,
    container: Container,
    kind: str,
    hooks: Sequence[Mapping[str, Any]],
    deadline: Deadline,
) -> None:
    """Run the hooks of one kind in a container, one after the other.

    :param hooks: as ``docker compose config`` renders them.
    :raises HookFailed: one failed; those after it were not run.
    """
    for hook in hooks:
        _run(client, container, kind, hook, deadline)


def _run(
    client: DockerClient,
    container: Container,
    kind: str,
    hook: Mapping[str, Any],
    deadline: Deadline,
) -> None:
    with engine_errors(f"run the {kind} hook of {container.name}"):
        made = client.api.exec_create(
            container.id,
            _plain(hook["command"]),
            user=_plain(hook.get("user") or ""),
            privileged=bool(hook.get("privileged")),
            workdir=_plain(hook.get("working_dir")),
            environment=_plain(hook.get("environment")),
        )
    ended: list[bytes | Exception] = []

    def run() -> None:
        try:
            with engine_errors(f"run the {kind} hook of {container.name}"):
                ended.append(client.api.exec_start(made["Id"]))
        except Exception as error:
            ended.append(error)

    # It is waited for as long as it takes, so nobody waits for the thread at the end.
    Thread(target=run, daemon=True).start()
    try:
        wait_for(
            lambda: True if ended else None,
            deadline=deadline,
            pace=HOOK_PACE,
            what=f"the {kind} hook of {container.name} to end",
        )
    except TimeoutExceeded as error:
        raise HookFailed(
            error.message, next_step="Raise wait_timeout, or find out what the hook waits for."
        ) from error
    said = ended[0]
    if isinstance(said, Exception):
        raise said
    with engine_errors(f"ask for the end of the {kind} hook of {container.name}"):
        code = client.api.exec_inspect(made["Id"])["ExitCode"]
    if code:
        raise HookFailed(
            f"the {kind} hook of {container.name} ended with exit code {code}",
            log=cut_log((said or b"").decode(errors="replace").splitlines()),
            next_step="Fix the hook in the compose files, then run this again.",
        )


def _plain(value: Any) -> Any:
    """Return what compose has rendered with each ``$`` doubled."""
    if isinstance(value, str):
        return value.replace("$$", "$")
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
