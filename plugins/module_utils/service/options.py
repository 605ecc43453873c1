# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the module's options to a deploy, each checked before anything is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ..engine.client import connect
from ..engine.images import Images, Reference
from ..engine.options import ENGINE_OPTIONS, Connection
from ..errors import BadOption
from ..given import check_least, check_paths, check_seconds, text_of
from ..http import Http
from ..probe import Expectation
from ..routers.base import Router
from ..routers.canary import MAX_WEIGHT, CanaryRouter, as_canary
from ..routers.check import Check, answered
from ..routers.host_options import HOST_ROUTERS, host_router_specs, router_from
from ..routers.peers import Share
from ..routers.registry import NAME as ROUTE_NAME
from ..routers.routing import Routing
from .containers import Engine
from .deploy import Deploy
from .model import (
    ABOUT_WHAT_STANDS,
    CANARY,
    CANARY_STATES,
    PRESENT,
    PROMOTED,
    ROLLED_BACK,
    STAGED,
    STATES,
    Shape,
    Wanted,
    url_at,
)
from .observe import Observer
from .testing import Tests

OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str"},
    "state": {"type": "str", "choices": list(STATES), "default": PRESENT},
    "weight": {"type": "int"},
    "image": {"type": "str"},
    "digest": {"type": "str"},
    "pull": {"type": "str", "choices": ["missing", "never"], "default": "missing"},
    "pull_timeout": {"type": "float", "default": 600.0},
    "registry_username": {"type": "str"},
    "registry_password": {"type": "str", "no_log": True},
    "instances": {"type": "int", "default": 1},
    "container_port": {"type": "int"},
    "published_port": {"type": "int"},
    "bind_address": {"type": "str", "default": "0.0.0.0"},
    "address": {"type": "str"},
    "environment": {"type": "dict", "default": {}, "no_log": True},
    "volumes": {"type": "list", "elements": "str", "default": []},
    "command": {"type": "list", "elements": "str", "default": []},
    "labels": {"type": "dict", "default": {}},
    "networks": {"type": "list", "elements": "str", "default": []},
    "extra_hosts": {"type": "dict", "default": {}},
    "user": {"type": "str"},
    "memory": {"type": "str"},
    "cpus": {"type": "float"},
    "restart_policy": {
        "type": "str",
        "choices": ["no", "unless-stopped"],
        "default": "unless-stopped",
    },
    "stop_timeout": {"type": "int", "default": 30},
    "health_path": {"type": "str"},
    "health_timeout": {"type": "float", "default": 60.0},
    "rehearse": {"type": "bool", "default": True},
    "test_image": {"type": "str"},
    "test_command": {"type": "list", "elements": "str", "default": []},
    "test_environment": {"type": "dict", "default": {}, "no_log": True},
    "test_network": {"type": "str", "default": "host"},
    "test_timeout": {"type": "float", "default": 300.0},
    "router": {"type": "str", "choices": list(HOST_ROUTERS)},
    **host_router_specs(),
    "api_url": {"type": "str"},
    "route": {"type": "str"},
    "peers": {"type": "list", "elements": "str", "default": []},
    "router_required": {"type": "bool", "default": True},
    "router_validate_certs": {"type": "bool", "default": True},
    "router_ca_path": {"type": "path"},
    "router_timeout": {"type": "float", "default": 30.0},
    "host_header": {"type": "str"},
    "prove_path": {"type": "str"},
    "prove_fields": {"type": "dict", "default": {}},
    "prove_count": {"type": "int", "default": 3},
    "prove_timeout": {"type": "float", "default": 10.0},
    "soak": {"type": "float", "default": 10.0},
    "drain_timeout": {"type": "float", "default": 60.0},
    "keep_releases": {"type": "int", "default": 1},
    **ENGINE_OPTIONS,
}
SEVERAL: dict[str, dict[str, Any]] = {
    **OPTIONS,
    # Its entries may hold secrets; they are checked one by one, as OPTIONS says.
    "services": {"type": "list", "elements": "dict", "no_log": True},
    "parallel": {"type": "int", "default": 4},
}
ROUTER_REQUIRED_IF = [
    *(("router", name, ["api_url"]) for name in HOST_ROUTERS),
    ("router", "etcd", ["etcd"]),
]
REQUIRED_IF = [
    ("state", PRESENT, ["image", "container_port"]),
    ("state", STAGED, ["image", "container_port"]),
    ("state", CANARY, ["weight"]),
    *ROUTER_REQUIRED_IF,
]
OPTIONS_TOGETHER = [
    ("client_cert", "client_key"),
    ("registry_username", "registry_password"),
]

SERVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
VARIABLE = re.compile(r"[^=\s\0]+")
LAST_PORT = 65535
UNITS = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


