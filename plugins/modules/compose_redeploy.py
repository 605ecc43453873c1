#!/usr/bin/python
# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compose_redeploy
short_description: Replace the containers of a compose project, each beside the one it follows
version_added: 0.1.0
description:
  - Brings a compose project to what its files say. A container whose configuration or image has
    changed, that is not healthy, or that uses the volumes or a namespace of one that is replaced,
    is replaced. No other container is touched.
  - New containers are created beside the former ones before these are stopped, so a service is down
    from the stop of the one to the start of the other, and no longer. The former containers are
    removed once the new ones have been watched for O(soak) seconds. If anything fails, or the task
    is interrupted, the very same former containers serve again, the router sends its traffic to
    them, and their images have their names back.
  - After Ctrl-C C(ansible-playbook) ends at once and reports nothing of the undo, which goes on for
    some seconds.
  - Ports of the host and container names may move between services. Whoever has them is stopped
    before the one that needs them is started. If a service that stays, another project or another
    program has them, the module fails before it changes anything.
  - Containers that are not live have the restart policy V(no), so the engine does not start them
    after a reboot. They get the policy of the compose files right before they have traffic.
  - After a run that was killed, the next one brings the project to what is wanted, and watches what
    the killed one had not watched to its end.
  - What is wanted is read by C(docker compose config), what stands from the engine. A later
    C(docker compose up) finds nothing to do, and this module finds nothing to do after one.
  - Services with C(label_file) or C(use_api_socket) are replaced once by each of both, since
    C(docker compose config) tells another hash for them than C(docker compose up) gives.
  - A new container takes the name and number of the one that it replaces, as soon as that one has
    stopped. While both are there, one of them has an id at the end of its name.
  - Volumes that no container uses any more are kept, and named in RV(superseded_volumes); but for
    anonymous ones of O(static_services), whose content is their image's.
author:
  - immutable.delivery contributors (@immutable-delivery)
requirements:
  - python >= 3.11
  - requests
  - The program C(docker) with its compose plugin, 2.24 or newer, where the task runs.
extends_documentation_fragment:
  - immutable.delivery.engine
  - immutable.delivery.router_haproxy
  - immutable.delivery.router_nginx
  - immutable.delivery.router_etcd
  - immutable.delivery.router_consul
  - immutable.delivery.attributes
  - immutable.delivery.deploy_locks
attributes:
  check_mode:
    support: full
    details:
      - Builds and pulls nothing. Whether a build would change an image is known to the builder
        alone; what would be built is named in RV(would_build). Whether a pull would change an image
        is told by the digest that the registry has.
  diff_mode:
    support: full
    details:
      - Shows images, containers and the names of environment variables, never their values.
  idempotent:
    support: full
notes:
  - Keep deploys of one project apart with M(immutable.delivery.deploy_lock). Without it, a second
    run on the same host fails before it changes anything; runs on several hosts are not noticed.
  - A container takes over the anonymous volumes of the one that it replaces in turn, as with
    compose itself; those of O(static_services) are filled anew from their image, and one that runs
    beside the one that it follows begins with its own.
  - C(post_start) hooks are run in new containers. One that fails is a failure of the candidate.
    C(pre_stop) hooks are run in healthy containers before they are stopped. One that fails is a
    warning, and the container is stopped.
  - Inline C(configs) and C(secrets) are copied into new containers. If a value changes, the service
    is replaced, which compose itself does not do.
