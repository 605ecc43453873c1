#!/usr/bin/python
# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: alb_switch
short_description: Stage, try, promote or roll back a target group behind an AWS load balancer
version_added: 0.1.0
description:
  - Moves the traffic of one listener of an Application Load Balancer from one target group to
    another, without a moment in which a client is sent to nobody.
  - It owns two rules, which it makes and marks with the tag C(immutable.delivery:role), and the
    listener's default action. One rule sends clients with the header O(header_name) set to
    O(live_value) to the live version; the other one, for O(candidate_value), sends them to the
    candidate or, where there is none, answers 404. The rules of others are neither changed nor
    moved nor deleted.
  - Who is live, candidate and previous is read from the listener, so a run that comes after one
    that was killed finishes what that one began.
  - No group gets traffic before its targets are healthy. A group that no listener uses is never
    checked by AWS, so it is attached with weight 0 while it is waited for.
  - After a promotion the former group stays in the rule for O(live_value) at weight 0. It gets no
    traffic, but AWS goes on checking it, so O(state=rolled_back) can send the traffic back at once.
  - When a step fails, the proof fails or the task is interrupted, what stood before is restored in
    reverse, and the error says so.
author:
  - immutable.delivery contributors (@immutable-delivery)
requirements:
  - requests, for O(verify_url)
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
  - immutable.delivery.attributes
  - immutable.delivery.deploy_locks
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  action_group:
    description:
      - Options that several tasks share can be given once, in C(module_defaults), under
        C(group/immutable.delivery.aws), which holds the modules of C(group/amazon.aws.aws) too.
    support: full
    membership:
      - immutable.delivery.aws
options:
  listener_arn:
    description:
      - The listener. Either this or O(load_balancer) with O(port) is needed; this one saves two
        calls.
    type: str
  load_balancer:
    description:
      - The name or the ARN of the load balancer.
    type: str
  port:
    description:
      - The port of the listener of O(load_balancer).
    type: int
  target_group:
    description:
      - The name or the ARN of a target group.
      - For V(staged) and V(canary) it is the candidate, by default the one that is staged. Where it
        is live already, nothing is changed.
      - For V(promoted) it is the group to promote, by default the candidate; where there is none,
        what is live stays live.
      - For V(rolled_back) it is the group to go back to. By default a candidate is withdrawn, and
        where there is none the previous group gets the traffic.
    type: str
  state:
    description:
      - V(staged) sends clients that ask for the candidate there, and all others to the live group.
      - V(canary) does the same, and gives the candidate O(weight) per cent of all others.
      - V(promoted) sends everybody to the candidate, which is live from then on; those who ask for
        a candidate get a 404.
      - V(rolled_back) sends everybody to the live group, if a candidate was staged, and to the
        previous one after a promotion; those who ask for a candidate get a 404.
      - V(retired) takes the previous group out of the listener, so that it can be deleted. There
        is no way back to it then, other than by its name.
    type: str
    choices: [staged, canary, promoted, rolled_back, retired]
    required: true
  weight:
    description:
      - The candidate's share of a canary in per cent, from 1 to 99.
    type: int
    default: 10
  stickiness:
    description:
      - The seconds, up to 604800, for which a client of a canary stays with the version that it
        came to; V(0) lets each request be decided anew.
    type: int
    default: 0
  header_name:
    description:
      - The request header by which a client chooses.
    type: str
    default: x-client-mode
  live_value:
    description:
      - The value of O(header_name) that asks for the live version. Case does not matter.
    type: str
    default: blue
  candidate_value:
    description:
      - The value of O(header_name) that asks for the candidate.
    type: str
    default: green
  first_priority:
    description:
      - The rules get the first free priorities from here on. They must come before the rules of
        others that would take the same requests.
    type: int
    default: 1
  wait_healthy:
    description:
      - Whether to wait until the group has enough healthy targets, instead of failing at once.
    type: bool
    default: true
  min_healthy:
    description:
      - How many healthy targets a group must have before it gets traffic. By default all that are
        registered, and at least one. V(0) asks for none.
    type: int
  timeout:
    description:
      - The seconds that the group may take to become healthy.
    type: float
    default: 300
  verify_url:
    description:
      - An address to ask through the listener after the switch. Where the answers are not good, the
        switch is undone.
      - For V(staged) and V(canary) it is asked as a client who wants the candidate.
      - Where nothing had to be switched it is asked as well, and a failure then changes nothing.
    type: str
  verify_host:
    description:
      - The host name to ask for, where O(verify_url) has another one.
    type: str
  verify_headers:
    description:
      - Headers that the answers must have with these values.
    type: dict
    default: {}
  verify_fields:
    description:
      - JSON fields that the answers must have with these values, compared as text. A dot descends
        into an object.
    type: dict
    default: {}
  verify_count:
    description:
      - How many good answers in a row are a proof. A load balancer takes a change over node by
        node.
    type: int
    default: 3
  verify_timeout:
    description:
      - The seconds that the proof may take.
    type: float
    default: 60
  verify_certs:
    description:
      - Whether to check the TLS certificate of O(verify_url).
    type: bool
    default: true
  verify_ca_path:
    description:
      - A file of CA certificates to trust for O(verify_url) instead of the system's.
    type: path
