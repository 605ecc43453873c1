# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry in Consul, or rather in a stand-in for it, which the registrar follows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import (
    Overtaken,
    RouterError,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.consul_options import (
    consul_of,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_router import KvRouter
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_store import (
    Changed,
    LeaseLost,
    StoreAway,
)
from tests.support.apps import AppProcess
from tests.support.consul import ConsulStandIn, consul_stand_in
from tests.support.etcd import router_arguments, start_registrar
from tests.support.haproxy import HaProxyServer, haproxy_server
from tests.support.router_flows import PATIENCE, send_to, version_at
from tests.support.waiting import eventually

SERVICES: list[dict[str, Any]] = [{"name": "demo", "hosts": ["demo", "localhost"]}]
TOKEN = "a-token-that-nobody-sees"


@pytest.fixture
def consul() -> Iterator[ConsulStandIn]:
    with consul_stand_in() as server:
        server.token = TOKEN
        yield server


def router(consul: ConsulStandIn, timeout: float = 20, **options: Any) -> KvRouter:
    given = {"address": consul.url, "token": TOKEN, "follow_timeout": 30, **options}
    return consul_of(
        {
            "api_url": "http://127.0.0.1",
            "timeout": timeout,
            "health_path": "/health",
            "host_header": "demo",
            "consul": given,
        }
    )


@pytest.fixture
def front(consul: ConsulStandIn, tmp_path: Path) -> Iterator[HaProxyServer]:
    with haproxy_server(tmp_path / "haproxy", SERVICES) as haproxy:
        arguments = ["--consul", consul.url, *router_arguments("haproxy", haproxy.options())]
        secret = {"REGISTRAR_CONSUL_TOKEN": TOKEN}
        app = start_registrar(tmp_path, [], arguments, environment=secret)
        try:
            eventually(lambda: "front" in router(consul).state().running, "the registrar runs")
            yield haproxy
            assert app.stop() == 0
            assert TOKEN not in app.log()
        finally:
            app.kill()


def test_switches_drains_two_callers_and_the_catalogue(
    consul: ConsulStandIn, front: HaProxyServer, versions: dict[str, AppProcess]
) -> None:
    blue, green, red = (versions[name].url for name in ("blue", "green", "red"))
    slow = router(consul)
    for name in ("blue", "green", "blue"):
        change = send_to(router(consul), versions[name].url)
        assert change.drain(PATIENCE).drained
        assert version_at(front.url) == name
        if name == "green":
            assert slow.observe("demo").urls == (green,)
    with pytest.raises(Overtaken, match=f"somebody else was first: demo goes to {blue}"):
        slow.switch("demo", [red])
    # Listed for others, with a check of the agent's own.
    eventually(
        lambda: [one["Meta"]["url"] for one in consul.services.values()] == [blue], "the catalogue"
    )
    (listed,) = consul.services.values()
    assert (listed["Name"], listed["Check"]["HTTP"]) == ("demo", f"{blue}/health")
    assert listed["Check"]["Header"] == {"Host": ["demo"]}
    # Sessions that are lost cost nothing, and all is registered again.
    consul.end_sessions()
    eventually(
        lambda: (
            router(consul).state().alive("demo") == {blue}
            and router(consul).state().running == {"front"}
        ),
        "registered again",
    )
    assert version_at(front.url) == "blue"
    send_to(router(consul))
    assert version_at(front.url) == ""
    eventually(lambda: not consul.services, "listed no more")


def test_without_a_leader(consul: ConsulStandIn) -> None:
    store = router(consul, timeout=0.5).store
    consul.leader = False
    with pytest.raises(StoreAway, match=r"500, No cluster leader.*have a leader"):
        store.read("/delivery/")
    again = threading.Timer(0.3, setattr, (consul, "leader", True))
    again.start()
    assert router(consul).store.read("/delivery/") == {}
    again.join()


def test_keys_and_sessions(consul: ConsulStandIn) -> None:
    store = router(consul).store
    first = store.swap("/delivery/a%2Fb", "1", 0)
    with pytest.raises(Changed):
        store.swap("/delivery/a%2Fb", "2", 0)
    second = store.swap("/delivery/a%2Fb", "2", first)
    (key,) = store.read("/delivery/")
    assert (key, store.read("/delivery/")[key].revision) == ("/delivery/a%2Fb", second)
    with pytest.raises(LeaseLost):
        store.put("/delivery/c", "1", "unknown")
    one, two = store.grant(1), store.grant(30)
    store.put("/delivery/c", "1", one)
    # Held by another session, as after a restart.
    store.put("/delivery/c", "2", two)
    assert (store.keep_alive(two), store.keep_alive("unknown")) == (True, False)
    consul.end_sessions()
    assert list(store.read("/delivery/")) == [key]
    with pytest.raises(Changed):
        store.delete(key, first)
    store.delete(key, second)
    store.delete(key, second)
    assert store.read("/delivery/") == {}


def test_a_token_that_may_not_and_an_address_that_is_none(consul: ConsulStandIn) -> None:
    with pytest.raises(RouterError, match="does not allow /v1/kv/delivery/") as caught:
        router(consul, token="wrong").store.read("/delivery/")
    assert "wrong" not in str(caught.value)
    with pytest.raises(DeliveryError, match=r"consul\.address 'nowhere'"):
        router(consul, address="nowhere")