options:
  project_src:
    description:
      - The folder of the project, where this task runs.
    type: path
    required: true
  files:
    description:
      - The compose files, relative to O(project_src); those that compose finds itself where none
        are given.
    type: list
    elements: str
    default: []
  project_name:
    description:
      - The name of the project; that of the files or the folder where it is not given.
    type: str
  env_files:
    description:
      - Files with variables for the compose files, relative to O(project_src).
    type: list
    elements: str
    default: []
  profiles:
    description:
      - The profiles to enable.
    type: list
    elements: str
    default: []
  environment:
    description:
      - Variables for the compose files that are secret. They are given to the program by its
        environment, and are hidden in all output. A short word or number is hidden only beside its
        name, unless the name ends as a secret's does, such as C(DB_PASSWORD).
    type: dict
    default: {}
  variables:
    description:
      - Variables for the compose files that are no secrets, such as the tag of an image.
    type: dict
    default: {}
  services:
    description:
      - The services to redeploy, with all they depend on; all where none are given.
    type: list
    elements: str
    default: []
  static_services:
    description:
      - Services that hold nothing but the data of their image. They are built and replaced before
        those that mount their volumes, and end at once with 0.
    type: list
    elements: str
    default: []
  run_once_services:
    description:
      - Further services that are done once they have ended with 0. Those that others await with
        C(service_completed_successfully) need not be named.
    type: list
    elements: str
    default: []
  strategy:
    description:
      - V(recreate) stops a former container, starts the new one at once, and removes the former one
        when all are healthy. It is down meanwhile, for RV(downtime_seconds).
      - V(rolling) goes in lock-step. One new container is up, healthy and has its share of the
        traffic before one former container loses its own, ends its requests and is stopped. The
        last one is stopped after O(soak).
      - V(blue_green) brings up a second project beside the first, named C(-blue) or C(-green),
        switches the router, and after O(soak) stops the first one and keeps it. Which one is live
        is asked of the router. To start the kept one by hand, give its containers their restart
        policy back with C(docker update --restart).
      - A service that keeps data and runs as one container is stopped before the next one starts,
        under every strategy, unless O(shared) or the compose file says that several containers may
        write to its data at a time. It keeps data if it mounts a named volume, a volume that its
        image declares, or a folder or an SQLite database of the host that it may write to. With
        O(strategy=blue_green) it belongs to the project itself, and both colours find it by its
        name; it does not find them, since a name would mean two containers. Jobs are done there
        once a deploy.
      - A service that C(rolling) or C(blue_green) doubles may have no C(container_name) and no
        fixed host port.
    type: str
    choices: [recreate, rolling, blue_green]
    default: recreate
  recreate:
    description:
      - V(auto) replaces a container if its image, its configuration, or a file that it has from the
        host changed. That is a file that the compose files mount by itself, or give as a C(config)
        or C(secret). V(always) replaces all containers of the run.
      - A file that was replaced, as M(ansible.builtin.template) and M(ansible.builtin.copy) do,
        changed if its content did. One that was written in place changed if it is mounted
        read-only; a writable one may have been written by the container itself.
      - For this the task runs as root on the engine's host. Otherwise a file that is mounted
        read-only changed if it has a newer time (ctime) than the container's start.
      - A container that is started again has the files as they are then. If a new file is bad, an
        undo with O(strategy=recreate) cannot bring the former one back. With O(strategy=rolling)
        the former container runs until its successor is healthy.
      - Folders are not compared, since they may hold data. To have a changed file noticed, mount
        the file itself. Nothing is known of files on engines that are reached by TCP.
    type: str
    choices: [auto, always]
    default: auto
  state:
    description:
      - V(present) brings the project to what its files say.
      - V(rolled_back) brings back the release that was proved before the newest one, with its
        images by their digests and with the configuration that compose read then, whatever the
        files say now. Files that containers mount are not brought back. A second run changes
        nothing. The next run with V(present) deploys what the files say.
      - V(absent) takes the project and its colours down. If O(router) is given, the router forgets
        the services first. Images stay, and volumes unless O(remove_volumes) is set. O(services)
        is refused, since all of them go.
    type: str
    choices: [present, rolled_back, absent]
    default: present
  remove_volumes:
    description:
      - Whether O(state=absent) removes the project's volumes, with all the data in them, and its
        releases in O(releases_dir). Volumes that are C(external) stay.
    type: bool
    default: false
  remove_orphans:
    description:
      - Whether containers whose service is no longer in the compose files are stopped and removed.
        One that has a port, a name or a volume that a new container needs is stopped before that
        starts; any other one is stopped last. Without it they are left, and named in a warning
        and in RV(orphans).
    type: bool
    default: false
  strategies:
    description:
      - The strategies of services that shall not be replaced by O(strategy), by service. In the
        compose file the same is said below the service by C(x-delivery), which has C(strategy) in
        it. For that the Python of the host needs PyYAML. This option has precedence.
    type: dict
    default: {}
  shared:
    description:
      - Services, and volumes by their names in the compose file, that several containers may write
        to at a time. In the compose file the same is said below the service or the volume by
        C(x-delivery), which has C(shared) in it.
    type: list
    elements: str
    default: []
  build:
    description:
      - V(always) builds at every run, with the builder's cache. What an image is built from is
        known to the builder alone; a service is replaced only if that gave another image. Check
        mode builds nothing, and names what it would build in RV(would_build).
      - V(missing) builds if there is no image, V(never) not even then.
      - An image that one service builds and another only names is built, not pulled. If the files
        give a service both C(build) and a C(pull_policy) other than C(build) or C(never), its image
        is pulled by that policy, and built only if it cannot be pulled.
    type: str
    choices: [always, missing, never]
    default: always
  pull:
    description:
      - When to pull the images that are not built. A service is replaced only if that gave another
        image.
      - If this is not given, each service's C(pull_policy) in the files decides, and a service
        without one is pulled if its image is missing.
      - If this is given, it overrides the files, but images with C(pull_policy) C(never) or
        C(build) are at no registry and are not pulled.
    type: str
    choices: [always, missing, never]
  build_timeout:
    description:
      - The seconds that all builds together may take. A build that takes longer is ended.
    type: float
    default: 3600
  pull_timeout:
    description:
      - The seconds that all pulls together may take. A pull that takes longer is ended.
    type: float
    default: 1800
  wait_timeout:
    description:
      - The seconds that containers may take to become healthy, for each step.
    type: float
    default: 300
  soak:
    description:
      - The seconds that new containers are watched once they have the traffic, before the former
        ones are stopped or removed. A container that exits, is restarted, becomes unhealthy, or no
        longer answers through O(router), is a failure. Then the former containers serve again.
      - With O(strategy=recreate) the former containers are stopped meanwhile, but not yet removed.
      - Services that end once they have done their work are not watched. V(0) watches none.
    type: float
    default: 10
  keep_releases:
    description:
      - How many former releases O(state=rolled_back) can choose from, which is the newest of them.
        With O(strategy=blue_green) V(0) also removes the former colour, and any other number keeps
        it, stopped. V(0) removes the releases that were kept before.
    type: int
    default: 1
  releases_dir:
    description:
      - The folder for the releases that were proved, one file a project, where this task runs. The
        files have what compose read, with its secrets, and the mode C(0600).
    type: str
    default: ~/.immutable-delivery/releases
  router:
    description:
      - The router that sends traffic to the services. Needed for O(strategy=blue_green); without
        it O(strategy=rolling) relies on health checks alone, and whoever asks must find the
        containers by other means.
    type: dict
    suboptions:
      name:
        description:
          - The kind of router; V(registry) is the demo proxy with its HTTP API.
          - V(haproxy) and V(nginx) are those of the host that this task runs on; V(etcd) and
            V(consul) are registries that they follow. Their connection
            settings are in O(haproxy), O(nginx), O(etcd) and O(consul), beside O(router) and not in
            it.
        type: str
        choices: [registry, haproxy, nginx, etcd, consul]
        default: registry
      api_url:
        description:
          - The address of the router's API; for all but V(registry) that at which clients reach the
            services.
        type: str
        required: true
      services:
        description:
          - The services that get traffic by it.
        type: list
        elements: dict
        required: true
        suboptions:
          service:
            description:
              - The service in the compose files.
            type: str
            required: true
          port:
            description:
              - The port of its containers.
            type: int
            required: true
          name:
            description:
              - Its name at the router; the same where it is not given.
            type: str
          scheme:
            description:
              - How its containers are spoken to.
            type: str
            choices: [http, https]
            default: http
      address:
        description:
          - Where the router reaches the ports that the engine publishes; the engine's own address
            where it is not given.
        type: str
      network:
        description:
          - A network in which the router reaches containers at their own addresses. Published ports
            are not needed then.
        type: str
      peers:
        description:
          - Other hosts that serve the same routes. Their addresses stay on the routes. The module
            fails before it changes anything if a route leads to a host that is neither
            O(router.address) nor one of these. Not checked with O(router.network).
        type: list
        elements: str
        default: []
      health_path:
        description:
          - A path that each new container must answer before it gets traffic; none is asked for
            where it is not given.
        type: str
      health_timeout:
        description:
          - The seconds that a container may take for that.
        type: float
        default: 30
      prove_path:
        description:
          - A path to ask for through the router after each switch.
        type: str
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
          - The seconds to wait until a container that lost its traffic has answered what it was
            asked.
        type: float
        default: 60
      drain_required:
        description:
          - Whether it is a failure, and not only a warning, when requests are left then, or the
            router cannot tell.
        type: bool
        default: false
      host_header:
        description:
          - The host name to ask for, in health checks and proofs.
        type: str
      validate_certs:
        description:
          - Whether to check the certificates of the router and of containers.
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
  - module: immutable.delivery.proxy_register
  - module: community.docker.docker_compose_v2
