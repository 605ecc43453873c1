# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a module's options to HAProxy as the router."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadOption
from ..http import check_url

if TYPE_CHECKING:
    from .haproxy import HaProxy


def haproxy_spec() -> dict[str, Any]:
    """Return the option ``haproxy``; documented in the fragment ``router_haproxy``."""
    return {
        "type": "dict",
        "options": {
            "socket": {"type": "str", "default": "/run/haproxy/delivery.sock"},
            "map": {"type": "str", "default": "/var/lib/haproxy-delivery/services.map"},
            "map_file": {"type": "path"},
            "state_file": {"type": "path"},
            "check_timeout": {"type": "float", "default": 30.0},
            "header_name": {"type": "str", "default": "x-client-mode"},
            "candidate_value": {"type": "str", "default": "green"},
        },
    }


def haproxy_of(params: Mapping[str, Any]) -> HaProxy:
    """Return the HAProxy that the option ``haproxy`` describes; clients ask at ``api_url``.

    :raises DeliveryError: an option cannot be used.
    """
    given = {name: option.get("default") for name, option in haproxy_spec()["options"].items()}
    given.update(params.get("haproxy") or {})
    if not params["api_url"]:
        raise BadOption("router haproxy needs the address at which clients reach the service")
    if not 0 < given["check_timeout"] < float("inf"):
        raise BadOption("haproxy.check_timeout must be more than 0 seconds, and not endless")
    name = given["map"]
    # It is a word of a command of HAProxy's.
    if not name.isascii() or not name.isprintable() or any(sign in name for sign in " ;\\"):
        raise BadOption(f"haproxy.map {name!r} cannot be the name of a map")
    # Loaded only where it is the router: each start of a module compiles what it imports.
    from .haproxy import HaProxy
    from .haproxy_runtime import Runtime

    map_file = Path(given["map_file"] or name)
    return HaProxy(
        Runtime(given["socket"], params["timeout"]),
        check_url(params["api_url"], "the router's address"),
        map_name=name,
        map_file=map_file,
        state_file=Path(given["state_file"] or map_file.parent / "servers.state"),
        check_timeout=given["check_timeout"],
        asks=(given["header_name"], given["candidate_value"]),
    )
