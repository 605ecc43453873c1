#!/usr/bin/python
# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_deploy
short_description: Deploy a service to a Docker engine beside the live one, tested, switched, kept
description:
  - Pulls an image by its digest, runs it beside the live version, waits until it is healthy, runs
    the tests' container against it, sends it the traffic, proves it through the router, watches it
    for O(soak) seconds, waits until the earlier version has no request left, and stops that one, to
    be kept.
  - If anything fails until the end of the soak, all of it is rolled back. The live version serves,
    the new containers are removed, and the error has their last log lines.
  - A failed deploy has gone back already. Do not run O(state=rolled_back) in a C(rescue) after a
    failed V(present), V(staged) or V(promoted). It goes back from what is live then, to a release
    before that.
  - Who is live is asked of the router, and who belongs to the service is read from labels. No file
    is kept, so a run that was killed is completed or cleared away by the next one. A container's
    name ends with C(.candidate) until it was watched to the end of the soak.
  - Only what is live has its O(restart_policy), so that nothing else runs after a reboot.
  - A release is an image's digest and a configuration. Where the wanted release is healthy,
    nothing is changed; where it was kept, it is started again; where only O(instances) differs, no
    instance is replaced.
author:
  - immutable.delivery contributors (@immutable-delivery)
requirements:
  - python >= 3.11
  - requests
notes:
  - In check mode the registry is asked which digest a tag means, and the instances for their
    health. Nothing is pulled, made or switched.
  - Before the first deploy to an engine a container's name is not known yet. In check mode, the
    part of it that is missing is shown as C(????????).
  - The engine gives a container another port when it starts it again, as it does after a crash,
    where it picks ports. Running this again lets the router know.
  - Values of O(environment) and O(test_environment) are hidden in results and logs. A short word or
    number is hidden only beside its name, unless the name ends as a secret's does, such as
    C(DB_PASSWORD).
  - Two deploys of one service are kept apart by M(immutable.delivery.deploy_lock). Without it, a
    router that can refuses the second, which is then taken back.
extends_documentation_fragment:
  - immutable.delivery.attributes
  - immutable.delivery.engine
  - immutable.delivery.service_router
  - immutable.delivery.service_tests
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
  name:
    description:
      - The name of the service. Its containers are called after it. Either this or O(services) is
        needed.
    type: str
  services:
    description:
      - Several services. Each entry has a C(name), and any other options of this module that differ
        from those of the task; what is null or empty in it counts as not given at all.
      - One that fails is taken back and does not keep the others from their end. The task fails
        then, with all results in RV(services).
    type: list
    elements: dict
  parallel:
    description:
      - How many of O(services) are deployed at a time.
    type: int
    default: 4
  state:
    description:
      - V(present) sends all traffic to the release. A candidate of another release is ended, unless
        the release is live already.
      - V(absent) takes the service out of the router, and removes all its containers, the kept ones
        as well.
      - V(staged) brings the release up beside the live one, tested, as the candidate. Requests get
        there that ask for it by the header C(x-client-mode) with C(green). Where nobody is live
        yet, it is live at once.
      - V(canary) gives the candidate O(weight) percent of the clients. The weight can be lowered
        even if the candidate is unhealthy. V(promoted) gives it everything.
      - V(rolled_back) takes the candidate away. If there is none, the release that was proved last
        before the live one is started again and gets the traffic, also if the live one crashes.
        What is taken away is stopped, and kept until the next deploy. It is for a release that
        turns out to be bad after its deploy has succeeded.
      - The last four need a router that can have a candidate, V(haproxy), V(nginx), V(etcd) or
        V(consul). The last three need neither O(image) nor a registry. Where O(digest) or an image
        by digest is given, V(canary) and V(promoted) refuse a candidate of another one.
    type: str
    choices: [present, absent, staged, canary, promoted, rolled_back]
    default: present
  image:
    description:
      - The image, such as V(registry.example.com:5000/demo:1.4), with or without V(@sha256:...).
      - A tag is looked up at the registry, and what it means then is deployed.
      - Needed for O(state=present) and O(state=staged).
    type: str
  digest:
    description:
      - The digest to deploy, such as C(sha256:...), where O(image) is named without one.
    type: str
  pull:
    description:
      - V(missing) pulls what the engine lacks, by digest.
      - V(never) takes the images that the engine has, and asks no registry.
    type: str
    choices: [missing, never]
    default: missing
  pull_timeout:
    description:
      - For how many seconds images are pulled at most. The pull ends then, and nothing is changed.
    type: float
    default: 600
  registry_username:
    description:
      - The user of the registry. Where it is not given, the logins in the docker configuration of
        the machine that this runs on are used.
    type: str
  registry_password:
    description:
      - The password of O(registry_username).
    type: str
  instances:
    description:
      - How many containers of the service run.
    type: int
    default: 1
  container_port:
    description:
      - The port in the container on which the service listens. Needed for O(state=present) and
        O(state=staged).
    type: int
  published_port:
    description:
      - A fixed port of the engine's host. Where it is not given the engine picks one.
      - Two versions cannot listen on one port. The new one is made, the live one stopped, and the
        new one started, which is a gap; it is measured and returned as RV(downtime_seconds).
    type: int
  bind_address:
    description:
      - The address of the engine's host at which ports are published.
    type: str
    default: 0.0.0.0
  address:
    description:
      - The name or address under which published ports are reached, from here and from the router.
      - That of O(docker_host) where it is not given, and V(127.0.0.1) for a local engine.
    type: str
  environment:
    description:
      - Environment variables of the containers.
    type: dict
    default: {}
  volumes:
    description:
      - Volumes and folders to mount, as V(NAME_OR_PATH:PATH[:ro]).
    type: list
    elements: str
    default: []
  command:
    description:
      - Arguments that replace the image's own command.
    type: list
    elements: str
    default: []
  labels:
    description:
      - Further labels.
    type: dict
    default: {}
  networks:
    description:
      - The engine's networks to connect to; they must exist.
    type: list
    elements: str
    default: []
  extra_hosts:
    description:
      - Host names and their addresses, for the containers and for the tests.
    type: dict
    default: {}
  user:
    description:
      - The user in the container.
    type: str
  memory:
    description:
      - The most memory for one container, such as V(256m).
    type: str
  cpus:
    description:
      - The most processors for one container, such as V(0.5).
    type: float
  restart_policy:
    description:
      - Whether the engine starts a container again that has ended by itself, while it is live.
    type: str
    choices: ["no", unless-stopped]
    default: unless-stopped
  stop_timeout:
    description:
      - The seconds that a container gets to end gracefully.
    type: int
    default: 30
  health_path:
    description:
      - A path that each instance must answer with a status of 200 to 299.
      - Without it the engine's own health check decides; where an image has none either, an
        instance is taken for healthy once it has run for a second.
    type: str
  health_timeout:
    description:
      - The seconds that the instances may take to become healthy.
    type: float
    default: 60
  rehearse:
    description:
      - Whether a new release for O(published_port) is run, and tested, on a port of the engine's
        choice first. Give V(false) where two containers must not use the same O(volumes) at once.
    type: bool
    default: true
  keep_releases:
    description:
      - How many earlier releases to keep, stopped, of those that were proved.
    type: int
    default: 1
