# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How to reach a Docker engine: the options of ``community.docker``, by the same names.

The CLI gets the same address and certificates as the SDK, so that both speak to one engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import env_fallback

from ..errors import DeliveryError

DEFAULT_HOST = "unix:///var/run/docker.sock"

ENGINE_OPTIONS: dict[str, dict[str, Any]] = {
    "docker_host": {
        "type": "str",
        "default": DEFAULT_HOST,
        "fallback": (env_fallback, ["DOCKER_HOST"]),
        "aliases": ["docker_url"],
    },
    "tls": {"type": "bool", "default": False, "fallback": (env_fallback, ["DOCKER_TLS"])},
    "validate_certs": {
        "type": "bool",
        "default": False,
        "fallback": (env_fallback, ["DOCKER_TLS_VERIFY"]),
        "aliases": ["tls_verify"],
    },
    "ca_path": {"type": "path", "aliases": ["ca_cert", "tls_ca_cert", "cacert_path"]},
    "client_cert": {"type": "path", "aliases": ["tls_client_cert", "cert_path"]},
    "client_key": {"type": "path", "aliases": ["tls_client_key", "key_path"]},
    "engine_timeout": {
        "type": "int",
        "default": 60,
        "fallback": (env_fallback, ["DOCKER_TIMEOUT"]),
    },
}
REQUIRED_TOGETHER = [("client_cert", "client_key")]


@dataclass(frozen=True)
class Connection:
    """An engine's address, what to check it by, and the seconds that one call to it may take."""

    host: str = DEFAULT_HOST
    tls: bool = False
    verify: bool = False
    ca_path: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    timeout: int = 60

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Connection:
        """Read a module's options.

        :raises DeliveryError: an option cannot be used.
        """
        connection = cls(
            host=params["docker_host"],
            tls=params["tls"],
            verify=params["validate_certs"],
            ca_path=params["ca_path"],
            client_cert=params["client_cert"],
            client_key=params["client_key"],
            timeout=params["engine_timeout"],
        )
        if connection.timeout < 1:
            raise DeliveryError(f"engine_timeout must be at least 1 s, not {connection.timeout}")
        scheme = urlsplit(connection.host).scheme
        if scheme not in {"unix", "tcp", "http", "https"}:
            raise DeliveryError(
                f"docker_host must begin with unix:// or tcp://: {connection.host}",
                next_step="An engine behind SSH is reached by running the task on that host.",
            )
        for name in ("ca_path", "client_cert", "client_key"):
            path = params[name]
            if path and not Path(path).is_file():
                raise DeliveryError(f"{name} is no file: {path}")
        return connection

    @property
    def secured(self) -> bool:
        """Whether the connection is one over TLS."""
        return self.tls or self.verify

    @property
    def address(self) -> str:
        """The host name or address under which the engine's published ports are reached."""
        parts = urlsplit(self.host)
        return (parts.hostname or "127.0.0.1") if parts.scheme != "unix" else "127.0.0.1"

    def cli_flags(self) -> list[str]:
        """Return the docker CLI's global flags for this engine; no secrets, paths only."""
        flags = ["--host", self.host.replace("https://", "tcp://", 1)]
        if self.secured:
            flags.append("--tlsverify" if self.verify else "--tls")
            if self.ca_path:
                flags += ["--tlscacert", self.ca_path]
            if self.client_cert and self.client_key:
                flags += ["--tlscert", self.client_cert, "--tlskey", self.client_key]
        return flags
