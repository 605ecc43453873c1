# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let the plays of a test run share what each would else make anew, in the folder of a variable.

That is the zip files of modules, and what Python compiles of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.callback import CallbackBase

COMPILE_ONCE = Path(__file__).resolve().parents[1] / "machine" / "compile_once"

DOCUMENTATION = r"""
name: shared
type: notification
short_description: what plays have in common is made once, for the tests
description: The folder is named by the environment variable DELIVERY_TEST_SHARED.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """It is told of nothing: that it is loaded before the first task is what it is for."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "shared"

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
