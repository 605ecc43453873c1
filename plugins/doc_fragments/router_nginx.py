# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option of those modules that can have nginx as their router."""

from __future__ import annotations


class ModuleDocFragment:
    """The files and the processes."""

    DOCUMENTATION = r"""
options:
  nginx:
    description:
      - Where the nginx of O(router=nginx) is found. The module runs on its host, with the right to
        signal it, and writes one file a service, which nginx includes in its C(http) context.
      - nginx's server of a service C(demo) passes on to C($demo_scheme://$demo_upstream).
      - For no loss that server needs C(keepalive_timeout 0), or C(keepalive_min_timeout) from nginx
        1.27.4 on, and must not have C(reuseport).
    type: dict
    suboptions:
      folder:
        description:
          - The folder of the services' files.
        type: path
        default: /etc/nginx/delivery
      conf:
        description:
          - nginx's main configuration file, as nginx itself finds it.
        type: str
        default: /etc/nginx/nginx.conf
      program:
        description:
          - nginx's program, which tests the configuration.
        type: str
        default: nginx
      pid_file:
        description:
          - Where nginx writes the process id of its master. Not needed for a container.
        type: path
        default: /run/nginx.pid
      container:
        description:
          - The name of the container on the same host that nginx runs in, as its first process.
            O(nginx.folder) has to be mounted into it.
        type: str
        default: ""
      engine:
        description:
          - The program that speaks to the engine of O(nginx.container).
        type: str
        choices: [docker, podman]
        default: docker
      header_name:
        description:
          - The request header by which a client asks for a version while there is a candidate.
        type: str
        default: x-client-mode
      live_value:
        description:
          - The value that asks for the live version.
        type: str
        default: blue
      candidate_value:
        description:
          - The value that asks for the candidate.
        type: str
        default: green
"""
