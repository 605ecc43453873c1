# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real etcd that has no room left, and deletes of what somebody has written since."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import RouterError
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_model import Keys
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_router import (
    forget_node,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_store import (
    Changed,
    StoreFull,
)
from tests.support.etcd import PREFIX, EtcdServer, etcd_server, registrar
from tests.support.haproxy import haproxy_server
from tests.support.modules import run_module
from tests.support.router_daemon import start_version
from tests.support.router_flows import send_to, version_at

QUOTA = 1024 * 1024
PIECE = "x" * 64 * 1024
# Waiting out a 429 took the whole timeout of the module, which is thirty seconds.
AT_ONCE = 15.0


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    with etcd_server(tmp_path / "etcd", arguments=["--quota-backend-bytes", str(QUOTA)]) as server:
        yield server


def fill(etcd: EtcdServer) -> None:
    store = etcd.store()
    with pytest.raises(StoreFull):
        for _number in range(2 * QUOTA // len(PIECE)):
            # One key again and again: what compaction frees is its history.
            store.put("/filler", PIECE)


def make_room(etcd: EtcdServer) -> None:
    """Do what the message says."""
    (url,) = etcd.urls

    def call(path: str, **body: object) -> dict[str, object]:
        answer = requests.post(f"{url}/v3/{path}", json=body, timeout=30)
        assert answer.ok, answer.text
        document: dict[str, object] = answer.json()
        return document

    key = base64.b64encode(b"/filler").decode()
    header = call("kv/range", key=key)["header"]
    assert isinstance(header, dict)
    call("kv/compaction", revision=header["revision"], physical=True)
    call("maintenance/defragment")
    alarms = call("maintenance/alarm", action="GET")["alarms"]
    assert isinstance(alarms, list)
    for alarm in alarms:
        call("maintenance/alarm", action="DEACTIVATE", **alarm)


def test_a_full_etcd_is_told_at_once_and_costs_no_traffic(etcd: EtcdServer, tmp_path: Path) -> None:
    blue, green = start_version(tmp_path, "blue"), start_version(tmp_path, "green")
    try:
        with (
            haproxy_server(tmp_path / "haproxy") as haproxy,
            registrar(tmp_path, etcd, haproxy),
        ):
            send_to(etcd.router(haproxy.url), blue.url)
            fill(etcd)
            began = time.monotonic()
            done = run_module(
                tmp_path,
                "proxy_register",
                {
                    "router": "etcd",
                    "api_url": haproxy.url,
                    "service": "demo",
                    "host_header": "demo",
                    "url": green.url,
                    "health_path": "/health",
                    "etcd": etcd.options(),
                },
            )
            assert time.monotonic() - began < AT_ONCE
            assert (done.code, done.result["kind"]) == (1, "store_full"), done.output
            assert "database space exceeded" in done.result["msg"]
            assert "etcdctl alarm disarm" in done.result["next_step"]
            assert version_at(haproxy.url) == "blue"
            make_room(etcd)
            send_to(etcd.router(haproxy.url), green.url)
            assert version_at(haproxy.url) == "green"
    finally:
        blue.kill()
        green.kill()


def test_a_delete_is_of_what_was_read(etcd: EtcdServer) -> None:
    store, key = etcd.store(), f"{PREFIX}/candidates/demo"
    first = store.put(key, "1")
    second = store.put(key, "2")
    with pytest.raises(Changed):
        store.delete(key, first)
    assert store.read(key)[key].value == "2"
    store.delete(key, second)
    store.delete(key, second)
    assert store.read(key) == {}


def test_a_node_that_still_writes_is_not_forgotten(etcd: EtcdServer) -> None:
    store, keys = etcd.store(), Keys(PREFIX)
    store.put(keys.of("nodes", "front"), "{}")
    store.put(keys.of("running", "front"), "{}")

    class Late:
        """The same store, in which the node writes after it was read."""

        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

        def read(self, prefix: str) -> object:
            entries = store.read(prefix)
            store.put(keys.of("running", "front"), "{}")
            return entries

    with pytest.raises(RouterError, match="the registrar of front still runs"):
        forget_node(Late(), keys, "front")  # type: ignore[arg-type]
    assert keys.of("running", "front") in store.read(keys.root)
    forget_node(store, keys, "front")
    assert store.read(keys.root) == {}
