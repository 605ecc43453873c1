#!/usr/bin/python
# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxy_candidate
short_description: Let a candidate be tried through the router, beside the live version
description:
  - Makes O(url) the candidate of a service at a router. Requests that ask for it by the header
    C(x-client-mode) with C(green) get there, and O(weight) percent of all other clients do.
  - The live version is not touched. M(immutable.delivery.proxy_register) and
    M(immutable.delivery.portal_switch) promote a candidate by switching to its address.
  - M(immutable.delivery.service_deploy) does all of this by itself for a service on an engine.
author:
  - immutable.delivery contributors (@immutable-delivery)
requirements:
  - python >= 3.11
  - requests
notes:
  - Who is live and who is tried is read from the router. In check mode nothing is changed, so this
    also tells what stands.
extends_documentation_fragment:
  - immutable.delivery.router_haproxy
  - immutable.delivery.router_nginx
  - immutable.delivery.router_etcd
  - immutable.delivery.router_consul
  - immutable.delivery.attributes
  - immutable.delivery.deploy_locks
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  router:
    description:
      - The kind of router, see O(haproxy), O(nginx), O(etcd) and O(consul).
    type: str
    choices: [haproxy, nginx, etcd, consul]
    required: true
  api_url:
    description:
      - The address at which clients reach O(service).
    type: str
    required: true
  service:
    description:
      - The name of the service.
    type: str
    required: true
  state:
    description:
      - V(present) makes O(url) the candidate; V(absent) sends everybody to the live version, and
        waits for the requests that the candidate still works on.
    type: str
    choices: [present, absent]
    default: present
  url:
    description:
      - The address of the candidate. Needed for O(state=present).
    type: str
  weight:
    description:
      - The share of the clients that get there without asking for it, in percent, from 0 to 99.
    type: int
    default: 0
  health_path:
    description:
      - The path that a new candidate must answer first. Empty for no such check.
    type: str
    default: /health
  health_timeout:
    description:
      - The seconds that it may take to become healthy.
    type: float
    default: 30
  host_header:
    description:
      - The host name to ask for, in the health check and in the proof.
    type: str
  prove_path:
    description:
      - A path to ask for through the router, by the header that asks for the candidate.
    type: str
  prove_fields:
    description:
      - JSON fields that the answers to O(prove_path) must have with these values, compared as text.
    type: dict
    default: {}
  prove_count:
    description:
      - How many good answers in a row are a proof.
    type: int
    default: 3
  prove_timeout:
    description:
      - The seconds that the proof may take.
    type: float
    default: 10
  drain_timeout:
    description:
      - How many seconds to wait for the requests on a former candidate.
    type: float
    default: 60
  validate_certs:
    description:
      - Whether to check TLS certificates.
    type: bool
    default: true
  ca_path:
    description:
      - A file of CA certificates to trust instead of the system's.
    type: path
  timeout:
    description:
      - The seconds that one call to the router may take.
    type: float
    default: 30
seealso:
  - module: immutable.delivery.proxy_register
  - module: immutable.delivery.service_deploy
"""

EXAMPLES = r"""
- name: Let those try the new portal who ask for it
  immutable.delivery.proxy_candidate:
    router: haproxy
    api_url: http://127.0.0.1
    service: portal
    url: http://10.0.0.6:8080
    host_header: portal.example.com
    prove_path: /health

- name: Send everybody to the live one
  immutable.delivery.proxy_candidate:
    router: haproxy
    api_url: http://127.0.0.1
    service: portal
    state: absent
"""

RETURN = r"""
live_urls:
  description: Where everybody else goes.
  returned: success
  type: list
  elements: str
candidate_urls:
  description: Where the candidate is; in check mode the one that there is.
  returned: success
  type: list
  elements: str
weight:
  description: The candidate's share of the clients in percent; null where there is none.
  returned: success
  type: int
drained:
  description: Whether no request was left on a former candidate; null where there was none.
  returned: success
  type: bool