def deploy_of(params: Mapping[str, Any]) -> Deploy:
    """Return the deploy that the options describe; reaches the engine.

    :raises DeliveryError: an option cannot be used, or the engine does not answer.
    """
    connection = Connection.of(params)
    wanted = wanted_of(params, connection.address)
    image = Reference.of(_pinned(params)) if wanted.state in (PRESENT, STAGED) else None
    tests_image = Reference.of(params["test_image"]) if wanted.tested else None
    routing = routing_of(params, wanted)
    auth = None
    if params["registry_username"]:
        auth = {
            "username": params["registry_username"],
            "password": params["registry_password"],
        }
    client = connect(connection)
    images = Images(client, auth, local=params["pull"] == "never", engine=connection.host)
    observer = Observer(wanted, Engine(client), images, image, tests_image, routing)
    return Deploy(
        wanted,
        observer,
        tests=tests_of(params) if tests_image else None,
        pull_timeout=params["pull_timeout"],
        health_timeout=params["health_timeout"],
        stop_timeout=params["stop_timeout"],
    )


def _pinned(params: Mapping[str, Any]) -> str:
    image, digest = str(params["image"]), params["digest"]
    return f"{image}@{digest}" if digest and "@" not in image else image


def wanted_of(params: Mapping[str, Any], address: str) -> Wanted:
    """Return what the options ask for.

    :param address: where the engine's published ports are reached, where the options do not say.
    :raises BadOption: one of them cannot be used.
    """
    if not SERVICE_NAME.fullmatch(params["name"]):
        raise BadOption(
            f"{params['name']!r} cannot be the name of a service: letters, digits, '.', '_' and "
            "'-' are needed, 63 at most"
        )
    check_least(params, "instances", 1)
    check_least(params, "keep_releases", 0)
    check_least(params, "stop_timeout", 0)
    times = ("health_timeout", "test_timeout", "prove_timeout", "drain_timeout", "soak")
    check_seconds(params, ("pull_timeout", *times))
    check_paths(params, ("health_path", "prove_path"))
    state = params["state"]
    if state in CANARY_STATES:
        _check_canary(params)
    # What stands already is told by its labels.
    shape = shape_of(params) if state in (PRESENT, STAGED) else None
    if shape and shape.published_port is not None and params["instances"] != 1:
        raise BadOption("one port cannot be shared: instances must be 1 with published_port")
    route = ""
    if params["router"]:
        route = params["route"] or params["name"]
        if not ROUTE_NAME.fullmatch(route):
            raise BadOption(f"{route!r} cannot be a service's name at the router")
    return Wanted(
        params["name"],
        shape,
        instances=params["instances"],
        address=params["address"] or address,
        route=route,
        health_path=params["health_path"] or "",
        tested=bool(params["test_image"]) and shape is not None,
        rehearse=params["rehearse"],
        keep_releases=params["keep_releases"],
        state=state,
        weight=params["weight"] or 0,
        digest=_only_digest(params) if state in ABOUT_WHAT_STANDS else "",
        soak=params["soak"],
    )


def _check_canary(params: Mapping[str, Any]) -> None:
    """Make sure that the options can be those of a candidate beside the live version.

    :raises BadOption: they cannot.
    """
    state = params["state"]
    if not params["router"]:
        raise BadOption(f"state {state} needs router: a part of the clients is sent by one")
    if params["published_port"] is not None:
        raise BadOption(
            f"state {state} cannot have published_port: two versions cannot listen on one port"
        )
    if state == CANARY and not 0 <= params["weight"] <= MAX_WEIGHT:
        raise BadOption(f"weight must be 0 to {MAX_WEIGHT} percent, not {params['weight']}")


def _only_digest(params: Mapping[str, Any]) -> str:
    """Return the digest that the options name, if they name one."""
    digest = params["digest"] or str(params["image"] or "").partition("@")[2]
    return str(digest)


def shape_of(params: Mapping[str, Any]) -> Shape:
    """Return the configuration of the containers.

    :raises BadOption: part of it cannot be used.
    """
    for name in ("container_port", "published_port"):
        if params[name] is not None and not 1 <= params[name] <= LAST_PORT:
            raise BadOption(f"{name} must be a port, not {params[name]}")
    networks = tuple(params["networks"])
    if "host" in networks or "none" in networks:
        raise BadOption("networks must not name host or none: the port is published")
    return Shape(
        container_port=params["container_port"],
        published_port=params["published_port"],
        bind_address=params["bind_address"],
        environment=_environment(params["environment"]),
        volumes=tuple(params["volumes"]),
        command=tuple(params["command"]),
        labels={name: text_of(value) for name, value in params["labels"].items()},
        networks=networks,
        extra_hosts={name: str(value) for name, value in params["extra_hosts"].items()},
        user=params["user"] or "",
        memory=_bytes(params["memory"]),
        cpus=params["cpus"] or 0.0,
        restart_policy=params["restart_policy"],
        stop_timeout=params["stop_timeout"],
    )


