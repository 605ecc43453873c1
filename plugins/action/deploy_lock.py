# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Adds to M(immutable.delivery.deploy_lock) who asks: the main process of the play.

The module runs in a process that ends with its task, maybe on another machine. What must be alive
for the lock to count is ansible-playbook itself, which is the parent of the worker that this runs
in.
"""

from __future__ import annotations

import os
import pwd
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.immutable.delivery.plugins.module_utils.identity import process


class ActionModule(ActionBase):  # type: ignore[misc]
    """Runs the module with its hidden option ``owner``."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the module's result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        owner = process(os.getppid())
        if owner is None:
            raise AnsibleActionFail(
                "deploy_lock needs Linux on the controller, with /proc mounted."
            )
        arguments = {**self._task.args, "owner": {**owner.as_dict(), "user": user_name()}}
        result.update(
            self._execute_module(
                module_name="immutable.delivery.deploy_lock",
                module_args=arguments,
                task_vars=task_vars,
            )
        )
        self._remove_tmp_path(self._connection._shell.tmpdir)
        return result


def user_name() -> str:
    """Return who runs the play; the number where the machine has no name for it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