seealso:
  - module: immutable.delivery.proxy_register
  - module: immutable.delivery.deploy_lock
"""

EXAMPLES = r"""
- name: Deploy the recommendation service, tested
  immutable.delivery.service_deploy:
    docker_host: tcp://prod.example.com:2376
    validate_certs: true
    ca_path: /etc/delivery/ca.pem
    client_cert: /etc/delivery/cert.pem
    client_key: /etc/delivery/key.pem
    name: demo
    image: "cd.example.com:5000/demo@{{ image_digest }}"
    container_port: 8080
    instances: 2
    health_path: /health
    test_image: cd.example.com:5000/demo-tests:1.4
    router: registry
    api_url: http://prod.example.com:8000
    prove_path: /1

- name: Deploy the proxy itself, at its fixed port
  immutable.delivery.service_deploy:
    docker_host: tcp://prod.example.com:2376
    validate_certs: true
    ca_path: /etc/delivery/ca.pem
    client_cert: /etc/delivery/cert.pem
    client_key: /etc/delivery/key.pem
    name: proxy
    image: cd.example.com:5000/proxy:2.0
    container_port: 8000
    published_port: 8000
    volumes:
      - proxy-data:/data
    health_path: /services

- name: Let those try the new release who ask for it
  immutable.delivery.service_deploy:
    name: demo
    image: cd.example.com:5000/demo:1.5
    container_port: 8080
    router: haproxy
    api_url: http://127.0.0.1
    host_header: demo.example.com
    prove_path: /health
    state: staged

- name: Give it a tenth of the clients
  immutable.delivery.service_deploy:
    name: demo
    router: haproxy
    api_url: http://127.0.0.1
    state: canary
    weight: 10
"""

RETURN = r"""
services:
  description: For O(services), the results in the same order. Each has the values below, C(name),
    C(changed) and C(failed), and where it failed C(msg), C(kind), C(state) and C(next_step).
  returned: when O(services) was given
  type: list
  elements: dict
