# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write each task result as one line of JSON to the file that an environment variable names.

Where another one names a folder, the plays of a test run share there what each would else make
anew: the zip files of modules, and what Python compiles of them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.callback import CallbackBase

COMPILE_ONCE = Path(__file__).resolve().parents[1] / "compile_once"

DOCUMENTATION = r"""
name: jsonl
type: notification
short_description: one line of JSON a task result, for the tests
description: The file is named by the environment variable DELIVERY_TEST_RESULTS.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Results only; what is shown to people stays as it is."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "jsonl"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Ansible looks a thousand times a second whether a task has ended; several plays run here.
        constants.DEFAULT_INTERNAL_POLL_INTERVAL = 0.005
        shared = os.environ.get("DELIVERY_TEST_SHARED")
        if shared:
            # Where Ansible looks for a zip file that it has made already.
            made = Path(constants.DEFAULT_LOCAL_TMP) / "ansiballz_cache"
            made.symlink_to(shared, target_is_directory=True)
            paths = (str(COMPILE_ONCE), os.environ.get("PYTHONPATH"))
            os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)

    def _write(self, result: Any, status: str, ignored: bool = False) -> None:
        task = result._task
        censored = bool(task.no_log)
        line = {
            "task": task.get_name().rpartition(" : ")[2],
            "action": task.action,
            "host": result._host.get_name(),
            "status": status,
            "ignored": ignored,
            "result": {"censored": True} if censored else result._result,
        }
        with Path(os.environ["DELIVERY_TEST_RESULTS"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        self._write(result, "ok")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._write(result, "failed", ignore_errors)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._write(result, "skipped")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._write(result, "unreachable")
