#!/usr/bin/python
# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: portal_switch
short_description: Carry a live portal's data to a candidate and switch to it, losing no write
version_added: 0.1.0
description:
  - The guarded pass of a blue/green deploy, in one task, since users cannot write while it lasts.
    Rehearse it first with M(immutable.delivery.portal_export) and
    M(immutable.delivery.portal_import), so that it holds no surprise.
  - Exports the live portal and keeps it read-only, imports into the candidate and makes that
    read-only too, proves that the live portal's lock was held, switches the router, proves the
    candidate through it, proves once more that the lock was held, and opens the candidate.
  - Both sides are read-only around the switch. So when anything fails, or the task is interrupted,
    the traffic is sent back, both locks are given back, and neither side has acknowledged a write
    that the other one lacks. Where the router does not confirm that, both sides stay read-only
    until their locks lapse.
  - Once the candidate is being opened there is no way back. A failure from then on has the kind
    C(opened), leaves the traffic there, and the other side read-only until its lock lapses.
  - Where the lock lapsed before its time was enough, the pass is done again from the export.
author:
  - immutable.delivery contributors (@immutable-delivery)
requirements:
  - python >= 3.11
  - requests
extends_documentation_fragment:
  - immutable.delivery.portal
  - immutable.delivery.portal.job
  - immutable.delivery.router_alb
  - immutable.delivery.router_haproxy
  - immutable.delivery.router_nginx
  - immutable.delivery.router_etcd
  - immutable.delivery.router_consul
  - immutable.delivery.attributes
  - immutable.delivery.attributes.actiongroup_portal
  - immutable.delivery.deploy_locks
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: none
    details:
      - Fails where the candidate has the traffic already, since its data would be replaced.
options:
  candidate_url:
    description:
      - The candidate's own address. O(api_url) is that of the live portal, and must be the one that
        the router sends the traffic to.
    type: str
    required: true
  archive:
    description:
      - The file to carry the data in; replaced. Its folder must exist.
    type: path
    required: true
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
  router_url:
    description:
      - Where the router is; with O(router=alb) where its clients ask, by default under the load
        balancer's own name. Needed for all other routers.
      - With O(router=haproxy), O(router=nginx), O(router=etcd) and O(router=consul) it is where
        clients reach O(service).
    type: str
  service:
    description:
      - The name that the portal is registered with at the router.
    type: str
    required: true
  health_path:
    description:
      - A path that the candidate must answer before anything is done; empty for no check.
    type: str
    default: /health
  health_timeout:
    description:
      - How many seconds the candidate may take for that.
    type: float
    default: 30
  prove_path:
    description:
      - A path that is asked for through the router after the switch; empty for no proof.
    type: str
    default: /health
  prove_fields:
    description:
      - JSON fields that the answer must have, with their values. A dot descends into an object.
    type: dict
    default: {}
  prove_count:
    description:
      - How many good answers in a row are wanted.
    type: int
    default: 3
  prove_timeout:
    description:
      - How many seconds the proof may take.
    type: float
    default: 10
  min_remaining:
    description:
      - How many seconds of the live portal's lock must be left right before the switch; less than
        O(lock_seconds).
    type: float
    default: 5
  drain_timeout:
    description:
      - When the traffic is sent back, how many seconds to wait until the candidate has answered its
        last request. Its lock is not given back before that.
    type: float
    default: 30
  rounds:
    description:
      - How often the pass is tried where the lock does not last.
    type: int
    default: 3
"""

EXAMPLES = r"""
- name: Carry the data and switch
  immutable.delivery.portal_switch:
    api_url: https://10.0.0.5
    candidate_url: https://10.0.0.6
    host_header: api.example.org
    deployment_key: "{{ portal_deployment_key }}"
    archive: /var/lib/delivery/portal.tgz.enc
    router_url: http://proxy.internal:8000
    service: portal
    prove_fields:
      version: v24
"""

RETURN = r"""
url:
  description: Where the traffic goes now.
  returned: success
  type: str
previous_url:
  description: Where it went before.
  returned: success
  type: str
export_id:
  description: The export that still makes the previous portal read-only, until it lapses.
  returned: success
  type: str
sha256:
  description: The SHA-256 of the archive that was carried.
  returned: success
  type: str
size:
  description: Its size in bytes.
  returned: success
  type: int
rounds:
  description: How many passes it took.
  returned: success
  type: int
read_only_seconds:
  description: How long users could not write, in the last pass.
  returned: success
  type: float
steps:
  description: Each step of the last pass with the seconds it took.
  returned: success
  type: list
  elements: dict