notes:
  - A promotion of what is staged takes 6 calls of the API, whatever the number of rules, where
    O(listener_arn) is given, the group is healthy and nothing has to be repeated. A proof takes one
    more, because the listener is read once more after it.
  - The API cannot refuse the second of two callers. A run that reads the listener back notices, and
    a promotion without O(verify_url) does not read it back. Keep deploys of one listener apart with
    M(immutable.delivery.deploy_lock).
  - It needs the permissions elasticloadbalancing:DescribeRules, DescribeTags, DescribeTargetHealth,
    CreateRule, AddTags, ModifyRule, ModifyListener and DeleteRule; DescribeLoadBalancers and
    DescribeListeners for O(load_balancer), DescribeTargetGroups for a O(target_group) by name.
seealso:
  - module: immutable.delivery.deploy_lock
  - module: amazon.aws.elb_application_lb
"""

EXAMPLES = r"""
- name: Let beta testers in, with the header x-client-mode set to green
  immutable.delivery.alb_switch:
    listener_arn: "{{ listener_arn }}"
    target_group: kie-v24
    state: staged

- name: Give the candidate a tenth of the traffic
  immutable.delivery.alb_switch:
    listener_arn: "{{ listener_arn }}"
    state: canary
    weight: 10
    stickiness: 3600

- name: Promote it, and prove that it is what answers
  immutable.delivery.alb_switch:
    listener_arn: "{{ listener_arn }}"
    state: promoted
    verify_url: https://api.example.org/health
    verify_fields:
      version: v24

- name: Go back
  immutable.delivery.alb_switch:
    load_balancer: alb-ks
    port: 443
    state: rolled_back
"""

RETURN = r"""
listener_arn:
  description: The listener.
  returned: success
  type: str
live:
  description: The ARN of the target group that has the traffic; null where there is none.
  returned: success
  type: str
candidate:
  description: The ARN of the target group that is staged; null where there is none.
  returned: success
  type: str
previous:
  description: The ARN of the target group that O(state=rolled_back) would go back to, or null.
  returned: success
  type: str
before:
  description:
    - The same three as they were before. With O(state=retired) in check mode they say what stands
      without asking for anything else.
  returned: success
  type: dict
  contains:
    live:
      description: The ARN of the target group that had the traffic, or null.
      returned: success
      type: str
    candidate:
      description: The ARN of the target group that was staged, or null.
      returned: success
      type: str
    previous:
      description: The ARN of the target group that came before the live one, or null.
      returned: success
      type: str
rules:
  description: The rules of our making, and the default action.
  returned: success
  type: list
  elements: dict
  contains:
    role:
      description: C(live), C(candidate) or C(default).
      returned: success
      type: str
    arn:
      description: The rule's ARN; null for one that check mode would make.
      returned: success
      type: str
    priority:
      description: The rule's priority; null for the default action.
      returned: success
      type: int
    target_groups:
      description: The weight of each target group, by ARN.
      returned: success
      type: dict
    status:
      description: The status that is answered instead of forwarding, or null.
      returned: success
      type: int
