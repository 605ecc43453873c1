#!/usr/bin/python
# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: local_process
short_description: Run a program in the background, without a service manager
version_added: 0.1.0
description:
  - Starts a program that outlives the task, waits until it is ready, and finds it again later; ends
    it with SIGTERM, and with SIGKILL where it does not comply.
  - It needs neither root nor systemd. It is made for a lab on one machine and for tests; nothing
    restarts a program that crashes, or after a boot.
  - A process is known by its number, the moment it started, and the boot, so that a process that
    has got the number of an earlier one is never taken for it, and never signalled.
  - Whenever the task is killed, there is either a record of the process, or no process.
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
  name:
    description:
      - What to call it, in messages and to M(immutable.delivery.local_process_prune).
    type: str
    required: true
  dir:
    description:
      - The folder that holds its record C(process.json), its log C(process.log) and its ready file.
      - It is made, with mode 0700, where it is missing; the folder that it lies in must exist.
    type: path
    required: true
  state:
    description:
      - With V(started) it runs and is ready.
      - With V(stopped) it does not run.
      - With V(absent) it does not run, and O(dir) is deleted with everything in it. A folder that
        is not one of this module's is refused.
    type: str
    choices: [started, stopped, absent]
    default: started
  argv:
    description:
      - The program and its arguments. Needed for O(state=started).
      - Where an argument contains C({ready_file}), that is replaced by the path of a file, and the
        task waits until the program has written JSON with its C(url) and C(pid) to it. Otherwise
        the task only makes sure that the program lives for a moment.
      - C({dir}) and C({name}) are replaced by O(dir) and O(name).
      - The arguments are no place for secrets, since everybody can list them.
    type: list
    elements: str
    default: []
  environment:
    description:
      - Variables that the program gets in addition to those of the task. Secrets belong here.
      - Only a salted hash of them is kept, to tell whether a later task gives the same. They are
        hidden in the result. A short word or number is hidden only beside its name, unless the name
        ends as a secret's does, such as C(DB_PASSWORD).
    type: dict
    default: {}
  cwd:
    description:
      - The folder that the program runs in; O(dir) where it is not given.
    type: path
  restart:
    description:
      - Whether a program that runs with another O(argv), O(cwd) or O(environment) is stopped and
        started anew; an error where it may not be.
    type: bool
    default: false
  ready_timeout:
    description:
      - The seconds that it may take to be ready. It is stopped where it is not ready by then.
    type: float
    default: 20
  stop_timeout:
    description:
      - The seconds that it may take to end after SIGTERM, before it is killed.
    type: float
    default: 20
seealso:
  - module: immutable.delivery.local_process_prune
"""

EXAMPLES = r"""
- name: Run the portal's candidate
  immutable.delivery.local_process:
    name: portal-v24
    dir: /home/deploy/lab/portal-v24
    argv:
      - /usr/bin/python3
      - /home/deploy/apps/portal/main.py
      - --listen
      - 127.0.0.1:0
      - --ready-file
      - "{ready_file}"
    environment:
      PORTAL_DEPLOYMENT_KEY: "{{ portal_deployment_key }}"
  register: portal_candidate

- name: Stop it, and keep its folder
  immutable.delivery.local_process:
    name: portal-v24
    dir: /home/deploy/lab/portal-v24
    state: stopped
"""

RETURN = r"""
name:
  description: Its name.
  returned: success
  type: str
running:
  description: Whether it runs.
  returned: success
  type: bool
pid:
  description: The number of its process; null where it does not run.
  returned: success
  type: int
url:
  description: The address that it wrote to its ready file; null where there is none.
  returned: success
  type: str
started_at:
  description: When it was started last (ISO 8601, UTC); null where that is not known.
  returned: success
  type: str
log_path:
  description: The path of its log.
  returned: always
  type: str
exit_code:
  description:
    - The exit code of a program that ended before it was ready; the negative number of a signal
      that ended it; null where it did not end, or not as a child of this task.
  returned: always
  type: int
log:
  description: The last lines that it logged, with the values of O(environment) hidden.
  returned: failure
  type: list
  elements: str
steps:
  description: Each step, with its name (C(step)) and how long it took (C(seconds)).
  returned: success
  type: list
  elements: dict
"""

from pathlib import Path
from typing import Any

from ..module_utils.change import Outcome, after, run
from ..module_utils.delivery_module import DeliveryModule
from ..module_utils.errors import BadOption
from ..module_utils.given import text_of
from ..module_utils.process.changes import ProcessChange
from ..module_utils.process.plan import Seen, Wanted
from ..module_utils.process.record import LOG
from ..module_utils.process.supervise import ProcessFailed, Program
from ..module_utils.wiring import changing_module, fail


def main() -> None:
    """Run the module."""
    module = changing_module(
        argument_spec={
            "name": {"type": "str", "required": True},
            "dir": {"type": "path", "required": True},
            "state": {
                "type": "str",
                "choices": ["started", "stopped", "absent"],
                "default": "started",
            },
            "argv": {"type": "list", "elements": "str", "default": []},
            "environment": {"type": "dict", "default": {}, "no_log": True},
            "cwd": {"type": "path"},
            "restart": {"type": "bool", "default": False},
            "ready_timeout": {"type": "float", "default": 20.0},
            "stop_timeout": {"type": "float", "default": 20.0},
        },
        supports_check_mode=True,
    )
    params = module.params
    environment = {str(name): text_of(value) for name, value in params["environment"].items()}
    log_path = str(Path(params["dir"]) / LOG)
    try:
        change = change_of(params, environment, module)
        outcome = run(change, check_mode=module.check_mode)
        with after(outcome):
            values = {**outcome.result(), **values_of(params, outcome, log_path)}
    except Exception as error:
        exit_code = error.exit_code if isinstance(error, ProcessFailed) else None
        fail(module, error, exit_code=exit_code, log_path=log_path)
    else:
        module.exit_json(**values)


def change_of(
    params: dict[str, Any], environment: dict[str, str], module: DeliveryModule
) -> ProcessChange:
    """Return the change that the options describe.

    :raises DeliveryError: an option cannot be used.
    """
    if not params["name"].strip():
        raise BadOption("name is empty")
    if params["state"] == "started" and not (params["argv"] and params["argv"][0]):
        raise BadOption("argv must name a program to start")
    if any("\0" in word for word in (*params["argv"], *environment, *environment.values())):
        raise BadOption("neither argv nor environment can carry a NUL character")
    if any(not name or "=" in name for name in environment):
        raise BadOption("environment has a variable whose name is empty or has a =")
    for name in ("ready_timeout", "stop_timeout"):
        if not 0 <= params[name] < float("inf"):
            raise BadOption(f"{name} must not be less than 0, nor endless")
    folder = Path(params["dir"]).absolute()
    program = Program(
        name=params["name"],
        folder=folder,
        argv=tuple(params["argv"]),
        environment=environment,
        cwd=Path(params["cwd"]).absolute() if params["cwd"] else folder,
        ready_timeout=params["ready_timeout"],
    )
    wanted = Wanted(params["name"], params["state"], params["restart"])
    return ProcessChange(program, wanted, params["stop_timeout"], module.warn)


def values_of(params: dict[str, Any], outcome: Outcome[Seen], log_path: str) -> dict[str, Any]:
    """Return what the module documents, beside what all modules return."""
    seen = outcome.after
    return {
        "name": params["name"],
        "running": seen.running,
        "pid": seen.pid if seen.running else None,
        "url": seen.url if seen.running else None,
        "started_at": seen.started_at,
        "log_path": log_path,
        "exit_code": None,
    }


if __name__ == "__main__":
    main()
