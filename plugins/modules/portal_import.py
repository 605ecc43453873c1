#!/usr/bin/python
# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: portal_import
short_description: Import dynamic data into an API portal
version_added: 0.1.0
description:
  - Uploads an archive that M(immutable.delivery.portal_export) made to a portal's deploy API, and
    waits until the portal has imported it. All dynamic data of that portal is replaced.
  - The archive is streamed in constant memory.
  - The portal decrypts the archive with its own key, so both portals must have the same one.
  - A portal whose static configuration does not fit the data refuses the import and keeps what it
    had; the module then fails with the portal's own message.
  - In check mode, the file is read and hashed, and a call that changes nothing proves that the
    portal can be reached and takes the key.
author:
  - immutable.delivery contributors (@immutable-delivery)
requirements:
  - python >= 3.11
  - requests
extends_documentation_fragment:
  - immutable.delivery.portal
  - immutable.delivery.portal.job
  - immutable.delivery.portal.lock
  - immutable.delivery.attributes
  - immutable.delivery.attributes.actiongroup_portal
  - immutable.delivery.deploy_locks
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: none
    details:
      - Each run imports again.
options:
  src:
    description:
      - The archive.
    type: path
    required: true
  sha256:
    description:
      - The SHA-256 that the archive must have, in hex, as M(immutable.delivery.portal_export)
        returned it. Where it is not given, the archive is sent with the hash that it has.
    type: str
"""

EXAMPLES = r"""
- name: Restore a backup
  immutable.delivery.portal_import:
    api_url: https://api.example.org
    deployment_key: "{{ portal_deployment_key }}"
    src: /var/backups/portal/portal.tgz.enc

- name: Give the candidate the live one's data, over its own address
  immutable.delivery.portal_import:
    api_url: https://10.0.0.6
    host_header: api.example.org
    deployment_key: "{{ portal_deployment_key }}"
    src: "{{ portal_exported.dest }}"
    sha256: "{{ portal_exported.sha256 }}"
"""

RETURN = r"""
import_id:
  description: The portal's id of the import. Empty in check mode.
  returned: success
  type: str
size:
  description: The archive's size in bytes.
  returned: success
  type: int
sha256:
  description: The archive's SHA-256 in hex.
  returned: success
  type: str
message:
  description: What the portal said when it was done.
  returned: success
  type: str
lock:
  description: The lock on the portal that was imported into, with O(lock=keep).
  returned: success
  type: dict
  contains:
    held:
      description: Whether the portal is read-only by it.
      type: bool
    export_id:
      description: The export that holds it, for M(immutable.delivery.portal_lock).
      type: str
    expires_at:
      description: When it lapses at the earliest (ISO 8601, UTC); empty where it is not held.
      type: str
steps:
  description: Each step, with its name (C(step)) and how long it took (C(seconds)).
  returned: success
  type: list
  elements: dict
"""

from typing import Any

from ..module_utils.change import Outcome
from ..module_utils.portal.importing import ImportChange, Imported
from ..module_utils.portal.options import (
    client_of,
    connection_spec,
    job_spec,
    lock_spec,
    patience_of,
)
from ..module_utils.portal.plan import ImportWanted
from ..module_utils.wiring import changing_module, hand_over, require_requests


def result(outcome: Outcome[Imported]) -> dict[str, Any]:
    """Return what the module documents."""
    seen = outcome.after
    return {
        "import_id": seen.import_id,
        "size": seen.size,
        "sha256": seen.sha256,
        "message": seen.message,
        "lock": seen.lock.result()
        if seen.lock
        else {"held": False, "export_id": "", "expires_at": ""},
    }


def main() -> None:
    """Run the module."""
    module = changing_module(
        argument_spec={
            **connection_spec(),
            **job_spec(),
            **lock_spec(),
            "src": {"type": "path", "required": True},
            "sha256": {"type": "str"},
        },
        supports_check_mode=True,
    )
    require_requests(module)
    params = module.params

    def make() -> ImportChange:
        return ImportChange(
            client_of(params),
            ImportWanted(params["src"], params["lock"] == "keep"),
            patience_of(params),
            expected_sha256=params["sha256"] or "",
            lock_seconds=params["lock_seconds"],
            check_key=module.check_mode,
        )

    hand_over(module, make, result)


if __name__ == "__main__":
    main()
