# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine's API by its own SDK, with its failures as ours."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import DeliveryError
from .options import Connection

DOCKER_IMPORT_ERROR: str | None = None
try:
    import docker
    from docker.errors import APIError, DockerException, NotFound
    from docker.tls import TLSConfig
    from requests.exceptions import RequestException
except ImportError:
    DOCKER_IMPORT_ERROR = traceback.format_exc()

if TYPE_CHECKING:
    from docker import DockerClient


class EngineError(DeliveryError):
    """The engine refused, or gave no answer."""

    kind = "engine"


class EngineAway(EngineError):
    """The engine cannot be reached, or does not let us in."""

    kind = "engine_away"


class Missing(EngineError):
    """What was asked for is not known to the engine."""

    kind = "missing"


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


@contextmanager
def engine_errors(doing: str, *, away: bool = False) -> Iterator[None]:
    """Turn the SDK's failures into ours.

    :param doing: what is tried, for the message: "start web-2".
    :raises Missing: the engine does not know what was named.
    :raises EngineAway: it gave no answer.
    :raises EngineError: it refused.
    """
    try:
        yield
    except NotFound as error:
        raise Missing(f"could not {doing}: {reason(error)}") from error
    except APIError as error:
        kind = EngineAway if away else EngineError
        raise kind(f"could not {doing}: {reason(error)}") from error
    except (DockerException, RequestException, OSError) as error:
        raise EngineAway(
            f"could not {doing}: the engine gave no answer ({innermost(error)})",
            next_step="Make sure that the engine runs and lets this user in, and run this again.",
        ) from error


def reason(error: APIError) -> str:
    """Return the engine's own words without the address of the call."""
    return str(error.explanation or error).strip()


def innermost(error: BaseException) -> str:
    """Return the words of the error that all the others were raised from."""
    while True:
        inner = error.__cause__ or error.__context__
        if inner is None:
            return str(error) or type(error).__name__
        error = inner