def tests_of(params: Mapping[str, Any]) -> Tests:
    """Return how candidates are tested."""
    return Tests(
        image="",
        network=params["test_network"],
        environment=_environment(params["test_environment"]),
        command=tuple(params["test_command"]),
        extra_hosts={name: str(value) for name, value in params["extra_hosts"].items()},
        timeout=params["test_timeout"],
    )


def routing_of(params: Mapping[str, Any], wanted: Wanted) -> Routing | None:
    """Return the service at its router; None where there is none.

    :raises DeliveryError: an option cannot be used.
    """
    if not params["router"]:
        if params["prove_path"]:
            raise BadOption("prove_path needs router, or there is nothing to prove through")
        return None
    if params["prove_fields"] and not params["prove_path"]:
        raise BadOption("prove_fields needs prove_path, or nothing would be proved")
    check_least(params, "prove_count", 1)
    router = router_at(params)
    if wanted.state in CANARY_STATES:
        as_canary(router)
    http = Http(
        router.entrance(wanted.route),
        host_header=params["host_header"],
        validate_certs=params["router_validate_certs"],
        ca_path=params["router_ca_path"],
    )
    proof = tried = None
    if params["prove_path"] and not wanted.absent:
        fields = {name: text_of(value) for name, value in params["prove_fields"].items()}
        # They may be those of the release that is refused.
        expected = Expectation(
            params["prove_path"], fields=fields if wanted.state != ROLLED_BACK else {}
        )
        proof, tried = (
            Check(http, one, params["prove_timeout"], params["prove_count"])
            for one in (expected, replace(expected, headers=_asking(router)))
        )
    required = params["router_required"] or wanted.state in CANARY_STATES
    serves = proof.any_version() if proof else answered(http, params["prove_timeout"])
    routing = Routing(
        router,
        wanted.route,
        proof,
        required=required,
        tried=tried,
        serves=serves,
        share=share_of(params, wanted),
    )
    # Before anything is started: only the port is not known yet.
    routing.check_targets([url_at(wanted.address, LAST_PORT)])
    return routing


def share_of(params: Mapping[str, Any], wanted: Wanted) -> Share:
    """Return which part of its route is the service's on this engine; peers keep theirs.

    What brings a release up refuses an address that is nobody's. The others leave it alone.
    """
    refuses = wanted.state in (PRESENT, STAGED, PROMOTED)
    return Share({wanted.address}, params["peers"] if refuses else None)


def router_at(params: Mapping[str, Any]) -> Router:
    """Return the router of options whose names begin with ``router_``.

    :raises DeliveryError: an option cannot be used.
    """
    if params["router_timeout"] <= 0:
        raise BadOption("router_timeout must be more than 0 seconds")
    own = {name: params[f"router_{name}"] for name in ("validate_certs", "ca_path", "timeout")}
    return router_from(HOST_ROUTERS, {**params, **own})


def _asking(router: Router) -> dict[str, str]:
    """Return the header by which a client asks for the candidate."""
    return dict([router.asks]) if isinstance(router, CanaryRouter) else {}


def _environment(values: Mapping[str, Any]) -> dict[str, str]:
    for name in values:
        if not VARIABLE.fullmatch(name):
            raise BadOption(f"{name!r} cannot be the name of an environment variable")
    return {name: text_of(value) for name, value in values.items()}


def _bytes(size: str | None) -> int:
    """Return a size such as ``256m`` in bytes; 0 for none.

    :raises BadOption: it is none.
    """
    if not size:
        return 0
    found = re.fullmatch(r"(\d+)([bkmg]?)b?", size.strip().lower())
    if found is None:
        raise BadOption(f"memory {size!r} is no size; give it as 256m or 1g")
    return int(found[1]) * UNITS[found[2]]


def each_of(params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the options of each service.

    :param params: a task's options, with ``services`` where there are several.
    :raises BadOption: an entry of ``services`` is not like the options of one service.
    """
    if params["parallel"] < 1:
        raise BadOption(f"parallel must be at least 1, not {params['parallel']}")
    # What is empty counts as left out, so an entry can do without what the task has.
    common = {name: params[name] for name in OPTIONS}
    entries = [{}] if params["services"] is None else params["services"]
    validator = ArgumentSpecValidator(
        OPTIONS, required_if=REQUIRED_IF, required_together=OPTIONS_TOGETHER
    )
    found: list[dict[str, Any]] = []
    for entry in entries:
        merged = {**common, **entry}
        given = {name: value for name, value in merged.items() if value not in (None, "")}
        result = validator.validate(given)
        if result.error_messages:
            who = entry.get("name", "a service without a name") if entry else params["name"]
            raise BadOption(f"{who}: {', '.join(result.error_messages)}")
        found.append(result.validated_parameters)
    names = [one["name"] for one in found]
    if None in names:
        raise BadOption("each of services needs a name")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise BadOption(f"services name {', '.join(sorted(twice))} twice")
    return found
