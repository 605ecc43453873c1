# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option of those modules that can have HAProxy as their router."""

from __future__ import annotations


class ModuleDocFragment:
    """The runtime API and the files."""

    DOCUMENTATION = r"""
options:
  haproxy:
    description:
      - How to reach the HAProxy of O(router=haproxy), version 2.6 or newer, configured as
        C(roles/proxy) does. The module runs on HAProxy's host, as its files are written too.
      - Addresses of versions are those of servers, C(http://10.0.0.5:8080), with an IP address and
        without a path.
    type: dict
    suboptions:
      socket:
        description:
          - The runtime API with level C(admin), the path of its socket or C(host:port).
        type: str
        default: /run/haproxy/delivery.sock
      map:
        description:
          - The file of the map that says which backend is live, as HAProxy's configuration names
            it.
        type: str
        default: /var/lib/haproxy-delivery/services.map
      map_file:
        description:
          - The same file where it is found by another path, as with HAProxy in a container. Its
            folder has to be mounted, not the file, since it is replaced.
        type: path
      state_file:
        description:
          - The C(server-state-file) of HAProxy's configuration; by default C(servers.state) beside
            the map's file.
        type: path
      check_timeout:
        description:
          - The seconds that HAProxy's own checks may take to find the new addresses up.
        type: float
        default: 30
      header_name:
        description:
          - The request header by which a client asks for a version while there is a candidate, as
            HAProxy's configuration has it.
        type: str
        default: x-client-mode
      candidate_value:
        description:
          - The value that asks for the candidate, as HAProxy's configuration has it.
        type: str
        default: green
"""