"""

from typing import Any

from ..module_utils.change import Outcome, after, run
from ..module_utils.errors import BadOption, DeliveryError
from ..module_utils.http import check_url
from ..module_utils.portal.exporting import ExportChange
from ..module_utils.portal.handover import Handover, HandoverChange, MayHaveWritten
from ..module_utils.portal.importing import ImportChange
from ..module_utils.portal.options import client_of, connection_spec, job_spec, patience_of
from ..module_utils.portal.plan import ExportWanted, ImportWanted
from ..module_utils.routers.base import Route, same_targets
from ..module_utils.routers.options import ROUTERS, change_of, router_specs
from ..module_utils.routers.plan import where
from ..module_utils.wiring import changing_module, end_with, require_requests

ROUTER_SECONDS = 30.0


def change_from(params: dict[str, Any], check_mode: bool) -> HandoverChange[Route]:
    """Return the pass that the options describe.

    :raises DeliveryError: an option cannot be used.
    """
    given = ["router_url"] if params["router_url"] else []
    for name in ("api_url", "candidate_url", *given):
        check_url(params[name], name)
    if not 0 <= params["min_remaining"] < params["lock_seconds"]:
        raise BadOption(
            f"min_remaining must be at least 0 and less than lock_seconds, "
            f"not {params['min_remaining']:g}"
        )
    live = client_of(params)
    candidate = client_of(params, params["candidate_url"])
    route = change_of(
        {
            **params,
            "api_url": params["router_url"],
            "url": params["candidate_url"],
            "state": "present",
            "health_status": [],
            "timeout": ROUTER_SECONDS,
        }
    )
    export = ExportChange(
        live,
        params["deployment_key"].strip(),
        # The portal proves the archive again as it imports it, and users wait.
        ExportWanted(params["archive"], keep_lock=True, verify=False),
        patience_of(params),
        lock_seconds=params["lock_seconds"],
        check_key=check_mode,
    )
    import_ = ImportChange(
        candidate,
        ImportWanted(params["archive"], keep_lock=True),
        patience_of(params),
        lock_seconds=params["lock_seconds"],
        # Before users have to wait; the live portal's key is proved by the first call.
        check_key=True,
    )
    return HandoverChange(
        export,
        import_,
        route,
        lambda timeout: bool(route.drain(timeout).drained),
        check_route=lambda observed: check_live(observed, params["api_url"]),
        min_remaining=params["min_remaining"],
        drain_timeout=params["drain_timeout"],
    )


def check_live(route: Route, api_url: str) -> None:
    """Make sure that what is exported is what has the traffic.

    :raises DeliveryError: the traffic goes elsewhere.
    """
    if not same_targets(route.urls, [api_url]):
        raise DeliveryError(
            f"{where(route)}, not to api_url {api_url}, so users' writes would not be carried",
            next_step="Give the live portal's address as api_url, as the router has it; if "
            "somebody else has switched meanwhile, deploy again.",
        )


def switch(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Do the pass, again where its lock lapsed; return what the module documents."""
    if params["rounds"] < 1:
        raise BadOption(f"rounds must be at least 1, not {params['rounds']}")
    number = 1
    while True:
        change = change_from(params, check_mode)
        try:
            outcome = run(change, check_mode=check_mode)
        except DeliveryError as error:
            if change.stayed:
                error.kind = MayHaveWritten.kind
            if error.kind != "lapsed" or not change.quiet or number == params["rounds"]:
                if number > 1:
                    error.message += f" (in pass {number} of {params['rounds']})"
                raise
            number += 1
        else:
            with after(outcome):
                return result(outcome, number)


def result(outcome: Outcome[Handover[Route]], number: int) -> dict[str, Any]:
    """Return what the module documents."""
    done = outcome.after
    return {
        **outcome.result(),
        "url": done.route.url,
        "previous_url": outcome.before.route.url,
        "export_id": done.live_lock.export_id if done.live_lock else "",
        "sha256": done.imported.sha256 if done.imported else "",
        "size": done.imported.size if done.imported else 0,
        "rounds": number,
        "read_only_seconds": round(done.read_only_seconds, 3),
    }


def main() -> None:
    """Run the module."""
    module = changing_module(
        argument_spec={
            **connection_spec(),
            **job_spec(),
            "candidate_url": {"type": "str", "required": True},
            "archive": {"type": "path", "required": True},
            "router": {"type": "str", "choices": list(ROUTERS), "default": "registry"},
            "router_url": {"type": "str"},
            **router_specs(),
            "service": {"type": "str", "required": True},
            "health_path": {"type": "str", "default": "/health"},
            "health_timeout": {"type": "float", "default": 30.0},
            "prove_path": {"type": "str", "default": "/health"},
            "prove_fields": {"type": "dict", "default": {}},
            "prove_count": {"type": "int", "default": 3},
            "prove_timeout": {"type": "float", "default": 10.0},
            "min_remaining": {"type": "float", "default": 5.0},
            "drain_timeout": {"type": "float", "default": 30.0},
            "rounds": {"type": "int", "default": 3},
        },
        required_if=[
            ("router", "registry", ["router_url"]),
            ("router", "alb", ["alb"]),
            ("router", "etcd", ["etcd"]),
        ],
        supports_check_mode=True,
    )
    require_requests(module)
    end_with(module, lambda: switch(module.params, module.check_mode))


if __name__ == "__main__":
    main()
