#!/usr/bin/python
# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: portal_plan
short_description: Observe which version of a portal is live, and plan its replacement
version_added: 0.1.0
description:
  - Asks the router which instance gets the traffic, and that instance for its version. Neither is
    read from a file, so a deploy that was killed is found at the point that it really reached.
  - Returns the stages from there to the wanted version. It changes nothing; in check mode it
    reports that something would be changed where there are stages, so that C(--check --diff) shows
    the plan.
author:
  - immutable.delivery contributors (@immutable-delivery)
requirements:
  - python >= 3.11
  - requests
extends_documentation_fragment:
  - immutable.delivery.router_alb
  - immutable.delivery.router_haproxy
  - immutable.delivery.router_nginx
  - immutable.delivery.router_etcd
  - immutable.delivery.router_consul
  - immutable.delivery.attributes
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
      - The kind of router. V(alb) is the listener of an AWS load balancer, see O(alb).
      - V(haproxy) and V(nginx) are those of a host, which the module has to run on; see O(haproxy)
        and O(nginx).
      - V(etcd) is a registry that the registrars of any number of them follow, see O(etcd);
        V(consul) is another, see O(consul).
    type: str
    choices: [registry, alb, haproxy, nginx, etcd, consul]
    default: registry
  api_url:
    description:
      - Where the router is; with O(router=alb) where its clients ask, by default under the load
        balancer's own name. Needed for all other routers.
      - With O(router=haproxy), O(router=nginx), O(router=etcd) and O(router=consul) it is where
        clients reach O(service).
    type: str
  service:
    description:
      - The name that the portal is registered with.
    type: str
    required: true
  version:
    description:
      - The wanted version.
    type: str
    required: true
  host_header:
    description:
      - The host name that the portal answers to.
    type: str
  health_path:
    description:
      - The path of the JSON document that holds the portal's version.
    type: str
    default: /health
  version_field:
    description:
      - The field of that document. A dot descends into an object.
    type: str
    default: version
  timeout:
    description:
      - The seconds that each question may take.
    type: float
    default: 30
  validate_certs:
    description:
      - Whether to check TLS certificates.
    type: bool
    default: true
  ca_path:
    description:
      - A file of CA certificates to trust instead of the system's.
    type: path
"""

EXAMPLES = r"""
- name: Find out what a deploy of v24 would do
  immutable.delivery.portal_plan:
    api_url: http://prod:8000
    service: portal
    host_header: api.example.org
    version: v24
  register: portal_plan
"""

RETURN = r"""
needed:
  description: Whether another version than the wanted one is live.
  returned: success
  type: bool
live:
  description: What is live.
  returned: success
  type: dict
  contains:
    url:
      description: The instance that the router sends traffic to.
      type: str
    version:
      description: Its version, as it says.
      type: str
entrance:
  description: Where clients reach the portal through the router.
  returned: success
  type: str
stages:
  description: What a deploy does, in this order.
  returned: success
  type: list
  elements: dict
  contains:
    stage:
      description: The stage's name.
      type: str
    summary:
      description: What it does.
      type: str
"""

from typing import Any

from ..module_utils.deadline import Deadline
from ..module_utils.delivery_module import DeliveryModule
from ..module_utils.errors import DeliveryError
from ..module_utils.http import Http
from ..module_utils.portal.release import Live, plan_release, read_version
from ..module_utils.routers.base import Router
from ..module_utils.routers.options import ROUTERS, router_of, router_specs
from ..module_utils.routers.plan import where
from ..module_utils.wiring import end_with, require_requests


def observe(params: dict[str, Any], router: Router) -> Live:
    """Ask router and live instance."""
    route = router.observe(params["service"])
    if route.url is None:
        return Live("", "")
    if len(route.urls) > 1:
        raise DeliveryError(
            f"{where(route)}, and a portal is one instance, for its data are",
            state="Nothing was changed.",
            next_step="Take all but the live portal out of the router.",
        )
    url = route.url
    http = Http(
        url,
        host_header=params["host_header"],
        validate_certs=params["validate_certs"],
        ca_path=params["ca_path"],
    )
    deadline = Deadline(params["timeout"])
    return Live(url, read_version(http, params["health_path"], params["version_field"], deadline))


def result(
    live: Live, stages: list[dict[str, str]], wanted: str, check_mode: bool
) -> dict[str, Any]:
    """Return what the module documents."""
    text = f"live: {live.version} at {live.url}\n"
    planned = f"live: {wanted}, an instance that is made now\n" if stages else text
    planned += "".join(
        f"{number}. {stage['stage']}: {stage['summary']}\n"
        for number, stage in enumerate(stages, 1)
    )
    return {
        "changed": check_mode and bool(stages),
        "needed": bool(stages),
        "live": {"url": live.url, "version": live.version},
        "stages": stages,
        "diff": {"before": text, "after": planned},
    }


def main() -> None:
    """Run the module."""
    module = DeliveryModule(
        argument_spec={
            "router": {"type": "str", "choices": list(ROUTERS), "default": "registry"},
            "api_url": {"type": "str"},
            **router_specs(),
            "service": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "host_header": {"type": "str"},
            "health_path": {"type": "str", "default": "/health"},
            "version_field": {"type": "str", "default": "version"},
            "timeout": {"type": "float", "default": 30.0},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
        },
        required_if=[
            ("router", "registry", ["api_url"]),
            ("router", "alb", ["alb"]),
            ("router", "etcd", ["etcd"]),
        ],
        supports_check_mode=True,
    )
    require_requests(module)
    params = module.params

    def work() -> dict[str, Any]:
        router = router_of(params)
        live = observe(params, router)
        stages = plan_release(live, params["version"])
        values = result(live, stages, params["version"], module.check_mode)
        return {**values, "entrance": router.entrance(params["service"])}

    end_with(module, work)


if __name__ == "__main__":
    main()
