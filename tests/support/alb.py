# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs alb_switch in this process, which saves the start of a Python with boto3 for each run."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from typing import Any

from ansible.module_utils.testing import patch_module_args

from ansible_collections.immutable.delivery.plugins.modules import alb_switch
from tests.support.moto_server import REGION, Moto, Stage

# botocore's own repeats take seconds; those of the module are what is tested.
ONCE = {"retries": {"total_max_attempts": 1}}


def arguments(moto: Moto, **options: Any) -> dict[str, Any]:
    """The options of a task."""
    return {
        "endpoint_url": moto.url,
        "region": REGION,
        "access_key": "test",
        "secret_key": "test",
        "aws_config": ONCE,
        "timeout": 20,
        "verify_timeout": 20,
        **options,
    }


def run(options: Mapping[str, Any]) -> dict[str, Any]:
    """Run the module; returns its result, whether it succeeded or failed."""
    output = io.StringIO()
    with patch_module_args(dict(options)), redirect_stdout(output), suppress(SystemExit):
        alb_switch.main()
    result: dict[str, Any] = json.loads(output.getvalue().strip().splitlines()[-1])
    return result


def switch(stage: Stage, state: str, group: str | None = None, **options: Any) -> dict[str, Any]:
    """Bring *stage* to *state*, with the group "v1", "v2" or "v3"."""
    arn = {"target_group": stage.groups[group]} if group else {}
    return run(arguments(stage.moto, listener_arn=stage.listener, state=state, **arn, **options))


def good(result: dict[str, Any]) -> dict[str, Any]:
    """Return *result*; fails the test, showing it, where the module failed."""
    assert not result.get("failed"), result
    return result
