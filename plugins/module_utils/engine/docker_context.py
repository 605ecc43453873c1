# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contexts of the ``docker`` program: which one holds here, and which engine it names.

The SDK's own reader is not used. It looks in another folder than ``docker`` if there is no
``config.json``, and forgets a context's CA if the context has no client certificate.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DeliveryError

DEFAULT = "default"


@dataclass(frozen=True)
class DockerContext:
    """The engine of a context: its address, and the files that a connection to it needs."""

    name: str
    host: str
    tls: bool
    verify: bool
    ca_path: str | None = None
    client_cert: str | None = None
    client_key: str | None = None


def config_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of ``docker``'s own configuration."""
    return Path(
        environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "~")).expanduser() / ".docker"
    )


def context_name(environ: Mapping[str, str]) -> str:
    """Return the context that ``docker`` uses if it is given no host; empty for none."""
    name = environ.get("DOCKER_CONTEXT")
    if not name:
        try:
            config = json.loads((config_folder(environ) / "config.json").read_bytes())
        except (OSError, ValueError):
            # The program goes on without it, too.
            return ""
        name = config.get("currentContext") if isinstance(config, dict) else ""
    return "" if name == DEFAULT else str(name or "")


def load_context(name: str, environ: Mapping[str, str]) -> DockerContext:
    """Return the engine of a context.

    :raises DeliveryError: there is no such context, or it names no engine.
    """
    folder = config_folder(environ) / "contexts"
    stored = hashlib.sha256(name.encode()).hexdigest()
    try:
        meta: Any = json.loads((folder / "meta" / stored / "meta.json").read_bytes())
        endpoint = meta["Endpoints"]["docker"]
        host, skip = str(endpoint["Host"]), bool(endpoint.get("SkipTLSVerify"))
    except FileNotFoundError as error:
        raise DeliveryError(
            f"there is no Docker context {name} in {folder}",
            next_step="Give docker_host, or choose one of those that docker context ls shows.",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DeliveryError(
            f"cannot read the Docker context {name} in {folder}: {error!r}",
            next_step="Give docker_host, or create the context again.",
        ) from error
    files = folder / "tls" / stored / "docker"
    ca, cert, key = (_existing(files / file) for file in ("ca.pem", "cert.pem", "key.pem"))
    secured = bool(ca or cert or skip) and not host.startswith("unix:")
    return DockerContext(name, host, secured, secured and not skip, ca, cert, key)


def _existing(path: Path) -> str | None:
    return str(path) if path.is_file() else None
