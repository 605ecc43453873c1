#!/usr/bin/python
# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: health_probe
short_description: Wait until a server answers as a healthy one
version_added: 0.1.0
description:
  - Asks a server with GET for one path after the other until each answers as it should, at most for
    O(timeout) seconds, and returns what was read.
  - It changes nothing.
author:
  - immutable.delivery contributors (@immutable-delivery)
requirements:
  - python >= 3.11
  - requests
extends_documentation_fragment:
  - immutable.delivery.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  url:
    description:
      - The server's address.
    type: str
    required: true
  host_header:
    description:
      - The host name to ask for, where O(url) has another one. Over TLS it is also the name that
        the certificate must be made for.
    type: str
  checks:
    description:
      - What to ask for, in this order.
    type: list
    elements: dict
    default: [{path: /health}]
    suboptions:
      path:
        description:
          - The path.
        type: str
        required: true
      status:
        description:
          - The statuses that are healthy; any of 200 to 299 where none is given.
        type: list
        elements: int
        default: []
      fields:
        description:
          - JSON fields that must have these values, compared as text. A dot descends into an
            object.
        type: dict
        default: {}
  count:
    description:
      - How many healthy answers in a row each check must give.
    type: int
    default: 1
  timeout:
    description:
      - The seconds that all checks together may take; V(0) asks once.
    type: float
    default: 30
  validate_certs:
    description:
      - Whether to check the TLS certificate.
    type: bool
    default: true
  ca_path:
    description:
      - A file of CA certificates to trust instead of the system's.
    type: path
"""

EXAMPLES = r"""
- name: Wait until the candidate is up and is the version that is meant
  immutable.delivery.health_probe:
    url: http://10.0.0.6:3001
    host_header: api.example.org
    checks:
      - path: /health
        fields:
          version: v24
    timeout: 120
"""

RETURN = r"""
url:
  description: The server that was asked.
  returned: success
  type: str
seconds:
  description: How long it took until every check was healthy.
  returned: success
  type: float
checks:
  description: The checks, each with how many answers in a row were healthy.
  returned: success
  type: list
  elements: dict
"""

from typing import Any

from ..module_utils.deadline import Deadline
from ..module_utils.delivery_module import DeliveryModule
from ..module_utils.errors import BadOption
from ..module_utils.http import Http
from ..module_utils.probe import Expectation, as_text, wait_healthy
from ..module_utils.wiring import end_with, require_requests

CHECK_SPEC: dict[str, Any] = {
    "path": {"type": "str", "required": True},
    "status": {"type": "list", "elements": "int", "default": []},
    "fields": {"type": "dict", "default": {}},
}


def probe(params: dict[str, Any]) -> dict[str, Any]:
    """Run the checks; return what the module documents."""
    http = Http(
        params["url"],
        host_header=params["host_header"],
        validate_certs=params["validate_certs"],
        ca_path=params["ca_path"],
    )
    if params["count"] < 1:
        raise BadOption(f"count must be at least 1, not {params['count']}")
    if not params["checks"]:
        raise BadOption("checks is empty, so nothing would be proved")
    deadline = Deadline(params["timeout"])
    for check in params["checks"]:
        if not check["path"].startswith("/"):
            raise BadOption(f"a check's path must begin with a slash: {check['path']}")
        expected = Expectation(
            check["path"],
            tuple(check["status"]),
            {name: as_text(value) for name, value in check["fields"].items()},
        )
        wait_healthy(http, expected, deadline=deadline, successes=params["count"])
    return {
        "changed": False,
        "url": http.base_url,
        "seconds": round(deadline.elapsed, 3),
        "checks": [
            {"path": check["path"], "healthy": params["count"]} for check in params["checks"]
        ],
    }


def main() -> None:
    """Run the module."""
    module = DeliveryModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "host_header": {"type": "str"},
            "checks": {
                "type": "list",
                "elements": "dict",
                "options": CHECK_SPEC,
                "default": [{"path": "/health"}],
            },
            "count": {"type": "int", "default": 1},
            "timeout": {"type": "float", "default": 30.0},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    require_requests(module)
    end_with(module, lambda: probe(module.params))


if __name__ == "__main__":
    main()
