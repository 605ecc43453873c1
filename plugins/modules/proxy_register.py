#!/usr/bin/python
# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: proxy_register
short_description: Switch the traffic of a service to another address, proved and drained
version_added: 0.1.0
description:
  - Tells a router to send a service's traffic to O(url), or to spread it over O(urls), from one
    request to the next.
  - A new address that does not answer O(health_path) is refused before anything is changed.
  - After the switch the router is read back and, with O(prove_path), asked as a client would ask
    it. Where that fails the earlier address is put back, and the error says what stands.
  - Then it waits until the requests that the earlier address still works on have ended.
author:
  - immutable.delivery contributors (@immutable-delivery)
requirements:
  - python >= 3.11
  - requests
notes:
  - The proxy of this collection refuses the second of two callers, and the module then says who
    was first. The original of the demo does not; there the module notices by reading back that
    somebody else switched, and fails. Keep deploys apart with M(immutable.delivery.deploy_lock).
  - In check mode the new address is asked for its health, which changes nothing; it is neither
    switched to nor proved, and nothing is drained.
extends_documentation_fragment:
  - immutable.delivery.router_alb
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
      - The kind of router. V(alb) is the listener of an AWS load balancer, see O(alb).
      - V(haproxy) and V(nginx) are those of a host, which the module has to run on; see O(haproxy)
        and O(nginx).
      - V(etcd) is a registry that the registrars of any number of them follow, see O(etcd);
        V(consul) is another, see O(consul).
      - V(registry) is the demo proxy with its HTTP API.
    type: str
    choices: [registry, alb, haproxy, nginx, etcd, consul]
    default: registry
  api_url:
    description:
      - The address of the router's API; for O(router=registry) also where its clients ask.
      - With O(router=alb) it is only where its clients ask, by default under the load balancer's
        own name. Needed for all other routers.
      - With O(router=haproxy), O(router=nginx), O(router=etcd) and O(router=consul) it is where
        clients reach O(service).
    type: str
  service:
    description:
      - The name of the service.
    type: str
    required: true
  url:
    description:
      - Where the traffic shall go. O(state=present) needs this or O(urls).
      - With O(peers) and O(state=absent), an address of the host that leaves the route.
    type: str
  urls:
    description:
      - Where the traffic shall go, for a service with several instances; all of them are set in one
        step, and their order means nothing.
      - More than one needs a proxy that knows C(PUT /services/NAME), as that of this collection
        does.
    type: list
    elements: str
  peers:
    description:
      - The hosts that serve O(service) beside this one, such as those of the play. Their addresses
        stay on the route, and only those of the host of O(url) or O(urls) are replaced. So
        C(serial) over a group with one route ends with all hosts serving.
      - An address of any other host is refused before anything is changed.
      - Hosts are compared by name, then by the addresses that the names resolve to. Two hosts of
        the same address, such as V(127.0.0.1), are the same host. The host itself may be listed.
      - With O(state=absent) only the addresses of the host of O(url) or O(urls) are taken off.
      - If this is not set, everything on the route is replaced. If that is an address of another
        host, a warning names it.
    type: list
    elements: str
  state:
    description:
      - V(present) sends the traffic to O(url) or O(urls); V(absent) makes the router forget the
        service.
    type: str
    choices: [present, absent]
    default: present
  health_path:
    description:
      - The path that an address must answer before it gets traffic. Empty for no such check.
    type: str
    default: /health
  health_status:
    description:
      - The statuses that are healthy; any of 200 to 299 where none is given.
    type: list
    elements: int
    default: []
  health_timeout:
    description:
      - The seconds that an address may take to become healthy.
    type: float
    default: 30
  host_header:
    description:
      - The host name to ask for, in the health check and in the proof.
    type: str
  prove_path:
    description:
      - A path to ask for through the router after the switch. Without it there is no proof.
      - Where nothing is to be switched it is asked as well, and a failure then changes nothing.
    type: str
  prove_fields:
    description:
      - JSON fields that the answers to O(prove_path) must have with these values, compared as text.
        A dot descends into an object.
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
      - How many seconds to wait for the requests on earlier addresses to end; V(0) does not wait.
      - The API of O(router=alb) does not count requests. There the deregistration delay of the
        earlier target group is waited for, which this must not be less than.
      - O(router=nginx) does not count requests either; there the end of its old workers is waited
        for, each of which has one request at least.
      - Where nothing is to be switched, requests that are left from before are waited for as well.
    type: float
    default: 60
  drain_required:
    description:
      - Whether it is a failure, and not only a warning, when requests are left or the router cannot
        tell. The switch stands all the same.
    type: bool
    default: false
  validate_certs:
    description:
      - Whether to check TLS certificates, of the router and of the addresses.
    type: bool
    default: true
  ca_path:
    description:
      - A file of CA certificates to trust instead of the system's.
    type: path
  timeout:
    description:
      - The seconds that one call to the router's API may take.
    type: float
    default: 30
