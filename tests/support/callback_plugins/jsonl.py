# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write each task result as one line of JSON to the file that an environment variable names."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

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