steps:
  description: Each step, with its name (C(step)) and how long it took (C(seconds)).
  returned: success
  type: list
  elements: dict
"""

from typing import Any

from ..module_utils.change import after, run
from ..module_utils.delivery_module import DeliveryModule
from ..module_utils.given import check_least, check_paths, check_seconds
from ..module_utils.probe import Expectation
from ..module_utils.routers.base import Candidate, checked_target
from ..module_utils.routers.canary import CanaryRouter, as_canary, check_weight
from ..module_utils.routers.check import Check
from ..module_utils.routers.host_options import host_router_specs
from ..module_utils.routers.options import health_of, http_to, router_of
from ..module_utils.routers.routing import Routing
from ..module_utils.routers.trial import TrialChange
from ..module_utils.wiring import changing_module, end_with, require_requests

# Those that have options of their own are those that can have a candidate.
ROUTERS = host_router_specs()


def change_of(params: dict[str, Any]) -> TrialChange:
    """Return the change that the options describe.

    :raises DeliveryError: an option cannot be used.
    """
    check_seconds(params, ("health_timeout", "prove_timeout", "drain_timeout"))
    check_least(params, "prove_count", 1)
    check_paths(params, ("health_path", "prove_path"))
    check_weight(params["weight"])
    router = as_canary(router_of(params))
    if params["state"] == "absent":
        return TrialChange(router, params["service"], None)
    wanted = Candidate((checked_target(params["url"], "url"),), params["weight"])
    health = health_of({**params, "health_status": []}, wanted.urls)
    return TrialChange(
        router, params["service"], wanted, health=health, proof=proof_of(params, router)
    )


def proof_of(params: dict[str, Any], router: CanaryRouter) -> Check | None:
    """Return what asks for the candidate, where that is wanted."""
    if not params["prove_path"]:
        return None
    expected = Expectation(
        params["prove_path"],
        fields={name: str(value) for name, value in params["prove_fields"].items()},
        headers=dict([router.asks]),
    )
    http = http_to(router.entrance(params["service"]), params)
    return Check(http, expected, params["prove_timeout"], params["prove_count"])


def main() -> None:
    """Run the module."""
    module = changing_module(
        argument_spec={
            "router": {"type": "str", "choices": list(ROUTERS), "required": True},
            "api_url": {"type": "str", "required": True},
            **ROUTERS,
            "service": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "url": {"type": "str"},
            "weight": {"type": "int", "default": 0},
            "health_path": {"type": "str", "default": "/health"},
            "health_timeout": {"type": "float", "default": 30.0},
            "host_header": {"type": "str"},
            "prove_path": {"type": "str"},
            "prove_fields": {"type": "dict", "default": {}},
            "prove_count": {"type": "int", "default": 3},
            "prove_timeout": {"type": "float", "default": 10.0},
            "drain_timeout": {"type": "float", "default": 60.0},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
            "timeout": {"type": "float", "default": 30.0},
        },
        required_if=[("state", "present", ["url"])],
        supports_check_mode=True,
    )
    require_requests(module)
    end_with(module, lambda: tried(module))


def tried(module: DeliveryModule) -> dict[str, Any]:
    """Make the change, wait for the requests on a former candidate, and return what came of it."""
    params = module.params
    change = change_of(params)
    outcome = run(change, check_mode=module.check_mode)
    drained = None
    if outcome.made and outcome.before.candidate is not None:
        former = Routing(change.router, params["service"])
        with after(outcome):
            drained = former.drain(params["drain_timeout"]).drained
        if not drained:
            module.warn("requests may be left on the former candidate")
    having = outcome.after.candidate
    return {
        **outcome.result(),
        "live_urls": list(outcome.after.urls),
        "candidate_urls": list(having.urls) if having else [],
        "weight": having.weight if having else None,
        "drained": drained,
    }


if __name__ == "__main__":
    main()
