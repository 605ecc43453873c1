# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The routers that there are, and what a module's options make of them.

A further router is one file beside this one and one row in ``ROUTERS``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import DeliveryError
from ..given import check_least, check_paths, check_seconds
from ..http import Http
from ..probe import Expectation
from .alb_options import alb_of, alb_spec
from .base import Preparing, Router, checked_target, normal
from .consul_options import consul_of, consul_spec
from .etcd_options import etcd_of, etcd_spec
from .haproxy_options import haproxy_of, haproxy_spec
from .nginx_options import nginx_of, nginx_spec
from .plan import Wanted
from .registry import Registry
from .switch import Check, RouteChange


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
    "alb": alb_of,
    "haproxy": haproxy_of,
    "nginx": nginx_of,
    "etcd": etcd_of,
    "consul": consul_of,
}


def router_specs() -> dict[str, Any]:
    """Return the options of the routers that have one of their own, for an argument spec."""
    return {
        "alb": alb_spec(),
        "haproxy": haproxy_spec(),
        "nginx": nginx_spec(),
        "etcd": etcd_spec(),
        "consul": consul_spec(),
    }


def router_of(params: dict[str, Any]) -> Router:
    """Return the router that the options describe.

    :raises DeliveryError: an option cannot be used.
    """
    if params["timeout"] <= 0:
        raise DeliveryError(f"timeout must be more than 0 seconds, not {params['timeout']:g}")
    return ROUTERS[params["router"]](params)


def change_of(params: dict[str, Any]) -> RouteChange:
    """Return the change that the options describe.

    :raises DeliveryError: an option cannot be used.
    """
    check_seconds(params, ("health_timeout", "prove_timeout", "drain_timeout"))
    check_least(params, "prove_count", 1)
    if params["prove_fields"] and not params["prove_path"]:
        raise DeliveryError("prove_fields needs prove_path, or nothing would be proved")
    check_paths(params, ("health_path", "prove_path"))
    router = router_of(params)
    urls = targets_of(params)
    proof = proof_of(params, router) if urls else None
    wanted = Wanted(
        params["service"],
        urls,
        prove=proof is not None,
        persist=not router.durable,
        prepare=isinstance(router, Preparing),
    )
    return RouteChange(router, wanted, health=health_of(params, urls), proof=proof)


def targets_of(params: dict[str, Any]) -> tuple[str, ...]:
    """Return the addresses that shall get the traffic; none for ``state: absent``."""
    if params["state"] == "absent":
        return ()
    if params.get("urls") is None:
        return (checked_target(params["url"], "url"),)
    urls = tuple(checked_target(url, "urls") for url in params["urls"])
    if not urls:
        raise DeliveryError(
            "urls must name one address at least",
            next_step="Give state: absent to take the service out of the router.",
        )
    if len({normal(url) for url in urls}) != len(urls):
        raise DeliveryError(f"urls names an address twice: {', '.join(urls)}")
    return urls


def health_of(params: dict[str, Any], urls: Sequence[str]) -> dict[str, Check]:
    """Return the health check of each target, where one is wanted."""
    if not params["health_path"]:
        return {}
    expected = Expectation(params["health_path"], tuple(params["health_status"]))
    return {url: Check(http_to(url, params), expected, params["health_timeout"]) for url in urls}


def proof_of(params: dict[str, Any], router: Router) -> Check | None:
    """Return the proof through the router, where one is wanted."""
    if not params["prove_path"]:
        return None
    expected = Expectation(
        params["prove_path"],
        fields={name: str(value) for name, value in params["prove_fields"].items()},
    )
    http = http_to(router.entrance(params["service"]), params)
    return Check(http, expected, params["prove_timeout"], params["prove_count"])


def http_to(url: str, params: dict[str, Any]) -> Http:
    """Return a client for *url* with the options' TLS settings and host."""
    return Http(
        url,
        host_header=params["host_header"],
        validate_certs=params["validate_certs"],
        ca_path=params["ca_path"],
    )
