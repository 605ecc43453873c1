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

from ansible_collections.immutable.delivery.plugins.module_utils.compose.claims import Port
from ansible_collections.immutable.delivery.plugins.module_utils.compose.containers import (
    Containers,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.decision import State
from ansible_collections.immutable.delivery.plugins.module_utils.compose.engine_state import (
    Instance,
)
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


def listening(address: str, *, both: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, 0), family=family, dualstack_ipv6=both)


def who_has(port: int, address: str, *former: Instance) -> list[str]:
    published = {"published": str(port), "target": 80, "host_ip": address}
    web = service("web", ports=[published])
    compose: Any = SimpleNamespace(connection=SimpleNamespace(host="unix:///docker.sock"))
    engine: Any = MemoryEngine()
    want = wanted(web)
    found = foreign_holders(
        Containers(engine, compose, want.project, 1.0), want, State({"web": list(former)})
    )
    return [one.who for one in found]


# Tried with an engine, which could start a container at what is free, and at nothing else.
@pytest.mark.parametrize(
    ("address", "both", "free"),
    [
        ("0.0.0.0", False, ["::", "::1"]),
        ("127.0.0.1", False, ["::", "::1"]),
        ("::", False, ["0.0.0.0", "127.0.0.1"]),
        ("::", True, []),
        ("::1", False, ["0.0.0.0", "127.0.0.1"]),
    ],
)
def test_what_a_program_leaves_to_others(address: str, both: bool, free: list[str]) -> None:
    with listening(address, both=both) as server:
        port = server.getsockname()[1]
        every = ["", "0.0.0.0", "127.0.0.1", "::", "::1"]
        assert [other for other in every if not who_has(port, other)] == free


@pytest.mark.parametrize("status", ["running", "exited"])
def test_a_former_container_hides_no_program(status: str) -> None:
    with listening("::1") as server:
        port = server.getsockname()[1]
        former = instance(service("web"), image="sha256:old", status=status)
        held = replace(former, ports=(Port(port, port, address="127.0.0.1"),))
        assert who_has(port, "", held) == ["another program"]
        gone = replace(former, ports=(Port(port, port, address="::1"),))
        assert who_has(port, "::1", gone) == ([] if status == "running" else ["another program"])
