# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The routers whose targets are addresses that hosts publish, made from a module's options.

Apart from those of a cloud: Ansible sends a module all that it may import, and whoever deploys to
hosts should not wait for the code of a load balancer to be read and sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import BadOption
from ..http import Http
from .base import Router
from .consul_options import consul_of, consul_spec
from .etcd_options import etcd_of, etcd_spec
from .haproxy_options import haproxy_of, haproxy_spec
from .nginx_options import nginx_of, nginx_spec
from .registry import Registry

Table = Mapping[str, Callable[[dict[str, Any]], Router]]


def registry_of(params: dict[str, Any]) -> Router:
    """Return the demo proxy's registry."""
    if not params["api_url"]:
        raise BadOption("router registry needs api_url")
    http = Http(
        params["api_url"], validate_certs=params["validate_certs"], ca_path=params["ca_path"]
    )
    return Registry(http, params["timeout"])


HOST_ROUTERS: Table = {
    "registry": registry_of,
    "haproxy": haproxy_of,
    "nginx": nginx_of,
    "etcd": etcd_of,
    "consul": consul_of,
}


def host_router_specs() -> dict[str, Any]:
    """Return the options of those that have one of their own, for an argument spec."""
    return {
        "haproxy": haproxy_spec(),
        "nginx": nginx_spec(),
        "etcd": etcd_spec(),
        "consul": consul_spec(),
    }


def router_from(routers: Table, params: dict[str, Any]) -> Router:
    """Return the one of *routers* that the options describe.

    :raises DeliveryError: an option cannot be used.
    """
    if params["timeout"] <= 0:
        raise BadOption(f"timeout must be more than 0 seconds, not {params['timeout']:g}")
    return routers[params["router"]](params)
