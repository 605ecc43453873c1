# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three hosts of one route: all serve in the end, and nobody takes it over silently.

The hosts are a stand-in: one engine that publishes at 127.0.0.1, .2 and .3, a service for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from tests.support.actor import actor_image
from tests.support.modules import Ended, run_module
from tests.support.plays import run_play
from tests.support.proxy import Proxy, start_proxy
from tests.support.service import SERVICE_LABEL, traffic

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    with start_proxy(tmp_path) as proxy:
        yield proxy


@pytest.fixture
def name(engine: DockerClient, prefix: str) -> Iterator[str]:
    name = f"{prefix}-shared"
    yield name
    for one in engine.containers.list(all=True, filters={"label": SERVICE_LABEL}):
        if str(one.labels[SERVICE_LABEL]).startswith(name):
            one.remove(force=True, v=True)


def urls(proxy: Proxy) -> list[str]:
    return sorted(proxy.api("GET", "/demo").json().get("urls", ()))


def hosts(proxy: Proxy) -> list[str]:
    return [url.removeprefix("http://").partition(":")[0] for url in urls(proxy)]


def test_the_obvious_play(engine: DockerClient, proxy: Proxy, name: str, tmp_path: Path) -> None:
    image = actor_image()

    def play(version: str) -> list[dict[str, Any]]:
        return [
            {
                "name": "Deploy",
                "ansible.builtin.include_role": {"name": "immutable.delivery.service"},
                "vars": {
                    "service_name": f"{name}-{{{{ service_address | replace('.', '-') }}}}",
                    "service_image": image,
                    "service_pull": "never",
                    "service_container_port": 8080,
                    "service_bind_address": "{{ service_address }}",
                    "service_environment": {"VERSION": version},
                    "service_router": "registry",
                    "service_api_url": proxy.url,
                    "service_route": "demo",
                    "service_soak": 0.5,
                    "service_stop_timeout": 5,
                },
            }
        ]

    inventory = tmp_path / "hosts.yml"
    lines = (f"    h{host[-1]}: {{service_address: {host}}}" for host in HOSTS)
    inventory.write_text(
        "\n".join(["all:", "  vars: {ansible_connection: local}", "  hosts:", *lines])
    )
    playbook = tmp_path / "play.yml"
    for version in ("v1", "v2"):
        write_play(playbook, play(version))
        with traffic(f"{proxy.url}/demo/1", 1, method="GET", version=str) as seen:
            if version == "v1":
                # Nobody serves before the first host does.
                seen.sent = 0
            done = run_play(playbook, args=["--inventory", str(inventory)], timeout=580).ok()
        assert hosts(proxy) == list(HOSTS)
        if version == "v2":
            assert seen.lost == []
    before = urls(proxy)
    again = run_play(playbook, args=["--inventory", str(inventory)], timeout=580).ok()
    assert done.changed and not again.changed
    assert urls(proxy) == before


def write_play(file: Path, tasks: list[dict[str, Any]]) -> None:
    import json

    play = {"hosts": "all", "gather_facts": False, "serial": 1, "tasks": tasks}
    file.write_text(json.dumps([play]))


def test_what_is_neither_ours_nor_a_peers_is_refused_by_name(
    engine: DockerClient, proxy: Proxy, name: str, tmp_path: Path
) -> None:
    def run(host: str, *peers: str, **more: Any) -> Ended:
        options = {
            "name": f"{name}-{host[-1]}",
            "image": actor_image(),
            "pull": "never",
            "container_port": 8080,
            "bind_address": host,
            "address": host,
            "environment": {"VERSION": "v1"},
            "health_path": "/health",
            "router": "registry",
            "api_url": proxy.url,
            "route": "demo",
            "soak": 0,
            "stop_timeout": 5,
            "peers": list(peers),
            **more,
        }
        return run_module(tmp_path, "service_deploy", options)

    assert run(HOSTS[0]).code == 0
    (first,) = urls(proxy)
    refused = run(HOSTS[1])
    assert refused.result["kind"] == "foreign_address", refused.output
    assert first in refused.result["msg"] and "peers" in refused.result["next_step"]
    assert urls(proxy) == [first]
    assert not engine.containers.list(
        all=True, filters={"label": f"{SERVICE_LABEL}={name}-{HOSTS[1][-1]}"}
    )
    second = run(HOSTS[1], *HOSTS)
    assert second.code == 0, second.output
    assert hosts(proxy) == list(HOSTS[:2])
    # Its own address is another one after a crash, and is its own all the same.
    (one,) = engine.containers.list(filters={"label": f"{SERVICE_LABEL}={name}-{HOSTS[1][-1]}"})
    one.restart(timeout=1)
    repaired = run(HOSTS[1], *HOSTS)
    assert repaired.code == 0, repaired.output
    assert first in urls(proxy) and len(urls(proxy)) == 2
    healed = run_module(
        tmp_path,
        "service_heal",
        {
            "services": [f"{name}-{HOSTS[1][-1]}"],
            "address": HOSTS[1],
            "router": "registry",
            "api_url": proxy.url,
        },
    )
    assert healed.code == 0, healed.output
    assert first in urls(proxy) and len(urls(proxy)) == 2
    gone = run(HOSTS[1], state="absent")
    assert gone.code == 0, gone.output
    assert urls(proxy) == [first]
