#!/usr/bin/python
# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_heal
short_description: Repair the services that were deployed to a Docker engine
version_added: 0.1.0
description:
  - Compares what M(immutable.delivery.service_deploy) made stand with what stands, and repairs it.
    What should stand is read from the labels of the containers and from the router, so neither
    images nor environments are given.
  - Instances that ended are started again, paused ones go on, and instead of those that do not work
    or are gone new ones are made of the same image, by digest, with the same options. Where the
    engine gave an instance another port, as it does when it starts one again, the router is told.
  - Nothing gets traffic before it is healthy. The router is never left without a target that it had
    before something healthy takes its place.
  - Of each service a spare is kept, a container that is made and never started. It is what the
    service is made again from when all its containers are gone.
  - Services that are registered nowhere, such as the router itself, come first.
author:
  - immutable.delivery contributors (@immutable-delivery)
requirements:
  - python >= 3.11
  - requests
notes:
  - A service that was removed with O(immutable.delivery.service_deploy#module:state=absent) has no
    spare any more, and does not come back.
  - Kept releases are not touched, nor are candidates of a deploy. A service is left alone while
    there are candidates that are not older than 15 minutes; with O(exclusive) they count as left
    behind by a deploy that was killed.
  - An engine that is down cannot be started by this module; C(kind) is C(engine_away) then. The
    role C(heal) starts it first.
extends_documentation_fragment:
  - immutable.delivery.attributes
  - immutable.delivery.engine
  - immutable.delivery.router_haproxy
  - immutable.delivery.router_nginx
  - immutable.delivery.router_etcd
  - immutable.delivery.router_consul
  - immutable.delivery.deploy_locks
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  services:
    description:
      - The names of the services to look after; all that the engine knows of where none is given.
      - One that is named and of which the engine has nothing is a failure.
    type: list
    elements: str
    default: []
  exclude:
    description:
      - The names of services to leave alone, such as one that is down on purpose.
    type: list
    elements: str
    default: []
  instances:
    description:
      - How many instances a service should have, by its name. There should be as many as there were
        otherwise. Instances beyond that number are not removed; that is what a deploy does.
    type: dict
    default: {}
  health_paths:
    description:
      - By a service's name a path that each instance must answer with a status of 200 to 299. One
        that does not answer for 5 seconds is replaced.
      - The engine's own health check decides where none is given. Where an image has none either,
        an instance counts as healthy once it has run for a second.
    type: dict
    default: {}
  health_timeout:
    description:
      - The seconds that instances may take to become healthy.
    type: float
    default: 60
  address:
    description:
      - The name or address under which published ports are reached, from here and from the router.
      - That of O(docker_host) where it is not given, and V(127.0.0.1) for a local engine.
    type: str
  addresses:
    description:
      - O(address) for services that have another one, by their names; empty for that of
        O(docker_host).
    type: dict
    default: {}
  router:
    description:
      - The kind of router, as in M(immutable.delivery.service_deploy). Without one, containers are
        repaired, and no registration is looked at.
      - V(haproxy) and V(nginx) are those of the host that this module runs on; see O(haproxy) and
        O(nginx). V(etcd) and V(consul) are registries that the registrars of any number of them
        follow, see O(etcd) and O(consul).
    type: str
    choices: [registry, haproxy, nginx, etcd, consul]
  api_url:
    description:
      - The address of the router's API; for all but O(router=registry) that at which clients reach
        the services. Needed for each of them.
    type: str
  router_validate_certs:
    description:
      - Whether to check the router's TLS certificate.
    type: bool
    default: true
  router_ca_path:
    description:
      - A file of CA certificates to trust for the router instead of the system's.
    type: path
  router_timeout:
    description:
      - The seconds that one call to the router may take.
    type: float
    default: 30
  exclusive:
    description:
      - Whether no deploy can be under way, since a lock keeps them out
        (M(immutable.delivery.deploy_lock)).
    type: bool
    default: false
seealso:
  - module: immutable.delivery.service_deploy
  - module: immutable.delivery.deploy_lock
"""

EXAMPLES = r"""
- name: Repair what does not stand as it should
  immutable.delivery.service_heal:
    docker_host: tcp://prod.example.com:2376
    validate_certs: true
    ca_path: /etc/delivery/ca.pem
    client_cert: /etc/delivery/cert.pem
    client_key: /etc/delivery/key.pem
    router: registry
    api_url: http://prod.example.com:8000
    health_paths:
      demo: /health
      proxy: /services
"""

RETURN = r"""
services:
  description: Each service with what was found and done.
  returned: success, and when a service could not be repaired
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    changed:
      description: Whether something was repaired, or would be.
      type: bool
    failed:
      description: Whether it could not be repaired. Then C(msg), C(kind), C(state) and
        C(next_step) say why.
      type: bool
    found:
      description: What was not as it should be, a sentence each.
      type: list
      elements: str
    left_alone:
      description: Why nothing was done, where something kept this from doing it.
      type: str
    release:
      description: The release that should stand.
      type: str
    containers:
      description: Its instances, each with C(id), C(name), C(url), C(image) and C(state).
      type: list
      elements: dict
    urls:
      description: Where the router sends the traffic.
      type: list
      elements: str
    spare:
      description: Whether there is a container to make it again from.
      type: bool
    steps:
      description: Each step, with its name (C(step)) and how long it took (C(seconds)).
      type: list
      elements: dict
"""

from typing import Any

from ..module_utils.delivery_module import DeliveryModule
from ..module_utils.engine.client import DOCKER_IMPORT_ERROR
from ..module_utils.engine.options import REQUIRED_TOGETHER
from ..module_utils.errors import summarize
from ..module_utils.service.heal_options import OPTIONS, Repair
from ..module_utils.service.options import ROUTER_REQUIRED_IF
from ..module_utils.wiring import changing_module, end_with, fail, require_library, require_requests


def main() -> None:
    """Run the module."""
    module = changing_module(
        argument_spec=OPTIONS,
        required_if=ROUTER_REQUIRED_IF,
        required_together=REQUIRED_TOGETHER,
        supports_check_mode=True,
    )
    require_requests(module)
    require_library(module, "docker", DOCKER_IMPORT_ERROR)
    end_with(module, lambda: combine(module, Repair(module.params, module.check_mode).run()))


def combine(module: DeliveryModule, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the repairs came to, or end the module if one failed."""
    diffs = [one.pop("diff") for one in results if "diff" in one]
    values: dict[str, Any] = {
        "services": results,
        "changed": any(one["changed"] for one in results),
        "diff": {side: "".join(diff[side] for diff in diffs) for side in ("before", "after")},
    }
    for one in results:
        if one.get("left_alone"):
            module.warn(one["left_alone"])
    failures = [one for one in results if one["failed"]]
    if failures:
        fail(module, summarize(failures, len(results)), **values)
    return values


if __name__ == "__main__":
    main()