"""

EXAMPLES = r"""
- name: Update the portal's static configuration
  immutable.delivery.compose_redeploy:
    project_src: /opt/portal
    static_services: [portal-api-data-static]
    environment:
      PORTAL_CONFIG_KEY: "{{ portal_config_key }}"

- name: Say what the newest images would change
  immutable.delivery.compose_redeploy:
    project_src: /opt/portal
    pull: always
  check_mode: true
  diff: true

- name: Roll a service without losing a request
  immutable.delivery.compose_redeploy:
    project_src: /opt/demo
    strategy: rolling
    docker_host: tcp://prod.example.com:2376
    validate_certs: true
    ca_path: /etc/delivery/ca.pem
    client_cert: /etc/delivery/client.pem
    client_key: /etc/delivery/client.key
    variables:
      TAG: 1f3a9c2
    router:
      api_url: http://prod.example.com:8000
      prove_path: /health
      services:
        - service: recommendations
          port: 8080

- name: Roll a service behind HAProxy, on HAProxy's host
  immutable.delivery.compose_redeploy:
    project_src: /srv/shop
    strategy: rolling
    router:
      name: haproxy
      api_url: http://127.0.0.1            # where clients reach the service
      host_header: shop.example.com
      prove_path: /health
      services:
        - service: web
          port: 8080
    haproxy:                               # beside router, not in it
      socket: /run/haproxy/delivery.sock
      map: /var/lib/haproxy-delivery/services.map

