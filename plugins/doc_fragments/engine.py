# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of the modules that speak to a Docker engine."""

from __future__ import annotations


class ModuleDocFragment:
    """The connection; names and environment variables are those of community.docker."""

    DOCUMENTATION = r"""
options:
  docker_host:
    description:
      - The engine, such as V(tcp://prod.example.com:2376). Where it is not given, the environment
        variable E(DOCKER_HOST) is used.
    type: str
    default: unix:///var/run/docker.sock
    aliases: [docker_url]
  tls:
    description:
      - Whether to speak TLS without checking the engine's certificate. Environment variable
        E(DOCKER_TLS).
    type: bool
    default: false
  validate_certs:
    description:
      - Whether to speak TLS and to check the engine's certificate. Environment variable
        E(DOCKER_TLS_VERIFY).
    type: bool
    default: false
    aliases: [tls_verify]
  ca_path:
    description:
      - A file with the CA certificate that the engine's certificate is checked by.
    type: path
    aliases: [ca_cert, tls_ca_cert, cacert_path]
  client_cert:
    description:
      - A file with our own certificate, for an engine that asks for one.
    type: path
    aliases: [tls_client_cert, cert_path]
  client_key:
    description:
      - A file with the key of O(client_cert).
    type: path
    aliases: [tls_client_key, key_path]
  engine_timeout:
    description:
      - The seconds that one call to the engine may take. Environment variable E(DOCKER_TIMEOUT).
    type: int
    default: 60
requirements:
  - The Python package docker.
"""
