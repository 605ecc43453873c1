#!/usr/bin/python
# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: local_process_prune
short_description: Stop and delete background programs that are not needed any more
version_added: 0.1.0
description:
  - Looks at the folders of programs that M(immutable.delivery.local_process) started, stops those
    that may not run, and deletes the oldest of those that do not run.
  - Folders that hold no record of a program are left alone, and so are symbolic links.
  - In check mode it lists what there is.
author:
  - immutable.delivery contributors (@immutable-delivery)
requirements:
  - python >= 3.11
  - Linux
extends_documentation_fragment:
  - immutable.delivery.attributes
  - immutable.delivery.deploy_locks
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  dir:
    description:
      - The folder in which the programs' own folders lie. Where it is missing, there are none.
    type: path
    required: true
  running:
    description:
      - The names of the programs that may run. They are not deleted either, should they have ended.
    type: list
    elements: str
    required: true
  keep:
    description:
      - How many of the others to keep, those that were started last.
    type: int
    default: 1
  protect:
    description:
      - Names of programs that are never deleted. They do not count as kept ones.
    type: list
    elements: str
    default: []
  stop_timeout:
    description:
      - The seconds that each may take to end after SIGTERM, before it is killed.
    type: float
    default: 20
seealso:
  - module: immutable.delivery.local_process
"""

EXAMPLES = r"""
- name: Retire every version but the live one, and keep the one before it
  immutable.delivery.local_process_prune:
    dir: /home/deploy/lab
    running: [portal-v24]
    keep: 1
"""

RETURN = r"""
running:
  description: The names of those that run now.
  returned: success
  type: list
  elements: str
stopped:
  description: The names of those that were stopped; in check mode, that would be.
  returned: success
  type: list
  elements: str
deleted:
  description: The names of those whose folders were deleted; in check mode, that would be.
  returned: success
  type: list
  elements: str
instances:
  description: What there is now, the one that was started last first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    dir:
      description: Its folder.
      type: str
    running:
      description: Whether it runs.
      type: bool
    pid:
      description: The number of its process; null where it does not run.
      type: int
    url:
      description: The address that it wrote to its ready file; null where it does not run.
      type: str
    started_at:
      description: When it was started (ISO 8601, UTC).
      type: str
steps:
  description: Each step, with its name (C(step)) and how long it took (C(seconds)).
  returned: success
  type: list
  elements: dict
"""

from pathlib import Path
from typing import Any

from ..module_utils.change import Outcome
from ..module_utils.errors import BadOption
from ..module_utils.process.changes import PruneChange
from ..module_utils.process.plan import DELETE, STOP, Instance, plan_prune
from ..module_utils.wiring import changing_module, hand_over


def main() -> None:
    """Run the module."""
    module = changing_module(
        argument_spec={
            "dir": {"type": "path", "required": True},
            "running": {"type": "list", "elements": "str", "required": True},
            "keep": {"type": "int", "default": 1},
            "protect": {"type": "list", "elements": "str", "default": []},
            "stop_timeout": {"type": "float", "default": 20.0},
        },
        supports_check_mode=True,
    )
    params = module.params

    def make() -> PruneChange:
        for name in ("keep", "stop_timeout"):
            if not 0 <= params[name] < float("inf"):
                raise BadOption(f"{name} must not be less than 0, nor endless")
        return PruneChange(
            Path(params["dir"]).absolute(),
            running=params["running"],
            keep=params["keep"],
            protect=params["protect"],
            stop_timeout=params["stop_timeout"],
            warn=module.warn,
        )

    def result(outcome: Outcome[list[Instance]]) -> dict[str, Any]:
        steps = plan_prune(
            outcome.before,
            running=params["running"],
            keep=params["keep"],
            protect=params["protect"],
        )
        return {
            "running": [seen.name for seen in outcome.after if seen.running],
            "stopped": [step.detail["name"] for step in steps if step.action == STOP],
            "deleted": [step.detail["name"] for step in steps if step.action == DELETE],
            "instances": [
                {
                    "name": seen.name,
                    "dir": seen.folder,
                    "running": seen.running,
                    "pid": seen.pid,
                    "url": seen.url,
                    "started_at": seen.started_at,
                }
                for seen in outcome.after
            ],
        }

    hand_over(module, make, result)


if __name__ == "__main__":
    main()
