# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a module's options to nginx as the router."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadOption
from ..http import check_url

if TYPE_CHECKING:
    from .nginx import Nginx


def nginx_spec() -> dict[str, Any]:
    """Return the option ``nginx``; documented in the fragment ``router_nginx``."""
    return {
        "type": "dict",
        "options": {
            "folder": {"type": "path", "default": "/etc/nginx/delivery"},
            "conf": {"type": "str", "default": "/etc/nginx/nginx.conf"},
            "program": {"type": "str", "default": "nginx"},
            "pid_file": {"type": "path", "default": "/run/nginx.pid"},
            "container": {"type": "str", "default": ""},
            "engine": {"type": "str", "choices": ["docker", "podman"], "default": "docker"},
            "header_name": {"type": "str", "default": "x-client-mode"},
            "live_value": {"type": "str", "default": "blue"},
            "candidate_value": {"type": "str", "default": "green"},
        },
    }


def nginx_of(params: Mapping[str, Any]) -> Nginx:
    """Return the nginx that the option ``nginx`` describes; clients ask at ``api_url``.

    :raises DeliveryError: an option cannot be used.
    """
    given = {name: option["default"] for name, option in nginx_spec()["options"].items()}
    given.update(params.get("nginx") or {})
    if not params["api_url"]:
        raise BadOption("router nginx needs the address at which clients reach the service")
    if given["container"].startswith("-"):
        raise BadOption(f"nginx.container {given['container']!r} cannot be a container's name")
    # Loaded only where it is the router: each start of a module compiles what it imports.
    from .nginx import Nginx
    from .nginx_config import Header
    from .nginx_process import NginxProcess

    process = NginxProcess(
        [given["program"]],
        given["conf"],
        Path(given["pid_file"]),
        container=given["container"],
        engine=given["engine"],
        timeout=params["timeout"],
    )
    return Nginx(
        process,
        check_url(params["api_url"], "the router's address"),
        Path(given["folder"]),
        Header(given["header_name"], given["live_value"], given["candidate_value"]),
    )
