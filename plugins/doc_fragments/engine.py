# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of the modules that speak to a Docker engine."""

from __future__ import annotations


class ModuleDocFragment:
    """The connection, by the names of community.docker; variables mean what they do to docker."""

    DOCUMENTATION = r"""
options:
  docker_host:
    description:
      - The engine, such as V(tcp://prod.example.com:2376).
      - If it is not given, the engine is the one that the program C(docker) would use. That is the
        environment variable E(DOCKER_HOST), or else the context that E(DOCKER_CONTEXT) names, or
        else the C(currentContext) in C(config.json) in the folder E(DOCKER_CONFIG), or else
        V(unix:///var/run/docker.sock).
      - A context brings its own certificates, so it cannot be combined with O(tls),
        O(validate_certs), O(ca_path) or O(client_cert).
      - An engine behind C(ssh://) is refused. Run the task on that host instead.
    type: str
    aliases: [docker_url]
  tls:
    description:
      - Whether to speak TLS without checking the engine's certificate. If it is not given, any text
        in the environment variable E(DOCKER_TLS) turns it on, V(0) as well, as for C(docker).
    type: bool
  validate_certs:
    description:
      - Whether to speak TLS and to check the engine's certificate. If it is not given, any text in
        the environment variable E(DOCKER_TLS_VERIFY) turns it on, V(0) as well, as for C(docker).
    type: bool
    aliases: [tls_verify]
  ca_path:
    description:
      - A file with the CA certificate that the engine's certificate is checked by. If it is not
        given, it is C(ca.pem) in the folder E(DOCKER_CERT_PATH), or else in that of C(config.json).
    type: path
    aliases: [ca_cert, tls_ca_cert, cacert_path]
  client_cert:
    description:
      - A file with our own certificate, for an engine that asks for one. If it is not given, it is
        C(cert.pem) in the folder of O(ca_path)'s default, with C(key.pem), if both are there.
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
