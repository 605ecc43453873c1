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
  - A module may outlive that process, and undo or finish what it began. So each module of this
    collection that changes something holds the lock itself until it ends. Taking a lock over waits
    for such modules, as long as O(wait_timeout) says, and so does releasing one.
  - Such a module refuses to begin when the play that started it does not have the lock any more.
  - Several hosts of a play, and several roles on a host, may hold one lock together. It is released
    when the last of them has released it.
author:
  - immutable.delivery contributors (@immutable-delivery)
requirements:
  - python >= 3.11
  - Linux, on the controller as well
notes:
  - The lock is advisory. It keeps apart those who ask for it at the same path.
  - Put the lock on the machine that the modules run on, since only there all of them are seen. When
    a play is killed whose modules run on another machine, that they still work is seen only as long
    as the play's worker processes live.
  - Whether the owner still runs is asked of the machine that the lock lies on, and of the one that
    this play was started on. For owners elsewhere, in another container as well, the lock counts
    for O(ttl) seconds.
  - Modules of other collections do not hold the lock.
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
      - V(held) takes the lock. It fails if another living owner has it.
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
  wait_timeout:
    description:
      - How many seconds to wait for modules that still work under the lock, when it is taken over
        from an owner that has ended, or released. Then the task fails and names them.
      - A lock whose owner lives is not waited for.
    type: float
    default: 300
  force:
    description:
      - Whether to take the lock from a living owner, or to release somebody else's.
      - Modules that still work under it are waited for as well, but not beyond O(wait_timeout).
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

- name: Let others deploy it again
  immutable.delivery.deploy_lock:
    path: /var/lib/delivery/portal.lock
    name: portal
    state: released

- name: Leave it to the next run if anything is at work
  immutable.delivery.deploy_lock:
    path: /var/lib/delivery/portal.lock
    name: the repair of portal
    wait_timeout: 0
"""

RETURN = r"""
held:
  description: Whether this play holds the lock now, for whichever of its hosts.
  returned: success
  type: bool
owner:
  description: Who holds the lock now; null if nobody does.
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
    holders:
      description: For which hosts of that play, and which roles on them.
      type: list
      elements: str
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
  description: From whom it was taken over, like RV(owner); null if that is not known.
  returned: success
  type: dict
waited:
  description: How many seconds it was waited for modules that were still at work.
  returned: success
  type: float
blocked_by:
  description: Who holds the lock, as the file says it.
  returned: failure, if somebody holds it
  type: dict
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
from ..module_utils.errors import BadOption, DeliveryError
from ..module_utils.given import check_seconds
from ..module_utils.identity import ProcessId
from ..module_utils.lock.change import DeployLockChange
from ..module_utils.lock.model import Lock, Observed, Reason, State
from ..module_utils.lock.work import Acquisition
from ..module_utils.wiring import end_with


def main() -> None:
    """Run the module."""
    module = DeliveryModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["held", "released"], "default": "held"},
            "ttl": {"type": "float", "default": 3600.0},
            "wait_timeout": {"type": "float", "default": 300.0},
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
            return {**outcome.result(), **values_of(change, outcome)}

    end_with(module, work)


def change_of(params: dict[str, Any]) -> DeployLockChange:
    """Return the change that the options describe.

    :raises DeliveryError: an option cannot be used.
    """
    if not params["name"].strip():
        raise BadOption("name is empty")
    if not 0 < params["ttl"] < float("inf"):
        raise BadOption("ttl must be more than 0 seconds, and not endless")
    check_seconds(params, ["wait_timeout"])
    owner = params["owner"] or {}
    try:
        asking, user, holder = ProcessId.from_dict(owner), str(owner["user"]), str(owner["holder"])
    except (ValueError, KeyError) as error:
        raise DeliveryError(
            "deploy_lock was run without its action plugin, so it does not know who asks",
            next_step="Run it as a task, by its full name.",
        ) from error
    return DeployLockChange(
        Path(params["path"]).absolute(),
        params["name"],
        params["state"],
        asking,
        user=user,
        holder=holder,
        ttl=params["ttl"],
        force=params["force"],
        wait_timeout=params["wait_timeout"],
        ended=str(owner.get("ended", "")),
    )


def warn(module: DeliveryModule, change: DeployLockChange, outcome: Outcome[Observed]) -> None:
    """Say what was out of the ordinary."""
    before = outcome.before
    if change.left_at_work:
        module.warn(f"still at work under the lock: {', '.join(map(str, change.left_at_work))}")
    if change.waited >= 1:
        module.warn(f"waited {change.waited:.0f} s for modules that worked under the lock")
    if before.state in (State.FREE, State.MINE):
        return
    if not outcome.changed:
        by = f", {before.lock.holder}" if before.lock else ""
        module.warn(f"{change.path} was left alone, since it is not this play's: {before.text}{by}")
    elif before.state is State.HELD and before.lock is not None:
        module.warn(f"the lock was taken from a living owner: {before.lock.holder}")
    elif before.reason is Reason.FOREIGN:
        module.warn(
            f"{change.path} held something that is not a lock"
            + (f"; it was moved to {change.moved_to}" if change.moved_to else "")
        )


def values_of(change: DeployLockChange, outcome: Outcome[Observed]) -> dict[str, Any]:
    """Return what the module documents, beside what all modules return."""
    before, after = outcome.before, outcome.after
    taken_over = (
        change.desired == "held"
        and outcome.changed
        and before.state not in (State.FREE, State.MINE)
    )
    return {
        "held": after.state is State.MINE,
        "owner": shown(after.lock),
        "taken_over": taken_over,
        "previous_owner": shown(before.lock) if taken_over else None,
        "waited": round(change.waited, 3),
        # For the action plugin, which takes it out again.
        "acquisition": Acquisition.here(change.path, after.token or "").as_dict(),
    }


def shown(lock: Lock | None) -> dict[str, Any] | None:
    """Return what is told of a lock's owner."""
    if lock is None:
        return None
    values = lock.as_dict()
    names = ("name", "user", "host", "pid", "holders", "since", "ttl")
    return {name: values[name] for name in names}


if __name__ == "__main__":
    main()
