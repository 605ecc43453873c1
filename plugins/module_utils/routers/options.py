# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The routers that there are, and the client that a module's options describe.

A further router is one file beside this one and one row in ``ROUTERS``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import DeliveryError
from ..http import Http
from .base import Router
from .registry import Registry


def registry_of(params: dict[str, Any]) -> Router:
    """Return the demo proxy's registry."""
    if not params["api_url"]:
        raise DeliveryError("router registry needs api_url")
    http = Http(
        params["api_url"], validate_certs=params["validate_certs"], ca_path=params["ca_path"]
    )
    return Registry(http, params["timeout"])


ROUTERS: dict[str, Callable[[dict[str, Any]], Router]] = {
    "registry": registry_of,
}


def router_of(params: dict[str, Any]) -> Router:
    """Return the router that the options describe.

    :raises DeliveryError: an option cannot be used.
    """
    if params["timeout"] <= 0:
        raise DeliveryError(f"timeout must be more than 0 seconds, not {params['timeout']:g}")
    return ROUTERS[params["router"]](params)
