# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of ``compose_redeploy``, and the whole of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..engine.options import Connection
from ..errors import BadOption, enumerate_words
from ..given import check_least, check_paths, check_seconds, text_of
from ..http import Http
from ..routers.host_options import HOST_ROUTERS, host_router_specs, router_from
from .cli import Compose
from .project import Project
from .routing import Checks, Entrance, ProjectRouting

# Options beside ``router``: how those are reached that have more to be told.
ROUTER_SPECS = host_router_specs()
ROUTER_OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "choices": list(HOST_ROUTERS), "default": "registry"},
    "api_url": {"type": "str", "required": True},
    "services": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "service": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "name": {"type": "str"},
            "scheme": {"type": "str", "choices": ["http", "https"], "default": "http"},
        },
    },
    "address": {"type": "str"},
    "network": {"type": "str"},
    "peers": {"type": "list", "elements": "str", "default": []},
    "health_path": {"type": "str"},
    "health_timeout": {"type": "float", "default": 30.0},
    "prove_path": {"type": "str"},
    "prove_count": {"type": "int", "default": 3},
    "prove_timeout": {"type": "float", "default": 10.0},
    "drain_timeout": {"type": "float", "default": 60.0},
    "drain_required": {"type": "bool", "default": False},
    "host_header": {"type": "str"},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "timeout": {"type": "float", "default": 30.0},
}


def compose_of(params: Mapping[str, Any], connection: Connection) -> Compose:
    """Return how to call ``docker compose``."""
    return Compose(
        connection=connection,
        folder=Path(params["project_src"]).absolute(),
        name=params["project_name"],
        files=tuple(params["files"]),
        env_files=tuple(params["env_files"]),
        profiles=tuple(params["profiles"]),
        environment={name: text_of(value) for name, value in params["environment"].items()},
        variables={name: text_of(value) for name, value in params["variables"].items()},
    )


def routing_of(
    params: Mapping[str, Any], project: Project, connection: Connection
) -> ProjectRouting | None:
    """Return the router that the module's options describe, where there is one.

    :raises DeliveryError: an option cannot be used.
    """
    given = params["router"]
    if given is None:
        return None
    if given["name"] == "etcd" and not params.get("etcd"):
        raise BadOption("router etcd needs the option etcd")
    check_seconds(given, ("health_timeout", "prove_timeout", "drain_timeout"), "router.")
    check_least(given, "prove_count", 1, "router.")
    check_paths(given, ("health_path", "prove_path"), "router.")
    entrances = {}
    for row in given["services"]:
        if row["service"] not in project.services:
            raise BadOption(
                f"router.services names {row['service']}, which is not redeployed",
                next_step=f"There are {enumerate_words(sorted(project.services))}.",
            )
        entrances[row["service"]] = Entrance(
            row["service"], row["port"], row["name"] or row["service"], row["scheme"]
        )

    def http(url: str) -> Http:
        return Http(
            url,
            host_header=given["host_header"],
            validate_certs=given["validate_certs"],
            ca_path=given["ca_path"],
        )

    own = {name: params.get(name) for name in ROUTER_SPECS}
    return ProjectRouting(
        router=router_from(HOST_ROUTERS, {**given, **own, "router": given["name"]}),
        entrances=entrances,
        address=given["address"] or connection.address,
        checks=Checks(**{f.name: given[f.name] for f in fields(Checks)}),
        http=http,
        network=given["network"],
        peers=tuple(given["peers"]),
    )
