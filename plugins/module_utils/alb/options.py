# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the module's options to what is wanted, each checked before the API is asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ..errors import BadOption
from ..given import check_seconds
from ..http import Http, check_url
from .client import Balancer
from .plan import CANARY, LAST_PRIORITY, STAGED, Wanted
from .proof import Proof

# RFC 9110, 5.6.2; the load balancer takes 40 characters.
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}")
MAX_STICKY = 604800


def wanted_of(params: Mapping[str, Any]) -> Wanted:
    """Return what the options ask for.

    :raises BadOption: one of them cannot be used.
    """
    if not TOKEN.fullmatch(params["header_name"]) or params["header_name"].lower() == "host":
        raise BadOption(f"header_name {params['header_name']!r} is no header to choose by")
    for name in ("live_value", "candidate_value"):
        value = params[name]
        printable = value.isascii() and value.isprintable() and value == value.strip()
        if not value or len(value) > 128 or not printable or set(value) & set("*?\\"):
            raise BadOption(
                f"{name} {value!r} cannot be used: 1 to 128 printable ASCII characters without "
                "wildcards are needed"
            )
    if params["live_value"].lower() == params["candidate_value"].lower():
        raise BadOption("live_value and candidate_value must differ, and not by case alone")
    _within(params, "weight", 1, 99, "; stage or promote for none or all of the traffic")
    _within(params, "stickiness", 0, MAX_STICKY)
    _within(params, "first_priority", 1, LAST_PRIORITY)
    _within(params, "verify_count", 1, 1000)
    check_seconds(params, ("timeout", "verify_timeout"))
    if params["min_healthy"] is not None and params["min_healthy"] < 0:
        raise BadOption("min_healthy must not be less than 0")
    return Wanted(
        params["state"],
        params["target_group"] or None,
        weight=params["weight"],
        sticky=params["stickiness"] or None,
        header_name=params["header_name"],
        live_value=params["live_value"],
        candidate_value=params["candidate_value"],
        min_healthy=params["min_healthy"],
        wait_healthy=params["wait_healthy"],
        prove=bool(params["verify_url"]),
        first_priority=params["first_priority"],
    )


def _within(
    params: Mapping[str, Any], name: str, least: int, most: int, otherwise: str = ""
) -> None:
    if not least <= params[name] <= most:
        raise BadOption(f"{name} must be from {least} to {most}, not {params[name]}{otherwise}")


def listener_of(params: Mapping[str, Any], balancer: Balancer) -> str | Callable[[], str]:
    """Return the listener's ARN, or what finds it out."""
    if params["listener_arn"]:
        return str(params["listener_arn"])
    return lambda: balancer.listener_arn(params["load_balancer"], params["port"])


def proof_of(params: Mapping[str, Any]) -> Proof | None:
    """Return the proof that the options ask for.

    :raises DeliveryError: it cannot be asked for in that way.
    """
    if not params["verify_url"]:
        for name in ("verify_headers", "verify_fields"):
            if params[name]:
                raise BadOption(f"{name} needs verify_url, or nothing would be proved")
        return None
    parts = urlsplit(check_url(params["verify_url"], "verify_url"))
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    sent = {}
    if params["state"] in (STAGED, CANARY):
        sent[params["header_name"]] = params["candidate_value"]
    return Proof(
        Http(
            f"{parts.scheme}://{parts.netloc}",
            host_header=params["verify_host"],
            validate_certs=params["verify_certs"],
            ca_path=params["verify_ca_path"],
        ),
        path,
        sent=sent,
        headers={name: str(value) for name, value in params["verify_headers"].items()},
        fields={name: str(value) for name, value in params["verify_fields"].items()},
        count=params["verify_count"],
        timeout=params["verify_timeout"],
    )
