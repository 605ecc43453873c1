# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option of those modules that can have an AWS load balancer as their router."""

from __future__ import annotations


class ModuleDocFragment:
    """The listener, the target groups and the connection."""

    DOCUMENTATION = r"""
options:
  alb:
    description:
      - Needed for O(router=alb), which is the listener of an AWS Application Load Balancer. It
        serves one service by its default action, with one version behind each target group.
      - It needs boto3 on the host that runs the module, and the collection C(amazon.aws).
    type: dict
    suboptions:
      listener_arn:
        description:
          - The listener. Either this or O(alb.load_balancer) with O(alb.port) is needed.
        type: str
      load_balancer:
        description:
          - The name or the ARN of the load balancer.
        type: str
      port:
        description:
          - The port of the listener of O(alb.load_balancer).
        type: int
      target_groups:
        description:
          - The target groups that may get the traffic, by name or ARN, each with the address at
            which the version behind it is asked directly.
          - Where an address is empty it is that of the group's tag C(immutable.delivery:url), and
            without that tag those of its registered targets, which then have to be of the type
            C(ip).
          - Groups that the listener has already need not be named, nor have others to exist.
        type: dict
        default: {}
      min_healthy:
        description:
          - How many healthy targets a group must have before it gets traffic. By default all that
            are registered, and at least one. V(0) asks for none.
        type: int
      health_timeout:
        description:
          - The seconds that a group may take to become healthy. It is waited for without traffic.
        type: float
        default: 300
      access_key:
        description:
          - The AWS access key ID. This and the following options, and the environment variables
            that stand in for them, are as in the modules of C(amazon.aws).
        type: str
      secret_key:
        description:
          - The AWS secret access key.
        type: str
      session_token:
        description:
          - The token of temporary credentials.
        type: str
      profile:
        description:
          - A named profile, instead of the keys.
        type: str
      region:
        description:
          - The AWS region.
        type: str
      endpoint_url:
        description:
          - The address of the API, where it is not that of AWS.
        type: str
      validate_certs:
        description:
          - Whether to check the TLS certificate of the API.
        type: bool
        default: true
      aws_ca_bundle:
        description:
          - A file of CA certificates to trust for the API.
        type: path
      aws_config:
        description:
          - Settings of botocore. By default a call may take 5 seconds to connect and 15 for its
            answer, and is tried three times.
        type: dict
"""
