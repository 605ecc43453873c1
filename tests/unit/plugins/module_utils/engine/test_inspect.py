# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of a container's state."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.engine.inspect import (
    NEVER,
    SECOND,
    container_of,
    parse_time,
)


def attributes(state: dict[str, Any], ports: dict[str, Any] | None = None) -> dict[str, Any]:
    """The parts of ``GET /containers/ID/json`` that are read."""
    return {
        "Id": "f00",
        "Name": "/web-1",
        "Image": "sha256:1",
        "State": state,
        "Config": {"Labels": None, "Image": "web"},
        "NetworkSettings": {"Ports": ports, "Networks": {"web": {"IPAddress": "172.20.0.2"}}},
    }


@pytest.mark.parametrize(
    ("state", "well"),
    [
        ({"Status": "running"}, True),
        ({"Status": "running", "Health": {"Status": "none"}}, True),
        ({"Status": "running", "Health": {"Status": "healthy"}}, True),
        ({"Status": "running", "Health": {"Status": "starting"}}, False),
        ({"Status": "running", "Health": {"Status": "unhealthy"}}, False),
        ({"Status": "exited", "ExitCode": 0}, False),
        ({"Status": "restarting", "Health": {"Status": "healthy"}}, False),
        ({"Status": "paused", "Health": {"Status": "healthy"}}, False),
    ],
)
def test_well_is_running_and_not_found_unhealthy(state: dict[str, Any], well: bool) -> None:
    assert container_of(attributes(state)).well is well


def test_a_port_that_is_bound_twice_is_one_port() -> None:
    both = [{"HostIp": "0.0.0.0", "HostPort": "32768"}, {"HostIp": "::", "HostPort": "32768"}]
    seen = container_of(attributes({"Status": "running"}, {"8080/tcp": both, "9090/tcp": None}))
    assert seen.ports == {"8080/tcp": (32768,)}
    assert seen.host_port(8080) == 32768
    assert seen.host_port(9090) is None
    assert seen.host_port(8080, "udp") is None
    assert seen.addresses == {"web": "172.20.0.2"}
    assert seen.name == "web-1"
    assert seen.labels == {}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-02T03:04:05Z", 0.0),
        ("2026-01-02T04:04:05.000000000+01:00", 0.0),
        ("2026-01-02T03:04:05.5Z", 0.5),
        ("2026-01-02T03:04:06.000000Z", 1.0),
    ],
)
def test_the_engine_s_times_are_numbers(text: str, seconds: float) -> None:
    assert parse_time(text) == 1767323045 * SECOND + seconds * SECOND


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "", "yesterday"])
def test_what_never_happened_has_no_time(text: str) -> None:
    assert parse_time(text) == NEVER


def test_times_sort_though_the_engine_leaves_out_zeros() -> None:
    # As text, .1Z comes after .12Z and .123456789Z.
    texts = ["2026-01-02T03:04:05.1Z", "2026-01-02T03:04:05.12Z", "2026-01-02T03:04:05.123456789Z"]
    assert sorted(texts) != texts
    assert sorted(texts, key=parse_time) == texts


@pytest.mark.parametrize(
    ("policy", "restart"),
    [
        ({"Name": "", "MaximumRetryCount": 0}, "no"),
        ({"Name": "unless-stopped", "MaximumRetryCount": 0}, "unless-stopped"),
        ({"Name": "on-failure", "MaximumRetryCount": 3}, "on-failure:3"),
        (None, "no"),
    ],
)
def test_a_restart_policy_is_read_as_the_cli_writes_it(
    policy: dict[str, Any] | None, restart: str
) -> None:
    seen = attributes({"Status": "running"}) | {"HostConfig": {"RestartPolicy": policy}}
    assert container_of(seen).restart == restart


@pytest.mark.parametrize(
    ("bindings", "at", "port"),
    [
        ([("127.0.0.1", 1), ("10.0.0.5", 2)], "10.0.0.5", 2),
        ([("127.0.0.1", 1), ("10.0.0.5", 2)], "127.0.0.1", 1),
        ([("127.0.0.1", 1), ("0.0.0.0", 2)], "10.0.0.5", 2),
        ([("127.0.0.1", 1), ("", 2)], "prod.example.com", 2),
        ([("10.0.0.5", 2)], "prod.example.com", 2),
        ([("0.0.0.0", 3), ("::", 3)], "", 3),
    ],
)
def test_of_several_addresses_the_one_that_is_asked(
    bindings: list[tuple[str, int]], at: str, port: int
) -> None:
    told = [{"HostIp": address, "HostPort": str(number)} for address, number in bindings]
    seen = container_of({"Id": "x", "Name": "/x", "NetworkSettings": {"Ports": {"80/tcp": told}}})
    assert seen.host_port(80, at=at) == port
