# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs M(immutable.delivery.deploy_lock), and the modules that work under the lock that it takes.

The module runs in a process that ends with its task, maybe on another machine. What must be alive
for the lock to count is ansible-playbook itself, which is the parent of the worker that this runs
in. What it has taken is noted in the folder that each run of ansible-playbook has for itself, and
each module that changes something is told of it (C(action_plugin) in meta/runtime.yml), so that
nobody has to say it in a play.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action.normal import ActionModule as NormalAction

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.identity import (
    ProcessId,
    alive,
    process,
    this_machine,
)
from ansible_collections.immutable.delivery.plugins.module_utils.lock.work import (
    Acquisition,
    LockLost,
    call_myself,
    share,
)

LOCK = "immutable.delivery.deploy_lock"


class ActionModule(NormalAction):  # type: ignore[misc]
    """Runs a module with the hidden options that tell it of locks."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the module's result."""
        if self._task.resolved_action == LOCK:
            return self._lock(task_vars)
        return self._work(task_vars)

    def _work(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Run a module that changes something, under the locks of this run of ansible-playbook."""
        name = self._task.resolved_action.rpartition(".")[2]
        # In check mode it changes nothing.
        held = [] if self._task.check_mode else [{**one, "module": name} for one in Notes().read()]
        self._task.args = {**self._task.args, "deploy_locks": held}
        try:
            with at_work(held, name):
                result: dict[str, Any] = super().run(None, task_vars)
        except LockLost as error:
            raise AnsibleActionFail(str(error), result=error.result()) from error
        return result

    def _lock(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Take the lock or give it back, and note it."""
        owner = process(os.getppid())
        if owner is None:
            raise AnsibleActionFail(
                "deploy_lock needs Linux on the controller, with /proc mounted."
            )
        self._supports_async = False
        asking = {**owner.as_dict(), "user": user_name(), "holder": self._holder(task_vars or {})}
        self._task.args = {**self._task.args, "owner": asking}
        result: dict[str, Any] = super().run(None, task_vars)
        ended = ended_here(result)
        if ended:
            self._task.args = {**self._task.args, "owner": {**asking, "ended": ended}}
            result = super().run(None, task_vars)
        acquisition = result.pop("acquisition", None)
        if not result.get("failed") and acquisition and not self._task.check_mode:
            if self._task.args.get("state", "held") == "held":
                Notes().add(asking["holder"], acquisition)
            else:
                Notes().remove(asking["holder"], acquisition)
        return result

    def _holder(self, task_vars: dict[str, Any]) -> str:
        """Return for whom the lock is: this host, and the role on it that asks."""
        host = str(task_vars.get("inventory_hostname", "localhost"))
        # Whichever host runs it, it does so for all of them.
        host = "all hosts" if self._task.run_once else host
        role = self._task._role
        return f"{host} ({role.get_name()})" if role is not None else host


class Notes:
    """The locks that this run of ansible-playbook has taken: a file for each, and each holder."""

    def __init__(self) -> None:
        # A folder of this run alone, which it shares with its workers, and removes at its end.
        self.folder = Path(C.DEFAULT_LOCAL_TMP) / "deploy_locks"

    def add(self, holder: str, acquisition: dict[str, str]) -> None:
        """Note a lock."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._file(holder, acquisition)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(acquisition), encoding="utf-8")
        part.replace(file)

    def remove(self, holder: str, acquisition: dict[str, str]) -> None:
        """Forget a lock."""
        self._file(holder, acquisition).unlink(missing_ok=True)

    def read(self) -> list[dict[str, str]]:
        """Return each lock once."""
        texts = set()
        for file in self.folder.glob("*.json"):
            with suppress(FileNotFoundError):
                texts.add(file.read_text(encoding="utf-8"))
        return [json.loads(text) for text in sorted(texts)]

    def _file(self, holder: str, acquisition: dict[str, str]) -> Path:
        known = [holder, *(acquisition[name] for name in ("path", "boot", "namespace"))]
        return self.folder / f"{hashlib.sha256(json.dumps(known).encode()).hexdigest()}.json"


@contextmanager
def at_work(held: list[dict[str, str]], name: str) -> Iterator[None]:
    """Be at work under the locks that lie on this machine; the module may run on another one.

    :raises LockLost: see :func:`share`.
    """
    handles: list[int] = []
    try:
        for one in held:
            with readable():
                handle = share(Acquisition.from_dict(one))
                if handle is not None:
                    handles.append(handle)
        if handles:
            call_myself(name)
        yield
    finally:
        for handle in handles:
            os.close(handle)


@contextmanager
def readable() -> Iterator[None]:
    """Leave a lock that only the module can read, since it becomes another user, to the module."""
    try:
        yield
    except LockLost:
        raise
    except DeliveryError:
        return


def ended_here(result: dict[str, Any]) -> str:
    """Return the token of the lock that is in the way if its owner ran here and has ended.

    A lock may lie on a machine that cannot look its owner up; this one can.
    """
    blocking = result.get("blocked_by")
    if not (result.get("failed") and isinstance(blocking, dict)):
        return ""
    try:
        owner = ProcessId.from_dict(blocking)
    except ValueError:
        return ""
    ended = this_machine().sees(owner.machine) and not alive(owner)
    return str(blocking.get("token", "")) if ended else ""


def user_name() -> str:
    """Return who runs the play; the number if the machine has no name for it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