seealso:
  - module: immutable.delivery.deploy_lock
  - module: immutable.delivery.health_probe
"""

EXAMPLES = r"""
- name: Send the portal's traffic to the candidate once it is healthy, and prove it
  immutable.delivery.proxy_register:
    api_url: http://127.0.0.1:8000
    service: portal
    url: http://10.0.0.6:3001
    host_header: api.example.org
    prove_path: /health
    prove_fields:
      version: v24
    drain_timeout: 120
  register: portal_switched

- name: Spread the demo service over two instances
  immutable.delivery.proxy_register:
    api_url: http://127.0.0.1:8000
    service: demo
    urls:
      - http://10.0.0.7:32768
      - http://10.0.0.7:32769

- name: Switch HAProxy on its own host, which finds the new version up first
  immutable.delivery.proxy_register:
    router: haproxy
    api_url: http://127.0.0.1
    service: portal
    url: http://10.0.0.6:3001
    host_header: api.example.org
    prove_path: /health
    haproxy:
      socket: /run/haproxy/delivery.sock

- name: Put this host on the route beside the other hosts of the play
  immutable.delivery.proxy_register:
    api_url: http://10.0.0.2:8000
    service: demo
    url: "http://{{ ansible_host }}:8080"
    peers: "{{ ansible_play_hosts_all | map('extract', hostvars, 'ansible_host') }}"

- name: Take a service out of the proxy
  immutable.delivery.proxy_register:
    api_url: http://127.0.0.1:8000
    service: demo
    state: absent
"""

RETURN = r"""
url:
  description:
    - Where the traffic goes now, as it was read back; the first of RV(urls), and null where the
      service is not known.
  returned: success
  type: str
urls:
  description: All addresses that the traffic goes to now.
  returned: success
  type: list
  elements: str
previous_url:
  description:
    - Where the traffic went before the task; the first of RV(previous_urls), and null where the
      service was not known.
  returned: success
  type: str
previous_urls:
  description: All addresses that the traffic went to before the task.
  returned: success
  type: list
  elements: str
proved:
  description: Whether answers through the router were asked for and found good.
  returned: success
  type: bool
drained:
  description:
    - Whether no request is left on an earlier address; null where the router cannot tell, and in
      check mode.
  returned: success
  type: bool
in_flight:
  description: How many requests are left on earlier addresses; null where that is not known.
  returned: success
  type: int
seconds:
  description: How long the switch itself took, until it was read back.
  returned: success
  type: float
steps:
  description: Each step, with its name (C(step)) and how long it took (C(seconds)).
  returned: success
  type: list
  elements: dict
