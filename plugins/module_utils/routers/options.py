# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The routers that there are, and what a module's options make of them.

A further router is one file beside this one and one row in ``ROUTERS`` or ``HOST_ROUTERS``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import BadOption
from ..given import check_least, check_paths, check_seconds
from ..http import Http
from ..probe import Expectation
from .alb_options import alb_of, alb_spec
from .base import Preparing, Router, checked_target, normal
from .check import Check
from .host_options import HOST_ROUTERS, Table, host_router_specs, router_from
from .peers import Share
from .plan import Wanted
from .switch import RouteChange

ROUTERS: Table = {**HOST_ROUTERS, "alb": alb_of}


def router_specs() -> dict[str, Any]:
    """Return the options of the routers that have one of their own, for an argument spec."""
    return {"alb": alb_spec(), **host_router_specs()}


def router_of(params: dict[str, Any]) -> Router:
    """Return the router that the options describe.

    :raises DeliveryError: an option cannot be used.
    """
    return router_from(ROUTERS, params)


def change_of(params: dict[str, Any]) -> RouteChange:
    """Return the change that the options describe.

    :raises DeliveryError: an option cannot be used.
    """
    check_seconds(params, ("health_timeout", "prove_timeout", "drain_timeout"))
    check_least(params, "prove_count", 1)
    if params["prove_fields"] and not params["prove_path"]:
        raise BadOption("prove_fields needs prove_path, or nothing would be proved")
    check_paths(params, ("health_path", "prove_path"))
    router = router_of(params)
    share = share_of(params)
    urls = targets_of(params)
    proof = proof_of(params, router) if urls else None
    wanted = Wanted(
        params["service"],
        urls,
        prove=proof is not None,
        prepare=isinstance(router, Preparing),
    )
    return RouteChange(router, wanted, health=health_of(params, urls), proof=proof, share=share)


def share_of(params: dict[str, Any]) -> Share | None:
    """Return which part of the route the options are about; None for all of it.

    :raises DeliveryError: nothing tells which host is the caller's own.
    """
    if params.get("peers") is None:
        return None
    own = targets_of({**params, "state": "present"}) if params["url"] or params["urls"] else ()
    if not own:
        raise BadOption(
            "peers needs url or urls, which tell this host from its peers",
            next_step="Give the address to take off the route.",
        )
    return Share(own, params["peers"])


def targets_of(params: dict[str, Any]) -> tuple[str, ...]:
    """Return the addresses that shall get the traffic; none for ``state: absent``."""
    if params["state"] == "absent":
        return ()
    if params.get("urls") is None:
        return (checked_target(params["url"], "url"),)
    urls = tuple(checked_target(url, "urls") for url in params["urls"])
    if not urls:
        raise BadOption(
            "urls must name one address at least",
            next_step="Give state: absent to take the service out of the router.",
        )
    if len({normal(url) for url in urls}) != len(urls):
        raise BadOption(f"urls names an address twice: {', '.join(urls)}")
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
