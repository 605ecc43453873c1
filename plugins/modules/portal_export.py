#!/usr/bin/python
# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: portal_export
short_description: Export the dynamic data of an API portal
version_added: 0.1.0
description:
  - Exports the users, applications and subscriptions of a portal over its deploy API, as the
    encrypted archive that the portal makes, to a file on the host that the module runs on.
  - An export makes the portal read-only. Unless O(lock=keep), the lock is given back as soon as the
    archive is here; whenever the module fails or is interrupted it is given back as well, and no
    partial file remains.
  - The archive is streamed in constant memory to a file beside O(dest), compared with the hash that
    the portal sends, by default decrypted and read as a proof, and only then put in its place with
    mode 0600.
  - In check mode, a call that changes nothing proves that the portal can be reached and takes the
    key.
author:
  - immutable.delivery contributors (@immutable-delivery)
requirements:
  - python >= 3.11
  - requests
  - cryptography (for O(verify_archive) and O(compare_with))
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
      - Each run makes a new archive.
options:
  dest:
    description:
      - The file to write the archive to. Its folder must exist. An archive that is there is
        replaced, and only by a whole and proved one.
    type: path
    required: true
  verify_archive:
    description:
      - Whether to decrypt and read the archive, without extracting it, and to count what is in it.
      - Both key derivations of C(openssl enc) are tried, SHA-256 and that of portals older than
        OpenSSL 1.1.0, MD5.
    type: bool
    default: true
  compare_with:
    description:
      - An earlier archive of the same key. The entities by which the new one differs from it are
        returned, so that what was written between the two is known by name.
    type: path
"""

EXAMPLES = r"""
- name: Back up the portal's data
  immutable.delivery.portal_export:
    api_url: https://api.example.org
    deployment_key: "{{ portal_deployment_key }}"
    dest: /var/backups/portal/portal.tgz.enc

- name: Export for a blue/green deploy, and keep the portal read-only until it is switched away
  immutable.delivery.portal_export:
    api_url: https://10.0.0.5
    host_header: api.example.org
    deployment_key: "{{ portal_deployment_key }}"
    dest: /var/lib/delivery/portal.tgz.enc
    lock: keep
    conflict_timeout: 90
  register: portal_exported
"""

RETURN = r"""
export_id:
  description: The portal's id of the export. Empty in check mode.
  returned: success
  type: str
dest:
  description: Where the archive lies.
  returned: success
  type: str
size:
  description: The archive's size in bytes.
  returned: success
  type: int
sha256:
  description: The archive's SHA-256 in hex, as the portal gave it and as it was found.
  returned: success
  type: str
lock:
  description: The portal's lock.
  returned: success
  type: dict
  contains:
    held:
      description: Whether the portal is read-only by this export.
      type: bool
    export_id:
      description: The export that holds it.
      type: str
    expires_at:
      description: When it lapses at the earliest (ISO 8601, UTC); empty where it is not held.
      type: str
contents:
  description: The number of entities in the archive for each kind. Empty without O(verify_archive).
  returned: success
  type: dict
  sample:
    users: 155
    applications: 150
    subscriptions: 113
    approvals: 0
    verifications: 0
    webhooks: 0
difference:
  description:
    - The entities by which the archive differs from O(compare_with), as C(KIND/ID), at most 100 of
      each.
  returned: when O(compare_with) is given
  type: dict
  contains:
    added:
      description: The entities that only the new archive has.
      type: list
      elements: str
    changed:
      description: The entities that are not the same in both.
      type: list
      elements: str
    removed:
      description: The entities that only the earlier archive has.
      type: list
      elements: str
    total:
      description: How many there are of all three, however many are listed.
      type: int
steps:
  description: Each step, with its name (C(step)) and how long it took (C(seconds)).
  returned: success
  type: list
  elements: dict
"""

from typing import Any

from ..module_utils.change import Outcome
from ..module_utils.portal import archive
from ..module_utils.portal.exporting import ExportChange, Exported
from ..module_utils.portal.options import (
    client_of,
    connection_spec,
    job_spec,
    lock_spec,
    patience_of,
)
from ..module_utils.portal.plan import ExportWanted
from ..module_utils.wiring import changing_module, hand_over, require_library, require_requests

LISTED = 100


def listed(difference: archive.Difference) -> dict[str, Any]:
    """Return a difference with lists that a person can read."""
    kinds = {
        "added": difference.added,
        "changed": difference.changed,
        "removed": difference.removed,
    }
    total = sum(len(names) for names in kinds.values())
    return {**{kind: names[:LISTED] for kind, names in kinds.items()}, "total": total}


def result(outcome: Outcome[Exported], dest: str) -> dict[str, Any]:
    """Return what the module documents."""
    seen = outcome.after
    difference = {} if seen.difference is None else {"difference": listed(seen.difference)}
    return {
        **difference,
        "export_id": seen.lock.export_id if seen.lock else "",
        "dest": dest,
        "size": seen.size,
        "sha256": seen.sha256,
        "lock": seen.lock.result()
        if seen.lock
        else {"held": False, "export_id": "", "expires_at": ""},
        "contents": seen.contents.counts() if seen.contents else {},
    }


def main() -> None:
    """Run the module."""
    module = changing_module(
        argument_spec={
            **connection_spec(),
            **job_spec(),
            **lock_spec(),
            "dest": {"type": "path", "required": True},
            "verify_archive": {"type": "bool", "default": True},
            "compare_with": {"type": "path"},
        },
        supports_check_mode=True,
    )
    require_requests(module)
    params = module.params
    if params["verify_archive"] or params["compare_with"]:
        require_library(module, "cryptography", archive.CRYPTOGRAPHY_IMPORT_ERROR)

    def make() -> ExportChange:
        wanted = ExportWanted(
            params["dest"],
            params["lock"] == "keep",
            params["verify_archive"],
            params["compare_with"] or "",
        )
        return ExportChange(
            client_of(params),
            params["deployment_key"].strip(),
            wanted,
            patience_of(params),
            lock_seconds=params["lock_seconds"],
            check_key=module.check_mode,
        )

    hand_over(module, make, lambda outcome: result(outcome, params["dest"]))


if __name__ == "__main__":
    main()