containers:
  description: The instances that have the traffic, each with C(id), C(name), C(url), C(release),
    C(digest), C(image), C(running) and C(status).
  returned: success
  type: list
  elements: dict
candidate:
  description: The instances of the candidate, in the same form.
  returned: success
  type: list
  elements: dict
weight:
  description: The candidate's share of the clients in percent; null where there is no candidate.
  returned: success
  type: int
previous:
  description: The other containers of the service, such as kept releases, in the same form.
  returned: success
  type: list
  elements: dict
release:
  description: What was deployed, promoted or gone back to; null for O(state=absent).
  returned: success
  type: dict
  contains:
    id:
      description: Its name, made of the two hashes. In check mode, C(????????) stands for the
        second if it is not known yet.
      type: str
    digest:
      description: The image's digest.
      type: str
    config:
      description:
        - A keyed hash of the containers' configuration. The key is a label of the containers, so
          that a short secret cannot be guessed from what is shown. The hash, and with it C(id),
          stays the same as long as the engine has a container of the service; another engine has
          another one. It is empty in check mode, if no container of the service is there yet.
      type: str
    image:
      description: The image by its digest.
      type: str
urls:
  description: Where the instances that have the traffic are reached.
  returned: success
  type: list
  elements: str
previous_urls:
  description: Where those were reached that had it before.
  returned: success
  type: list
  elements: str
downtime_seconds:
  description: How long nobody listened on a fixed port, until the new instance was healthy; 0 where
    there was no gap.
  returned: success
  type: float
tests:
  description: What the tests said; null where none were run.
  returned: success
  type: dict
  contains:
    seconds:
      description: How long they took.
      type: float
    exit_code:
      description: Their exit code.
      type: int
    lines:
      description: Their last lines.
      type: list
      elements: str
drained:
  description: Whether no request was left on earlier instances before they were stopped; null where
    the router cannot tell, and where there was nothing to wait for.
  returned: success
  type: bool
in_flight:
  description: How many requests were left; null where that is not known.
  returned: success
  type: int
steps:
  description: Each step, with its name (C(step)) and how long it took (C(seconds)).
  returned: success
  type: list
  elements: dict
"""

from collections.abc import Mapping
from typing import Any

from ..module_utils.change import after
from ..module_utils.delivery_module import DeliveryModule
from ..module_utils.engine.client import DOCKER_IMPORT_ERROR
from ..module_utils.errors import summarize
from ..module_utils.service.finish import Delivered, deliver
from ..module_utils.service.options import OPTIONS, SEVERAL, deploy_of, each_of
from ..module_utils.service.several import all_of
from ..module_utils.wiring import changing_module, end_with, fail, require_library, require_requests


def main() -> None:
    """Run the module."""
    module = changing_module(
        argument_spec=SEVERAL,
        entries={"services": OPTIONS},
        required_one_of=[("name", "services")],
        mutually_exclusive=[("name", "services")],
        supports_check_mode=True,
    )
    require_requests(module)
    require_library(module, "docker", DOCKER_IMPORT_ERROR)

    def deploy(params: Mapping[str, Any]) -> dict[str, Any]:
        timeout = params["drain_timeout"]
        done = deliver(deploy_of(params), check_mode=module.check_mode, drain_timeout=timeout)
        with after(done.outcome):
            return {**done.result(), "warnings": warnings(done)}

    def work() -> dict[str, Any]:
        results = all_of(deploy, each_of(module.params), module.params["parallel"])
        return combine(module, results)

    end_with(module, work)


def combine(module: DeliveryModule, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the deploys came to, or end the module if one failed."""
    for one in results:
        for text in one.pop("warnings", []):
            module.warn(f"{one['name']}: {text}")
    failures = [one for one in results if one["failed"]]
    if module.params["services"] is None:
        own = {"name", "failed"}
        values = {name: value for name, value in results[0].items() if name not in own}
    else:
        values = {"services": results, "changed": any(one["changed"] for one in results)}
        diffs = [one["diff"] for one in results if "diff" in one]
        values["diff"] = {
            side: "".join(diff[side] for diff in diffs) for side in ("before", "after")
        }
    if failures:
        fail(module, summarize(failures, len(results)), **values)
    return values


def warnings(done: Delivered) -> list[str]:
    """Return what the reader should know of a deploy that succeeded."""
    found = []
    routing = done.deploy.observer.routing
    if routing is not None and routing.away:
        found.append(
            f"the service is not registered: {routing.away}; run this again once it is there"
        )
    drained = done.drained
    if drained is not None and not drained.drained:
        left = "an unknown number of" if drained.in_flight is None else str(drained.in_flight)
        found.append(f"{left} requests were left on earlier instances when those were asked to end")
    return found


if __name__ == "__main__":
    main()
