# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option of those modules that can have a registry in Consul as their router."""

from __future__ import annotations


class ModuleDocFragment:
    """The agent of Consul, and who has to follow."""

    DOCUMENTATION = r"""
options:
  consul:
    description:
      - For O(router=consul), which is a registry as O(etcd) is, in the keys of Consul. It was tried
        against a stand-in only, and not against Consul itself.
    type: dict
    suboptions:
      address:
        description:
          - The HTTP API of an agent of Consul.
        type: str
        default: http://127.0.0.1:8500
      token:
        description:
          - A token that may write keys below O(consul.prefix) and sessions.
        type: str
      prefix:
        description:
          - What the names of all keys begin with; the same as the registrars have.
        type: str
        default: /delivery
      validate_certs:
        description:
          - Whether to check the TLS certificates of the agent.
        type: bool
        default: true
      ca_path:
        description:
          - A file of CA certificates to trust for the agent instead of the system's.
        type: path
      nodes:
        description:
          - The names of the registrars that have to follow; by default all that ever reported and
            were not forgotten since.
        type: list
        elements: str
        default: []
      follow_timeout:
        description:
          - The seconds that the registrars may take to follow, and before that to have their
            routers find the new addresses healthy.
        type: float
        default: 60
      header_name:
        description:
          - The header by which a client asks the routers for the candidate, as they are configured.
        type: str
        default: x-client-mode
      candidate_value:
        description:
          - The value that it has for the candidate.
        type: str
        default: green
"""
