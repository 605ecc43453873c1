# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of the module that deploys services: their router, and a candidate's share."""

from __future__ import annotations


class ModuleDocFragment:
    """The router, the proof through it, and the drain."""

    DOCUMENTATION = r"""
options:
  router:
    description:
      - The kind of router, as in M(immutable.delivery.proxy_register). Without one, the release
        that was started last is the live one.
      - V(registry) is the demo proxy with its HTTP API. V(haproxy) and V(nginx) are those of the
        host that this module runs on; see O(haproxy) and O(nginx).
      - V(etcd) and V(consul) are registries that the registrars of any number of them follow, see
        O(etcd) and O(consul).
    type: str
    choices: [registry, haproxy, nginx, etcd, consul]
  api_url:
    description:
      - The address of the router's API; for all but O(router=registry) that at which clients reach
        the service. Needed for each of them.
    type: str
  route:
    description:
      - The service's name at the router, where it is another one than O(name).
    type: str
  peers:
    description:
      - The hosts that serve O(route) beside this engine, such as those of the play. Their addresses
        stay on the route, and only those of this engine are replaced, or removed with
        O(state=absent). So C(serial) over a group with one route ends with all hosts serving.
      - An address on the route that is neither of this engine nor of a peer is refused before
        anything is changed, unless O(state) only takes something away.
      - Hosts are compared by name, then by the addresses that the names resolve to. This engine is
        O(address); it may be listed too.
    type: list
    elements: str
    default: []
  weight:
    description:
      - The share of the clients that the candidate gets, in percent, from 0 to 99. Needed for
        O(state=canary).
    type: int
  router_required:
    description:
      - With V(false) a service can be deployed before O(router=registry). While that cannot be
        reached, the service is deployed without it; run again once it is there, this registers it.
      - An earlier release is never replaced while the router cannot be reached.
    type: bool
    default: true
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
  host_header:
    description:
      - The host name to ask for in the proof, as clients do.
    type: str
  prove_path:
    description:
      - A path to ask for through the router after the switch. Without it there is no proof.
      - A candidate is proved by asking for it with the header.
    type: str
  prove_fields:
    description:
      - JSON fields that the answers to O(prove_path) must have with these values, compared as text.
        Those of O(state=rolled_back) need not have them.
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
  soak:
    description:
      - For how many seconds new instances are watched once they have the traffic, before anything
        of the former release is stopped; with O(published_port) that one is stopped already.
      - If one ends, is started again, becomes unhealthy or does not answer through the router any
        more, the former release gets the traffic back, and the task fails.
      - Only what was watched to the end counts as proved. V(0) turns this off.
    type: float
    default: 10
  drain_timeout:
    description:
      - How many seconds to wait for the requests on earlier instances to end, before those are
        asked to end.
    type: float
    default: 60
"""