# In the compose file, what the task cannot know of data:
#
#   services:
#     web:
#       x-delivery: {shared: true}         # several may write to its uploads at a time
#     search:
#       x-delivery: {strategy: recreate}   # never two of them, though it keeps no data

- name: Bring the release before back
  immutable.delivery.compose_redeploy:
    project_src: /srv/shop
    state: rolled_back

- name: Take the project down, and keep its volumes
  immutable.delivery.compose_redeploy:
    project_src: /srv/shop
    state: absent
"""

RETURN = r"""
project:
  description: The project whose containers are live; null where there is none.
  returned: success
  type: str
containers:
  description: Its containers as they stand.
  returned: success
  type: list
  elements: dict
  sample:
    - id: 5d0d7c4f0a5b
      name: demo-web-1
      service: web
      project: demo
      image: web:2
      image_id: sha256:09667314129b
      status: running
      health: healthy
      ports:
        8080/tcp: [49153]
previous:
  description:
    - The containers that were live before and are so no longer, as they were. They are removed, but
      with O(strategy=blue_green) stopped.
  returned: success
  type: list
  elements: dict
volumes:
  description: With O(state=absent), the names of the project's volumes that are still there.
  returned: O(state=absent)
  type: list
  elements: str
orphans:
  description:
    - The names of containers whose service is no longer in the compose files, as they were found.
      They are removed if O(remove_orphans) is set.
  returned: success
  type: list
  elements: str
