# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A candidate under load, at HAProxy, nginx and through etcd: refused once, promoted once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.http import Http
from ansible_collections.immutable.delivery.plugins.module_utils.probe import Expectation
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import Overtaken
from ansible_collections.immutable.delivery.plugins.module_utils.routers.check import (
    Check,
    Unproved,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_router import KvRouter
from ansible_collections.immutable.delivery.plugins.module_utils.routers.routing import Routing
from tests.support.apps import AppProcess
from tests.support.etcd import EtcdServer, etcd_server, registrar
from tests.support.haproxy import HaProxyServer, haproxy_server
from tests.support.modules import Ended, run_module
from tests.support.nginx import NginxServer, nginx_server
from tests.support.router_daemon import start_version
from tests.support.router_flows import CLIENTS, PATIENCE, send_to, share_of, version_at
from tests.support.router_load import RouterLoad

GREEN = {"x-client-mode": "green"}
NEARLY_ALL = 99


class Undos:
    """What a deploy would have to take back."""

    def __init__(self) -> None:
        self.noted: list[Callable[[], object]] = []

    def __call__(self, undo: Callable[[], object], state: str = "") -> None:
        self.noted.append(undo)

    def run(self) -> None:
        while self.noted:
            self.noted.pop()()


class Registered:
    """HAProxy, which follows etcd by its registrar."""

    def __init__(self, etcd: EtcdServer, haproxy: HaProxyServer) -> None:
        self.etcd = etcd
        self.url = haproxy.url
        self.options = etcd.options

    def router(self) -> KvRouter:
        return self.etcd.router(self.url)


Server = HaProxyServer | NginxServer | Registered


@pytest.fixture(params=["haproxy", "nginx", "etcd"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(kind: str, tmp_path: Path) -> Iterator[Server]:
    with ExitStack() as stack:
        if kind == "nginx":
            yield stack.enter_context(nginx_server(tmp_path / "nginx"))
            return
        haproxy = stack.enter_context(haproxy_server(tmp_path / "haproxy"))
        if kind == "haproxy":
            yield haproxy
            return
        etcd = stack.enter_context(etcd_server(tmp_path / "etcd"))
        stack.enter_context(registrar(tmp_path, etcd, haproxy))
        yield Registered(etcd, haproxy)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], AppProcess]]:
    with ExitStack() as stack:

        def start(version: str) -> AppProcess:
            app = start_version(tmp_path, version)
            stack.callback(app.kill)
            return app

        yield start


def routing(server: Server, tried: Check | None = None) -> Routing:
    """The service at its router, as each run of the module begins."""
    one = Routing(server.router(), "demo", tried=tried)
    one.observe()
    return one


def test_refused_then_promoted_under_load(
    server: Server, start: Callable[[str], AppProcess]
) -> None:
    undo = Undos()
    live, refused = start("v0"), start("v1")
    send_to(server.router(), live.url)
    load = RouterLoad(server.url, host="demo", rate=60, slow=1.0)
    load.start()
    try:
        # Each step is a run of its own, which finds out from the router who is tried.
        routing(server).stage([refused.url], 0, undo)
        assert share_of(server.url) == {"v0": CLIENTS}
        assert version_at(server.url, **GREEN) == "v1"
        routing(server).stage([refused.url], 10, undo)
        assert 2 < share_of(server.url)["v1"] < 50
        routing(server).stage([refused.url], NEARLY_ALL, undo)
        assert share_of(server.url)["v1"] > CLIENTS / 2
        # The gate says no.
        back = routing(server)
        back.unstage(undo)
        assert back.drain(PATIENCE).drained
        assert refused.stop(60) == 0
        assert share_of(server.url) == {"v0": CLIENTS}

        promoted = start("v2")
        routing(server).stage([promoted.url], 10, undo)
        last = routing(server)
        last.switch([promoted.url], undo)
        assert last.drain(PATIENCE).drained
        assert live.stop(60) == 0
        assert last.candidate() is None
        assert share_of(server.url) == {"v2": CLIENTS}
    finally:
        seen = load.stop()
    assert seen.failed == []
    assert {"get", "post", "slow", "upload", "socket"} <= set(seen.answered)
    assert set(seen.versions) == {"v0", "v1", "v2"}


def test_what_is_not_proved_is_taken_back_to_the_share_it_had(
    server: Server, start: Callable[[str], AppProcess]
) -> None:
    undo = Undos()
    live, tried, other = start("v0"), start("v1"), start("v2")
    send_to(server.router(), live.url)
    routing(server).stage([tried.url], 10, undo)
    undo.noted.clear()
    http = Http(server.url, host_header="demo")
    never = Check(http, Expectation("/", fields={"a": "b"}, headers=GREEN), 1.0)
    with pytest.raises(Unproved, match="who ask for the candidate"):
        routing(server, never).stage([other.url], 50, undo)
    assert version_at(server.url, **GREEN) == "v2"
    undo.run()
    having = routing(server).candidate()
    assert having is not None and (having.urls, having.weight) == ((tried.url,), 10)
    # One that is away can be given less, though nobody answers there any more.
    tried.kill()
    routing(server).stage([tried.url], 0, undo, verify=False)
    assert share_of(server.url) == {"v0": CLIENTS}
    # Somebody else has switched since this run began.
    late = routing(server)
    send_to(server.router(), other.url)
    with pytest.raises(Overtaken, match="somebody else was first"):
        late.stage([live.url], 10, undo)
    with pytest.raises(Overtaken, match="somebody else was first"):
        late.unstage(undo)
    assert version_at(server.url) == "v2"


def test_the_module_makes_any_address_a_candidate(
    kind: str, server: Server, start: Callable[[str], AppProcess], tmp_path: Path
) -> None:
    options = {
        "router": kind,
        "api_url": server.url,
        kind: server.options(),
        "service": "demo",
        "host_header": "demo",
        "health_path": "/health",
        "prove_path": "/",
    }

    def run(**more: object) -> Ended:
        return run_module(tmp_path, "proxy_candidate", {**options, **more})

    live, tried = start("v0"), start("v1")
    early = run(url=tried.url)
    assert early.code != 0 and "no live version that a candidate could" in early.result["msg"]
    send_to(server.router(), live.url)
    seen = run(url=tried.url, _ansible_check_mode=True).result
    assert seen["changed"] and seen["candidate_urls"] == []
    made = run(url=tried.url).result
    assert (made["candidate_urls"], made["weight"]) == ([tried.url], 0)
    assert not run(url=tried.url).result["changed"]
    assert version_at(server.url, **GREEN) == "v1"
    assert run(url=tried.url, weight=20).result["weight"] == 20
    gone = run(state="absent").result
    assert gone["changed"] and gone["drained"] and gone["live_urls"] == [live.url]
    assert version_at(server.url, **GREEN) == "v0"
    same = run(url=live.url)
    assert same.code != 0 and "is live, and so cannot be the candidate" in same.result["msg"]
    nobody = run(url="http://127.0.0.1:1", health_timeout=1)
    assert nobody.code != 0 and "did not answer as healthy" in nobody.result["msg"]
