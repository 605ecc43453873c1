# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a module's options to a registry in Consul as the router."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..http import Http, check_url
from .kv_options import given_of, kv_options, kv_router_of

if TYPE_CHECKING:
    from .consul import Consul
    from .kv_router import KvRouter


def consul_spec() -> dict[str, Any]:
    """Return the option ``consul``; documented in the fragment ``router_consul``."""
    return {
        "type": "dict",
        "options": {
            "address": {"type": "str", "default": "http://127.0.0.1:8500"},
            "token": {"type": "str", "no_log": True},
            **kv_options(),
        },
    }


def consul_of(params: Mapping[str, Any]) -> KvRouter:
    """Return the registry that the option ``consul`` describes; clients ask at ``api_url``.

    :raises DeliveryError: an option cannot be used.
    """
    given = given_of(params, "consul", consul_spec())
    return kv_router_of(params, given, "consul", consul_store(given, params["timeout"]))


def consul_store(given: Mapping[str, Any], timeout: float) -> Consul:
    """Return the Consul at an address.

    :raises DeliveryError: an option cannot be used.
    """
    # Loaded only where it is the router: each start of a module compiles what it imports.
    from .consul import Consul

    http = Http(
        check_url(given["address"], "consul.address"),
        validate_certs=given["validate_certs"],
        ca_path=given["ca_path"],
        headers={"X-Consul-Token": given["token"]} if given["token"] else {},
    )
    return Consul(http, timeout)