release:
  description: A digest of the ids of all containers that are live.
  returned: success
  type: str
downtime_seconds:
  description:
    - The longest time that a service had no container ready, by the engine's events. It runs from
      the moment the last one was told to stop until another was started, or healthy where it has a
      health check. Null where that could not be measured.
  returned: success
  type: float
downtimes:
  description: The same for each service.
  returned: success
  type: dict
would_build:
  description:
    - The images that check mode would build. Whether they change anything is known only by building
      them. Therefore C(changed) is true only if one is missing, or something else will change.
    - Empty outside of check mode.
  returned: success
  type: list
  elements: str
superseded_volumes:
  description:
    - The volumes of replaced containers that no container uses any more, as after a volume was
      renamed in the compose files. They are kept; C(docker volume rm) removes them.
  returned: success
  type: list
  elements: dict
  sample:
    - name: 7d2f4b0c9a1e7d2f4b0c9a1e7d2f4b0c9a1e7d2f4b0c9a1e7d2f4b0c9a1e7d2f
      service: db
      place: /var/lib/data
steps:
  description: Each step, with its name (C(step)) and how long it took (C(seconds)).
  returned: success
  type: list
  elements: dict
"""


from ..module_utils.compose.options import ROUTER_OPTIONS, ROUTER_SPECS
from ..module_utils.compose.run import redeploy
from ..module_utils.engine.client import DOCKER_IMPORT_ERROR
from ..module_utils.engine.options import ENGINE_OPTIONS, REQUIRED_TOGETHER
from ..module_utils.wiring import changing_module, end_with, require_library, require_requests


def main() -> None:
    """Run the module."""
    module = changing_module(
        argument_spec={
            **ENGINE_OPTIONS,
            "project_src": {"type": "path", "required": True},
            "files": {"type": "list", "elements": "str", "default": []},
            "project_name": {"type": "str"},
            "env_files": {"type": "list", "elements": "str", "default": []},
            "profiles": {"type": "list", "elements": "str", "default": []},
            "environment": {"type": "dict", "default": {}, "no_log": True},
            "variables": {"type": "dict", "default": {}},
            "services": {"type": "list", "elements": "str", "default": []},
            "static_services": {"type": "list", "elements": "str", "default": []},
            "run_once_services": {"type": "list", "elements": "str", "default": []},
            "strategy": {
                "type": "str",
                "choices": ["recreate", "rolling", "blue_green"],
                "default": "recreate",
            },
            "recreate": {"type": "str", "choices": ["auto", "always"], "default": "auto"},
            "state": {
                "type": "str",
                "choices": ["present", "rolled_back", "absent"],
                "default": "present",
            },
            "remove_volumes": {"type": "bool", "default": False},
            "strategies": {"type": "dict", "default": {}},
            "remove_orphans": {"type": "bool", "default": False},
            "shared": {"type": "list", "elements": "str", "default": []},
            "build": {
                "type": "str",
                "choices": ["always", "missing", "never"],
                "default": "always",
            },
            "pull": {"type": "str", "choices": ["always", "missing", "never"]},
            "build_timeout": {"type": "float", "default": 3600.0},
            "pull_timeout": {"type": "float", "default": 1800.0},
            "wait_timeout": {"type": "float", "default": 300.0},
            "soak": {"type": "float", "default": 10.0},
            "keep_releases": {"type": "int", "default": 1},
            "releases_dir": {"type": "str", "default": "~/.immutable-delivery/releases"},
            "router": {"type": "dict", "options": ROUTER_OPTIONS},
            **ROUTER_SPECS,
        },
        required_together=REQUIRED_TOGETHER,
        required_if=[("strategy", "blue_green", ["router"])],
        supports_check_mode=True,
    )
    require_requests(module)
    require_library(module, "docker", DOCKER_IMPORT_ERROR)
    end_with(module, lambda: redeploy(module.params, module.check_mode, module.warn))


if __name__ == "__main__":
    main()
