# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the portal's modules share of wiring: their common options, and the client made of them."""

from __future__ import annotations

from typing import Any

from ..errors import BadOption
from ..http import Http
from .client import LOCK_SECONDS, PortalClient
from .jobs import MIN_INTERVAL, Patience

MAX_LOCK_SECONDS = 86_400.0


def connection_spec() -> dict[str, Any]:
    """Return the options of every portal module; documented in the fragment ``portal``."""
    return {
        "api_url": {"type": "str", "required": True},
        "deployment_key": {"type": "str", "required": True, "no_log": True},
        "host_header": {"type": "str"},
        "validate_certs": {"type": "bool", "default": True},
        "ca_path": {"type": "path"},
        "timeout": {"type": "float", "default": 300.0},
    }


def job_spec() -> dict[str, Any]:
    """Return the options of every job; documented in the fragment ``portal.job``."""
    return {
        "poll_interval": {"type": "float", "default": MIN_INTERVAL},
        "conflict_timeout": {"type": "float", "default": 0.0},
        "lock_seconds": {"type": "float", "default": LOCK_SECONDS},
    }


def lock_spec() -> dict[str, Any]:
    """Return what becomes of the lock; documented in the fragment ``portal.lock``."""
    return {"lock": {"type": "str", "choices": ["release", "keep"], "default": "release"}}


def client_of(params: dict[str, Any], url: str = "") -> PortalClient:
    """Return the client that the options describe.

    :param url: another portal of the same kind; ``api_url`` where it is not given.

    :raises DeliveryError: an option cannot be used.
    """
    key = params["deployment_key"].strip()
    if not key:
        raise BadOption("deployment_key is empty")
    if not (key.isascii() and key.isprintable()):
        raise BadOption("deployment_key has characters that an HTTP header cannot carry")
    if params["timeout"] <= 0:
        raise BadOption(f"timeout must be more than 0 seconds, not {params['timeout']:g}")
    return PortalClient(
        Http(
            url or params["api_url"],
            host_header=params["host_header"],
            validate_certs=params["validate_certs"],
            ca_path=params["ca_path"],
            headers={"Authorization": key},
        )
    )


def patience_of(params: dict[str, Any]) -> Patience:
    """Return the patience that the options describe.

    :raises DeliveryError: ``poll_interval`` is shorter than the portal allows, or ``lock_seconds``
        is no time that a lock could hold.
    """
    if params["poll_interval"] < MIN_INTERVAL:
        raise BadOption(
            f"poll_interval must be at least {MIN_INTERVAL:g} seconds, "
            f"not {params['poll_interval']:g}",
            next_step="The portal takes 25 calls a minute and refuses the rest.",
        )
    if not 0 < params["lock_seconds"] <= MAX_LOCK_SECONDS:
        raise BadOption(
            f"lock_seconds must be more than 0 and at most {MAX_LOCK_SECONDS:g}, "
            f"not {params['lock_seconds']:g}"
        )
    return Patience(params["timeout"], params["poll_interval"], params["conflict_timeout"])
