#!/usr/bin/python
# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: deploy_lock
short_description: Keep two deploys of the same thing apart
version_added: 0.1.0
description:
  - Takes or gives back a lock file that says who deploys, from where and since when. A second
    deploy is refused with just that.
  - The lock belongs to the C(ansible-playbook) that takes it. It holds from one task to the next,
    and when that process has ended, however it ended, the next one takes the lock over.
  - Whether the owner still runs is asked of the machine that the lock lies on, so let this run
    there where the deploys are started from, with C(delegate_to) if need be. For owners elsewhere,
    in another container as well, the lock counts for O(ttl) seconds.
author:
  - immutable.delivery contributors (@immutable-delivery)
requirements:
  - python >= 3.11
  - Linux, on the controller as well
notes:
  - The lock is advisory. It keeps apart those who ask for it at the same path.
extends_documentation_fragment:
  - immutable.delivery.attributes
attributes:
  check_mode:
    support: full
    details:
      - Fails where somebody else holds the lock, as it would without check mode.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  path:
    description:
      - The lock file. The folder that it lies in must exist.
      - It is readable for all, so that everybody can see who deploys.
    type: path
    required: true
  name:
    description:
      - What is being deployed, for the message that refuses others.
    type: str
    required: true
  state:
    description:
      - V(held) takes the lock, and fails where another living owner has it.
      - V(released) gives it back. A lock of somebody else is left alone, with a warning.
    type: str
    choices: [held, released]
    default: held
  ttl:
    description:
      - For how many seconds the lock counts to those who cannot look up whether its owner runs,
        since that is on another machine.
    type: float
    default: 3600
  force:
    description:
      - Whether to take the lock from a living owner, or to release somebody else's.
    type: bool
    default: false
  owner:
    description:
      - Who asks. The action plugin fills this in; what is given in a task is not used.
    type: dict
"""

EXAMPLES = r"""
- name: Let nobody else deploy the portal meanwhile
  immutable.delivery.deploy_lock:
    path: /var/lib/delivery/portal.lock
    name: portal
  delegate_to: localhost

- name: Let others deploy it again
  immutable.delivery.deploy_lock:
    path: /var/lib/delivery/portal.lock
    name: portal
    state: released
  delegate_to: localhost
"""

RETURN = r"""
held:
  description: Whether this play holds the lock now.
  returned: success
  type: bool
owner:
  description: Who holds the lock now; null where nobody does.
  returned: success
  type: dict
  contains:
    name:
      description: What is being deployed.
      type: str
    user:
      description: Who runs the play.
      type: str
    host:
      description: The machine it runs on.
      type: str
    pid:
      description: The number of its main process.
      type: int
    since:
      description: Since when (ISO 8601, UTC).
      type: str
    ttl:
      description: For how many seconds it counts to other machines.
      type: float
taken_over:
  description:
    - Whether the lock had been left by an owner that has ended, or was taken from one by O(force).
  returned: success
  type: bool
previous_owner:
  description: From whom it was taken over, like RV(owner); null where that is not known.
  returned: success
  type: dict
steps:
  description: Each step with the seconds it took.
  returned: success
  type: list
  elements: dict
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.change import Outcome, after, run
from ..module_utils.errors import DeliveryError
from ..module_utils.identity import ProcessId
from ..module_utils.lock import Lock, LockChange, Observed, State
from ..module_utils.wiring import end_with


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["held", "released"], "default": "held"},
            "ttl": {"type": "float", "default": 3600.0},
            "force": {"type": "bool", "default": False},
            "owner": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    params = module.params

    def work() -> dict[str, Any]:
        change = change_of(params)
        outcome = run(change, check_mode=module.check_mode)
        with after(outcome):
            warn(module, change, outcome)
            return {**outcome.result(), **values_of(params, outcome)}

    end_with(module, work)


def change_of(params: dict[str, Any]) -> LockChange:
    """Return the change that the options describe.

    :raises DeliveryError: an option cannot be used.
    """
    if not params["name"].strip():
        raise DeliveryError("name is empty")
    if not 0 < params["ttl"] < float("inf"):
        raise DeliveryError("ttl must be more than 0 seconds, and not endless")
    owner = params["owner"] or {}
    try:
        asking, user = ProcessId.from_dict(owner), str(owner["user"])
    except (ValueError, KeyError) as error:
        raise DeliveryError(
            "deploy_lock was run without its action plugin, so it does not know who asks",
            next_step="Run it as a task, by its full name.",
        ) from error
    return LockChange(
        Path(params["path"]).absolute(),
        params["name"],
        params["state"],
        asking,
        user,
        ttl=params["ttl"],
        force=params["force"],
    )


def warn(module: AnsibleModule, change: LockChange, outcome: Outcome[Observed]) -> None:
    """Say what was out of the ordinary."""
    before = outcome.before
    if before.state in (State.FREE, State.MINE):
        return
    if not outcome.changed:
        by = f", {before.lock.holder}" if before.lock else ""
        module.warn(
            f"{change.path} was left alone, since it is not this play's: {before.state.value}{by}"
        )
    elif before.state is State.HELD and before.lock is not None:
        module.warn(f"the lock was taken from a living owner: {before.lock.holder}")
    elif before.state is State.FOREIGN:
        module.warn(
            f"{change.path} held something that is no lock"
            + (f"; it was moved to {change.moved_to}" if change.moved_to else "")
        )


def values_of(params: dict[str, Any], outcome: Outcome[Observed]) -> dict[str, Any]:
    """Return what the module documents, beside what all modules return."""
    before, after = outcome.before, outcome.after
    taken_over = (
        params["state"] == "held"
        and outcome.changed
        and before.state not in (State.FREE, State.MINE)
    )
    return {
        "held": after.state is State.MINE,
        "owner": shown(after.lock),
        "taken_over": taken_over,
        "previous_owner": shown(before.lock) if taken_over else None,
    }


def shown(lock: Lock | None) -> dict[str, Any] | None:
    """Return what is told of a lock's owner."""
    if lock is None:
        return None
    values = lock.as_dict()
    return {name: values[name] for name in ("name", "user", "host", "pid", "since", "ttl")}


if __name__ == "__main__":
    main()
