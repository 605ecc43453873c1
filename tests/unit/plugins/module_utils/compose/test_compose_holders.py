# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has a port of the host, if the engine does not know it."""

from __future__ import annotations

import socket
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.compose.containers import (
    Containers,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.decision import State
from ansible_collections.immutable.delivery.plugins.module_utils.compose.holders import (
    foreign_holders,
)

from ..service.memory_engine import MemoryEngine
from .world import instance, service, wanted


@pytest.mark.parametrize("network", ["host", "bridge"])
def test_the_port_of_a_former_container_in_the_hosts_network_is_nobody_elses(network: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        published = {"published": str(port), "target": 80, "host_ip": "127.0.0.1"}
        web = service("web", ports=[published])
        former = instance(web, image="sha256:old")
        former = replace(former, container=replace(former.container, addresses={network: ""}))
        former = replace(former, ports=())
        compose: Any = SimpleNamespace(connection=SimpleNamespace(host="unix:///docker.sock"))
        engine: Any = MemoryEngine()
        want = wanted(web)
        found = foreign_holders(
            Containers(engine, compose, want.project, 1.0), want, State({"web": [former]})
        )
    assert [one.who for one in found] == ([] if network == "host" else ["another program"])
