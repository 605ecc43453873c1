# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine's API by its own SDK."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .errors import engine_errors
from .options import Connection

DOCKER_IMPORT_ERROR: str | None = None
try:
    import docker
    from docker.tls import TLSConfig
except ImportError:
    DOCKER_IMPORT_ERROR = traceback.format_exc()

if TYPE_CHECKING:
    from docker import DockerClient


def connect(connection: Connection) -> DockerClient:
    """Return a client of the engine, which has answered once.

    :raises EngineAway: it did not.
    """
    tls: TLSConfig | bool = False
    host = connection.host
    doing = f"reach the Docker engine at {host} (named by {connection.source})"
    with engine_errors(doing, away=True):
        if connection.secured:
            pair = None
            if connection.client_cert and connection.client_key:
                pair = (connection.client_cert, connection.client_key)
            tls = TLSConfig(
                client_cert=pair,
                ca_cert=connection.ca_path,
                verify=connection.verify,
            )
        with _own_trust():
            client = docker.DockerClient(
                base_url=host, tls=tls, timeout=connection.timeout, version="auto"
            )
        # For requests a CA from the environment would go before the one that was given here.
        client.api.trust_env = False
        client.ping()
    return client


@contextmanager
def _own_trust() -> Iterator[None]:
    """Let the first question, which the SDK asks unbidden, trust what was given here as well."""
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    found = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(found)
