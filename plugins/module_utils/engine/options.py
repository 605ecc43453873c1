# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How to reach a Docker engine: the options of ``community.docker``, by the same names.

What an option does not say is what it is for the ``docker`` program: its variables, its contexts.
The program gets the same address and certificates as the SDK, so that both speak to one engine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import env_fallback

from ..errors import DeliveryError
from .docker_context import config_folder, context_name, load_context

DEFAULT_HOST = "unix:///var/run/docker.sock"

ENGINE_OPTIONS: dict[str, dict[str, Any]] = {
    "docker_host": {"type": "str", "aliases": ["docker_url"]},
    "tls": {"type": "bool"},
    "validate_certs": {"type": "bool", "aliases": ["tls_verify"]},
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
TLS_OPTIONS = ("tls", "validate_certs", "ca_path", "client_cert", "client_key")


@dataclass(frozen=True)
class Connection:
    """An engine's address, what to check it by, and the seconds that one call to it may take.

    :param source: what named the engine, for messages.
    """

    host: str = DEFAULT_HOST
    tls: bool = False
    verify: bool = False
    ca_path: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    timeout: int = 60
    source: str = "docker_host"

    @property
    def local(self) -> bool:
        """Whether the engine's host is this one, so that its files can be seen here."""
        return self.host.startswith(("unix://", "npipe://"))

    @classmethod
    def of(cls, params: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Connection:
        """Read a module's options; ask the environment for what they leave open, as docker does.

        :param environ: another environment than the process's own.
        :raises DeliveryError: an option cannot be used, or the engine cannot be reached this way.
        """
        environ = os.environ if environ is None else environ
        if params["engine_timeout"] < 1:
            raise DeliveryError(
                f"engine_timeout must be at least 1 s, not {params['engine_timeout']}"
            )
        for name in ("ca_path", "client_cert", "client_key"):
            path = params[name]
            if path and not Path(path).is_file():
                raise DeliveryError(f"{name} is no file: {path}")
        host, source = params["docker_host"], "docker_host"
        if not host:
            host, source = environ.get("DOCKER_HOST"), "DOCKER_HOST"
        name = "" if host else context_name(environ)
        if name:
            connection = cls._of_context(params, name, environ)
        else:
            connection = cls._of_host(params, host or DEFAULT_HOST, source, environ)
        connection._check()
        return connection

    @classmethod
    def _of_context(
        cls, params: Mapping[str, Any], name: str, environ: Mapping[str, str]
    ) -> Connection:
        if given := [option for option in TLS_OPTIONS if params[option]]:
            raise DeliveryError(
                f"{given[0]} is given without docker_host, and the Docker context {name} brings "
                "certificates of its own",
                next_step="Give docker_host as well, or leave the engine to the context.",
            )
        found = load_context(name, environ)
        return cls(
            found.host,
            found.tls,
            found.verify,
            found.ca_path,
            found.client_cert,
            found.client_key,
            timeout=params["engine_timeout"],
            source=f"the Docker context {name}",
        )

    @classmethod
    def _of_host(
        cls, params: Mapping[str, Any], host: str, source: str, environ: Mapping[str, str]
    ) -> Connection:
        # For docker any text turns them on, "0" as well.
        verify, tls = params["validate_certs"], params["tls"]
        verify = bool(environ.get("DOCKER_TLS_VERIFY") if verify is None else verify)
        tls = verify or bool(environ.get("DOCKER_TLS") if tls is None else tls)
        files = {name: params[name] for name in ("ca_path", "client_cert", "client_key")}
        if tls:
            folder = Path(environ.get("DOCKER_CERT_PATH") or config_folder(environ))
            ca, cert, key = (folder / file for file in ("ca.pem", "cert.pem", "key.pem"))
            if not files["ca_path"] and ca.is_file():
                files["ca_path"] = str(ca)
            if not files["client_cert"] and cert.is_file() and key.is_file():
                files.update(client_cert=str(cert), client_key=str(key))
        return cls(host, tls, verify, **files, timeout=params["engine_timeout"], source=source)

    def _check(self) -> None:
        """Refuse what one of the SDK and the program cannot do, or would do otherwise.

        :raises DeliveryError: it cannot be used.
        """
        scheme = urlsplit(self.host).scheme
        if scheme == "ssh":
            raise DeliveryError(
                f"{self.source} names an engine behind SSH: {self.host}",
                next_step="Run the task on that host, or give docker_host.",
            )
        if scheme not in {"unix", "tcp", "http", "https"}:
            raise DeliveryError(
                f"{self.source} must begin with unix:// or tcp://: {self.host}",
                next_step="Give docker_host as unix:///PATH or tcp://HOST:PORT.",
            )
        if scheme == "unix" and self.secured:
            raise DeliveryError(
                f"TLS is asked for, which {self.host} does not speak",
                next_step="Give docker_host as tcp://, or leave out tls and validate_certs, and "
                "unset DOCKER_TLS and DOCKER_TLS_VERIFY.",
            )
        if self.verify and not self.ca_path:
            raise DeliveryError(
                f"there is no CA to check the certificate of {self.host} by",
                next_step="Give ca_path, or put ca.pem into the folder DOCKER_CERT_PATH.",
            )

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
        flags = ["--host", re.sub("^https?://", "tcp://", self.host)]
        if self.secured:
            flags.append("--tlsverify" if self.verify else "--tls")
            if self.ca_path:
                flags += ["--tlscacert", self.ca_path]
            if self.client_cert and self.client_key:
                flags += ["--tlscert", self.client_cert, "--tlskey", self.client_key]
        return flags
