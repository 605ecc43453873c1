# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that the portal's modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """The connection (``portal``), the jobs (``portal.job``), and what becomes of the lock."""

    DOCUMENTATION = r"""
options:
  api_url:
    description:
      - Where to connect to the portal's API, without the C(/deploy/v1) below which the deploy API
        lies. For the candidate of a blue/green deploy this is its own address, not that of the load
        balancer.
    type: str
    required: true
  deployment_key:
    description:
      - The portal's deployment key. It is also the key that the archives are encrypted with.
    type: str
    required: true
  host_header:
    description:
      - The host name that the portal answers to, where O(api_url) has another one. Over TLS it is
        also the name that the certificate must be made for.
    type: str
  validate_certs:
    description:
      - Whether to check the TLS certificate.
    type: bool
    default: true
  ca_path:
    description:
      - A file of CA certificates to trust instead of the system's.
    type: path
  timeout:
    description:
      - The seconds that the whole task may take.
    type: float
    default: 300
"""

    JOB = r"""
options:
  poll_interval:
    description:
      - The seconds between two looks at the job, after the first few; at least 2, since the portal
        takes 25 calls a minute.
    type: float
    default: 2
  conflict_timeout:
    description:
      - How many seconds to wait out somebody else's export or import; V(0) fails at once.
    type: float
    default: 0
  lock_seconds:
    description:
      - How long the portal holds the lock of an export, in seconds. It is the portal's own
        constant; give it only where that was changed.
    type: float
    default: 60
"""

    LOCK = r"""
options:
  lock:
    description:
      - V(release) leaves the portal writable.
      - V(keep) leaves it read-only, until M(immutable.delivery.portal_lock) gives the lock back or
        it lapses. For an import, a lock is taken on the portal once it has the data, so that it
        takes no write before it was proved.
    type: str
    choices: [release, keep]
    default: release
"""
