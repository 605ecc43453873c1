# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a module's options to a registry in etcd as the router."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import DeliveryError
from ..http import Http, check_url
from .etcd import Etcd
from .kv_model import Health, Keys, check_name
from .kv_router import KvRouter


def etcd_spec() -> dict[str, Any]:
    """Return the option ``etcd``; documented in the fragment ``router_etcd``."""
    return {
        "type": "dict",
        "options": {
            "endpoints": {"type": "list", "elements": "str", "required": True},
            "prefix": {"type": "str", "default": "/delivery"},
            "user": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
            "nodes": {"type": "list", "elements": "str", "default": []},
            "follow_timeout": {"type": "float", "default": 60.0},
        },
    }


def etcd_of(params: Mapping[str, Any]) -> KvRouter:
    """Return the registry that the option ``etcd`` describes; clients ask at ``api_url``.

    :raises DeliveryError: an option cannot be used.
    """
    given = {name: option.get("default") for name, option in etcd_spec()["options"].items()}
    given.update(params.get("etcd") or {})
    if not params["api_url"]:
        raise DeliveryError("router etcd needs the address at which clients reach the service")
    if not 0 < given["follow_timeout"] < float("inf"):
        raise DeliveryError("etcd.follow_timeout must be more than 0 seconds, and not endless")
    return KvRouter(
        etcd_store(given, params["timeout"]),
        Keys(given["prefix"]),
        check_url(params["api_url"], "the router's address"),
        # A module that only looks has no health check, and writes none.
        health=Health(params.get("health_path") or "", params.get("host_header") or ""),
        follow_timeout=given["follow_timeout"],
        nodes=[check_name(node, "node") for node in given["nodes"]],
    )


def etcd_store(given: Mapping[str, Any], timeout: float) -> Etcd:
    """Return the etcd at some addresses.

    :raises DeliveryError: an option cannot be used.
    """
    if not given["endpoints"]:
        raise DeliveryError("etcd.endpoints must name one member of etcd at least")
    if bool(given["user"]) != bool(given["password"]):
        raise DeliveryError("etcd.user and etcd.password are needed together, or neither")
    members = [
        Http(
            check_url(endpoint, "etcd.endpoints"),
            validate_certs=given["validate_certs"],
            ca_path=given["ca_path"],
        )
        for endpoint in given["endpoints"]
    ]
    return Etcd(members, timeout, user=given["user"] or "", password=given["password"] or "")
