# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a module's options to a load balancer as the router.

boto3 and the collection amazon.aws are asked for only where that router is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from ansible.module_utils.basic import env_fallback

from ..errors import BadOption, DeliveryError
from ..http import check_url

if TYPE_CHECKING:
    from .alb import Alb

# A call that hangs must not outlast the lock of a portal that waits for it.
CONFIG = {"connect_timeout": 5, "read_timeout": 15, "retries": {"total_max_attempts": 3}}


def alb_spec() -> dict[str, Any]:
    """Return the option ``alb``; documented in the fragment ``router_alb``."""
    return {
        "type": "dict",
        "options": {
            "listener_arn": {"type": "str"},
            "load_balancer": {"type": "str"},
            "port": {"type": "int"},
            "target_groups": {"type": "dict", "default": {}},
            "min_healthy": {"type": "int"},
            "health_timeout": {"type": "float", "default": 300.0},
            "access_key": {
                "type": "str",
                "no_log": False,
                "fallback": (env_fallback, ["AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"]),
            },
            "secret_key": {
                "type": "str",
                "no_log": True,
                "fallback": (env_fallback, ["AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY"]),
            },
            "session_token": {
                "type": "str",
                "no_log": True,
                "fallback": (env_fallback, ["AWS_SESSION_TOKEN"]),
            },
            "profile": {"type": "str", "fallback": (env_fallback, ["AWS_PROFILE"])},
            "region": {
                "type": "str",
                "fallback": (env_fallback, ["AWS_REGION", "AWS_DEFAULT_REGION"]),
            },
            "endpoint_url": {"type": "str", "fallback": (env_fallback, ["AWS_URL"])},
            "validate_certs": {"type": "bool", "default": True},
            "aws_ca_bundle": {"type": "path", "fallback": (env_fallback, ["AWS_CA_BUNDLE"])},
            "aws_config": {"type": "dict"},
        },
    }


def alb_of(params: Mapping[str, Any]) -> Alb:
    """Return the listener that the option ``alb`` describes; ``api_url`` is where clients ask.

    :raises DeliveryError: an option cannot be used, or a library is missing.
    """
    given = params.get("alb") or {}
    # From here on the libraries of AWS are needed, which nobody else should have to load.
    from ..alb.client import HAS_AWS, Balancer
    from .alb import Alb

    if not HAS_AWS:
        raise DeliveryError(
            "router alb needs boto3, botocore and the collection amazon.aws",
            next_step="Install boto3 for the Python of the host that runs this, and amazon.aws "
            "where ansible-core runs.",
        )
    _check(given)
    balancer = Balancer(_client(given))
    arn = given.get("listener_arn")
    return Alb(
        balancer,
        arn or (lambda: balancer.listener_arn(given["load_balancer"], given["port"])),
        {str(name): _address(name, url) for name, url in given["target_groups"].items()},
        min_healthy=given.get("min_healthy"),
        health_timeout=given["health_timeout"],
        entrance=check_url(params["api_url"], "the router's address") if params["api_url"] else "",
    )


def _check(given: Mapping[str, Any]) -> None:
    arn, name = given.get("listener_arn"), given.get("load_balancer")
    if bool(arn) == bool(name):
        raise BadOption("router alb needs either alb.listener_arn or alb.load_balancer")
    if name and not given.get("port"):
        raise BadOption("alb.load_balancer needs alb.port, that of its listener")
    if given.get("min_healthy") is not None and given["min_healthy"] < 0:
        raise BadOption("alb.min_healthy must not be less than 0")
    if not 0 <= given["health_timeout"] < float("inf"):
        raise BadOption("alb.health_timeout must not be less than 0 seconds, nor endless")


def _address(name: str, url: Any) -> str:
    return check_url(str(url), f"alb.target_groups.{name}") if url else ""


class _Asking:
    """What amazon.aws wants to know of a module, and its failures as ours."""

    _name = "router alb"

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def fail_json(self, msg: str, **_details: Any) -> NoReturn:
        raise DeliveryError(msg, next_step="See the connection options below alb.")


def _client(given: Mapping[str, Any]) -> Any:
    from ansible_collections.amazon.aws.plugins.module_utils.botocore import (
        boto3_conn,
        get_aws_connection_info,
    )

    asking = _Asking({**given, "aws_config": {**CONFIG, **(given.get("aws_config") or {})}})
    region, endpoint, how = get_aws_connection_info(asking)
    if not region:
        raise BadOption("router alb needs alb.region, or AWS_REGION in the environment")
    return boto3_conn(
        asking, conn_type="client", resource="elbv2", region=region, endpoint=endpoint, **how
    )
