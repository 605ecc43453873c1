#!/usr/bin/python
# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: portal_lock
short_description: Prove or give back the lock that an export holds on an API portal
version_added: 0.1.0
description:
  - An export makes a portal read-only until it is given back, or until the lock lapses, 60 seconds
    after the export began. From then on the portal takes writes that the archive does not have.
  - With O(state=held), fails where the lock has lapsed. It changes nothing. Ask right before the
    switch of a blue/green deploy, and right after it.
  - With O(state=released), gives the lock back, and is satisfied where it has lapsed already.
author:
  - immutable.delivery contributors (@immutable-delivery)
requirements:
  - python >= 3.11
  - requests
extends_documentation_fragment:
  - immutable.delivery.portal
  - immutable.delivery.attributes
  - immutable.delivery.attributes.actiongroup_portal
  - immutable.delivery.deploy_locks
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  export_id:
    description:
      - The export that holds the lock, as M(immutable.delivery.portal_export) returned it.
    type: str
    required: true
  state:
    description:
      - V(held) to prove that the lock is still held; V(released) to give it back.
    type: str
    choices: [held, released]
    default: held
  expires_at:
    description:
      - When the lock lapses at the earliest (ISO 8601), as M(immutable.delivery.portal_export)
        returned it.
    type: str
  min_remaining:
    description:
      - With O(state=held) and O(expires_at), the seconds that the lock must last at least.
    type: float
    default: 0
"""

EXAMPLES = r"""
- name: Make sure that the live portal has taken no write since the export
  immutable.delivery.portal_lock:
    api_url: https://10.0.0.5
    host_header: api.example.org
    deployment_key: "{{ portal_deployment_key }}"
    export_id: "{{ portal_exported.export_id }}"
    expires_at: "{{ portal_exported.lock.expires_at }}"
    min_remaining: 5
    state: held

- name: Let users write again
  immutable.delivery.portal_lock:
    api_url: https://10.0.0.5
    host_header: api.example.org
    deployment_key: "{{ portal_deployment_key }}"
    export_id: "{{ portal_exported.export_id }}"
    state: released
"""

RETURN = r"""
held:
  description: Whether the export holds the lock now.
  returned: success
  type: bool
remaining:
  description:
    - Seconds until the lock lapses at the earliest, as it was observed; -1 where it is not held or
      not known.
  returned: success
  type: float
steps:
  description: Each step, with its name (C(step)) and how long it took (C(seconds)).
  returned: success
  type: list
  elements: dict
"""

from datetime import UTC, datetime
from typing import Any

from ..module_utils.change import Outcome
from ..module_utils.errors import BadOption
from ..module_utils.portal.locking import LockChange
from ..module_utils.portal.options import client_of, connection_spec
from ..module_utils.portal.plan import LockObserved
from ..module_utils.wiring import changing_module, hand_over, require_requests


def moment(text: str | None) -> datetime | None:
    """Return an ISO 8601 text as a moment; without a zone it is UTC."""
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadOption(f"expires_at is not an ISO 8601 moment: {text}") from error
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def result(outcome: Outcome[LockObserved]) -> dict[str, Any]:
    """Return what the module documents."""
    seen = outcome.after
    return {
        "held": seen.held,
        "remaining": seen.remaining if seen.held and seen.remaining is not None else -1.0,
    }


def main() -> None:
    """Run the module."""
    module = changing_module(
        argument_spec={
            **connection_spec(),
            "export_id": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["held", "released"], "default": "held"},
            "expires_at": {"type": "str"},
            "min_remaining": {"type": "float", "default": 0.0},
        },
        supports_check_mode=True,
    )
    require_requests(module)
    params = module.params

    def make() -> LockChange:
        if not params["export_id"].strip():
            raise BadOption("export_id is empty")
        return LockChange(
            client_of(params),
            params["export_id"].strip(),
            params["state"],
            timeout=params["timeout"],
            expires_at=moment(params["expires_at"]),
            min_remaining=params["min_remaining"],
        )

    hand_over(module, make, result)


if __name__ == "__main__":
    main()
