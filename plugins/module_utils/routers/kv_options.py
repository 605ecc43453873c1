# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a module's options to a registry as the router: what all registries have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import BadOption
from ..http import check_url

if TYPE_CHECKING:
    from .kv_router import KvRouter
    from .kv_store import Store


def kv_options() -> dict[str, Any]:
    """Return the suboptions that each registry has."""
    return {
        "prefix": {"type": "str", "default": "/delivery"},
        "validate_certs": {"type": "bool", "default": True},
        "ca_path": {"type": "path"},
        "nodes": {"type": "list", "elements": "str", "default": []},
        "follow_timeout": {"type": "float", "default": 60.0},
        "header_name": {"type": "str", "default": "x-client-mode"},
        "candidate_value": {"type": "str", "default": "green"},
    }


def given_of(params: Mapping[str, Any], name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the suboptions of the option *name*, with their defaults."""
    given = {option: details.get("default") for option, details in spec["options"].items()}
    return {**given, **(params.get(name) or {})}


def kv_router_of(
    params: Mapping[str, Any], given: Mapping[str, Any], name: str, store: Store
) -> KvRouter:
    """Return the registry in *store*; clients ask at ``api_url``.

    :raises DeliveryError: an option cannot be used.
    """
    if not params["api_url"]:
        raise BadOption(f"router {name} needs the address at which clients reach the service")
    if not 0 < given["follow_timeout"] < float("inf"):
        raise BadOption(f"{name}.follow_timeout must be more than 0 seconds, and not endless")
    # Loaded only where it is the router: each start of a module compiles what it imports.
    from .kv_model import Health, Keys, check_name
    from .kv_router import KvRouter

    return KvRouter(
        store,
        Keys(given["prefix"]),
        check_url(params["api_url"], "the router's address"),
        name=name,
        # A module that only looks has no health check, and writes none.
        health=Health(params.get("health_path") or "", params.get("host_header") or ""),
        follow_timeout=given["follow_timeout"],
        nodes=[check_name(node, "node") for node in given["nodes"]],
        asks=(given["header_name"], given["candidate_value"]),
    )
