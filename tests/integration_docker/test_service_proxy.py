# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy as a service among others: before any, at its fixed port, replaced with its routes."""

from __future__ import annotations

import socket
from collections.abc import Callable
from urllib.parse import quote

import requests
from docker import DockerClient

from tests.support.plays import PlayResult
from tests.support.shipped import CHECKOUT

PLAYBOOK = "playbooks/proxy.yml"


def test_the_proxy_is_deployed_and_replaced_with_its_routes(
    engine: DockerClient, prefix: str, app_image: Callable[[str], str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    variables = {
        "proxy_hosts": "all",
        "proxy_name": f"{prefix}-proxy",
        "proxy_image": app_image("proxy-service"),
        "proxy_port": port,
        "proxy_bind_address": "127.0.0.1",
        "proxy_volume": f"{prefix}-proxy-data",
        "service_pull": "never",
    }

    def play(**more: object) -> PlayResult:
        return CHECKOUT.play(
            PLAYBOOK,
            extra_vars={**variables, **more},
            args=["--inventory", "localhost,"],
            timeout=300,
        ).ok()

    assert play().task("Deploy").changed
    # Names of others, which nothing answers to: only that they are remembered counts.
    target = quote("http://127.0.0.1:9", safe="")
    assert requests.post(f"{url}/services/demo/{target}", timeout=30).ok
    assert not play().task("Deploy").changed
    (replaced,) = play(service_labels={"changed": "yes"}).task("Deploy")["services"]
    assert replaced["changed"] and replaced["downtime_seconds"] > 0
    assert requests.get(f"{url}/services/demo", timeout=30).json()["url"]["url"].endswith(":9")
    (gone,) = play(service_state="absent").task("Deploy")["services"]
    assert gone["changed"]
    assert not engine.containers.list(all=True, filters={"name": f"{prefix}-proxy"})
