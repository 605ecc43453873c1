# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option of those modules that can have a registry in etcd as their router."""

from __future__ import annotations


class ModuleDocFragment:
    """The members of etcd, and who has to follow."""

    DOCUMENTATION = r"""
options:
  etcd:
    description:
      - Needed for O(router=etcd), which is a registry apart from the routers. What is decided is
        written to etcd, and C(apps/registrar) beside each HAProxy or nginx follows it there.
      - A switch is done when the registrars of all routers have said that theirs follow. Where one
        cannot, the earlier registration is put back.
    type: dict
    suboptions:
      endpoints:
        description:
          - The addresses of etcd's members, version 3.4 or newer, such as C(http://10.0.0.2:2379).
            One that is away is passed over.
        type: list
        elements: str
        required: true
      prefix:
        description:
          - What the names of all keys begin with; the same as the registrars have.
        type: str
        default: /delivery
      user:
        description:
          - Whom to log in as, where etcd's authentication is enabled.
        type: str
      password:
        description:
          - The password of O(etcd.user).
        type: str
      client_cert:
        description:
          - The file of a certificate to show to the members, where they ask for one
            (C(--client-cert-auth)). It lies where the module runs.
        type: path
      client_key:
        description:
          - The file of its key, without a password. By default it is in O(etcd.client_cert) too.
        type: path
      validate_certs:
        description:
          - Whether to check the TLS certificates of the members.
        type: bool
        default: true
      ca_path:
        description:
          - A file of CA certificates to trust for the members instead of the system's.
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