"""

from collections.abc import Callable, Sequence
from typing import Any

from ..module_utils.change import Outcome, after, run
from ..module_utils.errors import DeliveryError, enumerate_words
from ..module_utils.routers.base import Route, normal
from ..module_utils.routers.drain import Drained, NotDrained
from ..module_utils.routers.options import ROUTERS, change_of, router_specs
from ..module_utils.routers.peers import Share
from ..module_utils.routers.plan import REMOVE, SWITCH, where
from ..module_utils.routers.switch import RouteChange
from ..module_utils.wiring import changing_module, end_with, require_requests


def main() -> None:
    """Run the module."""
    module = changing_module(
        argument_spec={
            "router": {"type": "str", "choices": list(ROUTERS), "default": "registry"},
            "api_url": {"type": "str"},
            **router_specs(),
            "service": {"type": "str", "required": True},
            "url": {"type": "str"},
            "urls": {"type": "list", "elements": "str"},
            "peers": {"type": "list", "elements": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "health_path": {"type": "str", "default": "/health"},
            "health_status": {"type": "list", "elements": "int", "default": []},
            "health_timeout": {"type": "float", "default": 30.0},
            "host_header": {"type": "str"},
            "prove_path": {"type": "str"},
            "prove_fields": {"type": "dict", "default": {}},
            "prove_count": {"type": "int", "default": 3},
            "prove_timeout": {"type": "float", "default": 10.0},
            "drain_timeout": {"type": "float", "default": 60.0},
            "drain_required": {"type": "bool", "default": False},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
            "timeout": {"type": "float", "default": 30.0},
        },
        mutually_exclusive=[("url", "urls")],
        required_if=[
            ("state", "present", ["url", "urls"], True),
            ("router", "registry", ["api_url"]),
            ("router", "alb", ["alb"]),
            ("router", "etcd", ["etcd"]),
        ],
        supports_check_mode=True,
    )
    require_requests(module)
    end_with(module, lambda: register(module.params, module.check_mode, module.warn))


def register(
    params: dict[str, Any], check_mode: bool, warn: Callable[[str], None]
) -> dict[str, Any]:
    """Make the change, then drain; return what the module documents."""
    change = change_of(params)
    # What an undo goes back to may be another version, which the fields of the proof are not of.
    change.routing.serves = change.proof.any_version() if change.proof is not None else None
    outcome = run(change, check_mode=check_mode)
    if params["peers"] is None:
        warn_of_replaced(outcome.before.urls, change.wanted.urls, warn)
    with after(outcome, "The switch was made."):
        return finish(change, outcome, params, check_mode, warn)


def finish(
    change: RouteChange,
    outcome: Outcome[Route],
    params: dict[str, Any],
    check_mode: bool,
    warn: Callable[[str], None],
) -> dict[str, Any]:
    """Drain, and return what the module documents."""
    values = outcome.result()
    switched = (SWITCH, REMOVE)
    values.update(
        url=outcome.after.url,
        urls=list(outcome.after.urls),
        previous_url=outcome.before.url,
        previous_urls=list(outcome.before.urls),
        proved=outcome.changed and not check_mode and change.proof is not None,
        drained=None,
        in_flight=None,
        seconds=sum(
            done["seconds"]
            for done, step in zip(outcome.steps, change.plan(outcome.before), strict=True)
            if step.action in switched
        ),
    )
    if check_mode:
        return values
    if not outcome.changed and change.proof is not None:
        try:
            values["proved"] = change.prove()
        except DeliveryError as error:
            raise error.with_state(f"Nothing was changed: {where(outcome.after)}.") from error
    drained = change.drain(params["drain_timeout"])
    report_left(drained, params, outcome.after, warn)
    values.update(drained=drained.drained, in_flight=drained.in_flight)
    values["steps"] = [
        *outcome.steps,
        {"step": "drain earlier targets", "seconds": round(drained.seconds, 3)},
    ]
    return values


def warn_of_replaced(
    before: Sequence[str], urls: Sequence[str], warn: Callable[[str], None]
) -> None:
    """Warn of each address of another host that is replaced."""
    kept = {normal(url) for url in urls}
    others = Share(urls, ()).foreign([url for url in before if normal(url) not in kept])
    if urls and others:
        warn(
            f"{enumerate_words(others)}, of another host, is replaced on the route by "
            f"{enumerate_words(urls)}; name that host in peers to keep it there"
        )


def report_left(
    drained: Drained, params: dict[str, Any], route: Route, warn: Callable[[str], None]
) -> None:
    """Fail or warn where requests may be left on an earlier target.

    :raises NotDrained: ``drain_required`` was given.
    """
    if drained.drained:
        return
    if drained.lasts is not None:
        text = (
            f"requests on earlier addresses of {params['service']} get another "
            f"{drained.lasts:.0f} s to end, after the drain_timeout of "
            f"{params['drain_timeout']:.0f} s"
        )
    elif drained.drained is None:
        text = "the router cannot tell how many requests are left on earlier addresses"
    elif drained.in_flight is None:
        text = "the router could not be asked how many requests are left on earlier addresses"
    else:
        text = (
            f"{drained.in_flight} request(s) were left on earlier addresses of "
            f"{params['service']} after {drained.seconds:.0f} s"
        )
    if params["drain_required"]:
        raise NotDrained(
            text,
            state=where(route),
            next_step="Keep the earlier version until they have ended, or run this again.",
        )
    # Who gave no time to wait knows that requests may be left.
    if params["drain_timeout"] > 0:
        warn(f"{text}; ending the earlier version now may cut them off")


if __name__ == "__main__":
    main()