api_calls:
  description: How many requests were sent to the API, repeats included.
  returned: always
  type: int
proved:
  description: Whether O(verify_url) was asked and its answers were good.
  returned: success
  type: bool
steps:
  description: Each step, with its name (C(step)) and how long it took (C(seconds)).
  returned: success
  type: list
  elements: dict
"""

from dataclasses import asdict
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

from ..module_utils.alb.client import Balancer
from ..module_utils.alb.options import listener_of, proof_of, wanted_of
from ..module_utils.alb.report import rules_of
from ..module_utils.alb.roles import Listener, roles_of
from ..module_utils.alb.switch import ListenerChange
from ..module_utils.change import Outcome, after, run
from ..module_utils.delivery_module import DeliveryModule
from ..module_utils.wiring import changing_module, fail, require_requests


def main() -> None:
    """Run the module."""
    # The argument of that name is read, and not used.
    AnsibleAWSModule.default_settings["module_class"] = DeliveryModule
    module = changing_module(
        make=AnsibleAWSModule,
        argument_spec={
            "listener_arn": {"type": "str"},
            "load_balancer": {"type": "str"},
            "port": {"type": "int"},
            "target_group": {"type": "str"},
            "state": {
                "type": "str",
                "choices": ["staged", "canary", "promoted", "rolled_back", "retired"],
                "required": True,
            },
            "weight": {"type": "int", "default": 10},
            "stickiness": {"type": "int", "default": 0},
            "header_name": {"type": "str", "default": "x-client-mode"},
            "live_value": {"type": "str", "default": "blue"},
            "candidate_value": {"type": "str", "default": "green"},
            "first_priority": {"type": "int", "default": 1},
            "wait_healthy": {"type": "bool", "default": True},
            "min_healthy": {"type": "int"},
            "timeout": {"type": "float", "default": 300.0},
            "verify_url": {"type": "str"},
            "verify_host": {"type": "str"},
            "verify_headers": {"type": "dict", "default": {}},
            "verify_fields": {"type": "dict", "default": {}},
            "verify_count": {"type": "int", "default": 3},
            "verify_timeout": {"type": "float", "default": 60.0},
            "verify_certs": {"type": "bool", "default": True},
            "verify_ca_path": {"type": "path"},
        },
        mutually_exclusive=[("listener_arn", "load_balancer"), ("listener_arn", "port")],
        required_one_of=[("listener_arn", "load_balancer")],
        required_together=[("load_balancer", "port")],
        supports_check_mode=True,
    )
    if module.params["verify_url"]:
        require_requests(module)
    balancer: Balancer | None = None
    try:
        wanted = wanted_of(module.params)
        proof = proof_of(module.params)
        balancer = Balancer.of(module)
        change = ListenerChange(
            balancer,
            listener_of(module.params, balancer),
            wanted,
            timeout=module.params["timeout"],
            proof=proof,
        )
        values = switch(change, module.check_mode)
    except Exception as error:
        fail(module, error, api_calls=balancer.calls if balancer else 0)
    else:
        module.exit_json(**values)


def switch(change: ListenerChange, check_mode: bool) -> dict[str, Any]:
    """Make the change; return what the module documents."""
    outcome = run(change, check_mode=check_mode)
    with after(outcome):
        return result(change, outcome, check_mode)


def result(change: ListenerChange, outcome: Outcome[Listener], check_mode: bool) -> dict[str, Any]:
    """Return what the module documents; prove what needed no change."""
    proved = outcome.changed and change.proof is not None and not check_mode
    seen = outcome.after
    if check_mode:
        seen = change.foreseen(seen)
    elif not outcome.changed:
        proved = change.prove()
    roles = roles_of(seen)
    return {
        **outcome.result(),
        "listener_arn": seen.arn,
        "live": roles.live,
        "candidate": roles.candidate,
        "previous": roles.previous,
        "before": asdict(roles_of(outcome.before)),
        "rules": rules_of(seen),
        "api_calls": change.balancer.calls,
        "proved": proved,
    }


if __name__ == "__main__":
    main()
