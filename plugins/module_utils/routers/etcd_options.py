# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a module's options to a registry in etcd as the router."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import BadOption
from ..http import Http, check_url
from .kv_options import given_of, kv_options, kv_router_of

if TYPE_CHECKING:
    from .etcd import Etcd
    from .kv_router import KvRouter


def etcd_spec() -> dict[str, Any]:
    """Return the option ``etcd``; documented in the fragment ``router_etcd``."""
    return {
        "type": "dict",
        "options": {
            "endpoints": {"type": "list", "elements": "str", "required": True},
            "user": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "client_cert": {"type": "path"},
            # The path is no secret, and what is in the file is never read by us.
            "client_key": {"type": "path", "no_log": False},
            **kv_options(),
        },
    }


def etcd_of(params: Mapping[str, Any]) -> KvRouter:
    """Return the registry that the option ``etcd`` describes; clients ask at ``api_url``.

    :raises DeliveryError: an option cannot be used.
    """
    given = given_of(params, "etcd", etcd_spec())
    return kv_router_of(params, given, "etcd", etcd_store(given, params["timeout"]))


def etcd_store(given: Mapping[str, Any], timeout: float) -> Etcd:
    """Return the etcd at some addresses.

    :raises DeliveryError: an option cannot be used.
    """
    if not given["endpoints"]:
        raise BadOption("etcd.endpoints must name one member of etcd at least")
    if bool(given["user"]) != bool(given["password"]):
        raise BadOption("etcd.user and etcd.password are needed together, or neither")
    own = given.get("client_cert")
    if given.get("client_key") and not own:
        raise BadOption("etcd.client_key is needed only with etcd.client_cert")
    # Loaded only where it is the router: each start of a module compiles what it imports.
    from .etcd import Etcd

    members = [
        Http(
            check_url(endpoint, "etcd.endpoints"),
            validate_certs=given["validate_certs"],
            ca_path=given["ca_path"],
            client_cert=(own, given.get("client_key") or own) if own else None,
        )
        for endpoint in given["endpoints"]
    ]
    return Etcd(members, timeout, user=given["user"] or "", password=given["password"] or "")
