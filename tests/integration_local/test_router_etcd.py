# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry in a real etcd, the registrars that follow it, and what goes wrong between them."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import (
    Candidate,
    Overtaken,
    RouterError,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_model import Keys
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_router import (
    KvRouter,
    NotFollowed,
    forget_node,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_store import StoreAway
from tests.support.apps import AppProcess
from tests.support.etcd import (
    PREFIX,
    EtcdServer,
    etcd_server,
    registrar,
    router_arguments,
    runs,
    start_registrar,
)
from tests.support.haproxy import HaProxyServer, haproxy_server
from tests.support.nginx import nginx_server
from tests.support.plays import run_play
from tests.support.router_daemon import start_version
from tests.support.router_flows import (
    PATIENCE,
    canary_walk,
    nothing_lost,
    send_to,
    share_of,
    switches_under_load,
    version_at,
)
from tests.support.router_load import RouterLoad
from tests.support.waiting import eventually

SERVICES: list[dict[str, Any]] = [{"name": "demo", "hosts": ["demo", "localhost"]}]


class Front:
    """HAProxy, its registrar and etcd; as `server` of the flows that all routers have."""

    def __init__(self, etcd: EtcdServer, haproxy: HaProxyServer, app: AppProcess) -> None:
        self.etcd = etcd
        self.haproxy = haproxy
        self.app = app
        self.url = haproxy.url

    def router(self, **options: Any) -> KvRouter:
        return self.etcd.router(self.url, **options)

    def restart(self) -> None:
        self.haproxy.restart()

    def says(self, service: str = "demo") -> Any:
        return self.router().state().applied[service]["front"]


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with (
        etcd_server(tmp_path / "etcd") as etcd,
        haproxy_server(tmp_path / "haproxy", SERVICES) as haproxy,
        registrar(tmp_path, etcd, haproxy) as app,
    ):
        yield Front(etcd, haproxy, app)


def follows(front: Front, node: str) -> bool:
    state = front.router().state()
    said = state.applied["demo"].get(node)
    return said is not None and said.revision == state.decision("demo").revision and not said.error


def test_twenty_switches_under_load_lose_nothing(front: Front, tmp_path: Path) -> None:
    seen = switches_under_load(
        front, front.router, tmp_path, count=20, load={"rate": 100, "slow": 1.0, "host": "demo"}
    )
    nothing_lost(seen, 20)


def test_nginx_follows_as_well(tmp_path: Path, versions: dict[str, AppProcess]) -> None:
    blue, green = versions["blue"].url, versions["green"].url
    with (
        etcd_server(tmp_path / "etcd") as etcd,
        nginx_server(tmp_path / "nginx") as nginx,
        registrar(tmp_path, etcd, nginx),
    ):
        for url, version in ((blue, "blue"), (green, "green")):
            change = send_to(etcd.router(nginx.url), url)
            assert change.drain(PATIENCE).drained
            assert version_at(nginx.url) == version
        send_to(etcd.router(nginx.url))
        assert version_at(nginx.url) == ""
        assert etcd.router(nginx.url).observe("demo").urls == ()


def test_all_routers_follow_or_none_does(
    front: Front, tmp_path: Path, versions: dict[str, AppProcess]
) -> None:
    blue, green, red = (versions[name].url for name in ("blue", "green", "red"))
    with haproxy_server(tmp_path / "second", SERVICES) as second:
        with registrar(tmp_path, front.etcd, second, node="second") as app:
            send_to(front.router(), blue)
            assert (version_at(front.url), version_at(second.url)) == ("blue", "blue")
            assert send_to(front.router(), green).drain(PATIENCE).drained
            assert (version_at(front.url), version_at(second.url)) == ("green", "green")
            # One of them is away: found out before a decision, and in the middle of one.
            second.kill()
            with pytest.raises(NotFollowed, match="the router of second does not prepare"):
                send_to(front.router(), red)
            # The other one had found it healthy, and gives it up.
            slots = front.haproxy.router().backends
            eventually(
                lambda: red not in [url for slot in slots.of("demo") for url in slot.urls],
                "it is given up",
            )
            with pytest.raises(NotFollowed) as raised:
                front.router().switch("demo", [red])
            text = str(raised.value)
            assert "the router of second does not follow: HAProxy does not listen at" in text
            assert f"The registration is as it was before: demo goes to {green}" in text
            eventually(lambda: version_at(front.url) == "green", "the other one is back")
            second.start()
            assert version_at(second.url) == "green"
            # Its registrar goes on by itself.
            eventually(lambda: follows(front, "second"), "it follows again")
            assert app.stop() == 0
        # Its router still sends traffic, and so nothing may be switched behind its back.
        assert front.router().observe("demo").urls == (green,)
        with pytest.raises(NotFollowed, match="the registrar of second does not run"):
            send_to(front.router(), red)
        send_to(front.router(nodes=["front"]), red)
        assert (version_at(front.url), version_at(second.url)) == ("red", "green")
    forget_node(front.etcd.store(), Keys(PREFIX), "second")
    send_to(front.router(), blue)
    assert front.router().state().nodes == {"front"}


def test_of_two_callers_the_second_is_refused(
    front: Front, versions: dict[str, AppProcess]
) -> None:
    blue, green, red = (versions[name].url for name in ("blue", "green", "red"))
    send_to(front.router(), blue)
    slow = front.router()
    assert slow.observe("demo").urls == (blue,)
    send_to(front.router(), green)
    with pytest.raises(Overtaken, match=f"somebody else was first: demo goes to {green}"):
        slow.switch("demo", [red])
    with pytest.raises(Overtaken):
        slow.remove("demo")
    # There and back is a change as well, which addresses alone do not tell.
    send_to(front.router(), blue)
    with pytest.raises(Overtaken):
        slow.switch("demo", [red])
    assert version_at(front.url) == "blue"


def test_many_callers_at_once_leave_one_version(
    front: Front, versions: dict[str, AppProcess]
) -> None:
    urls = [versions[name].url for name in ("blue", "green", "red")]
    outcomes: list[str] = []

    def call(url: str) -> None:
        try:
            router = front.router()
            router.observe("demo")
            router.switch("demo", [url])
            outcomes.append(url)
        except RouterError as error:
            outcomes.append(error.kind)

    callers = [threading.Thread(target=call, args=(url,)) for url in urls * 2]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE * 2)
    assert len(outcomes) == len(callers)
    assert set(outcomes) & set(urls)
    (standing,) = front.router().observe("demo").urls
    assert standing in outcomes
    assert version_at(front.url) == next(
        name for name, app in versions.items() if app.url == standing
    )


def test_a_candidate_that_is_not_healthy_gets_nothing(
    front: Front, versions: dict[str, AppProcess], tmp_path: Path
) -> None:
    send_to(front.router(), versions["blue"].url)
    sick = start_version(tmp_path, "sick")
    try:
        requests.get(f"{sick.url}/sick", timeout=PATIENCE)
        short = router_arguments("haproxy", front.haproxy.options(check_timeout=2))
        assert front.app.stop() == 0
        again = start_registrar(tmp_path, front.etcd.urls, short)
        try:
            eventually(runs(front.etcd), "the registrar runs again")
            with pytest.raises(NotFollowed, match=f"does not find {sick.url} up"):
                send_to(front.router(), sick.url)
        finally:
            again.kill()
        slots = front.haproxy.router().backends.of("demo")
        assert sick.url not in [url for slot in slots for url in slot.urls]
        assert version_at(front.url) == "blue"
        assert front.router().state().candidates == {}
    finally:
        sick.kill()


def test_an_instance_that_dies_loses_its_registration_and_comes_back(
    front: Front, tmp_path: Path
) -> None:
    one, two = (start_version(tmp_path, name) for name in ("one", "two"))
    try:
        send_to(front.router(), one.url, two.url)
        eventually(
            lambda: front.router().state().alive("demo") == {one.url, two.url}, "both registered"
        )
        two.kill()
        eventually(lambda: front.says().targets == (one.url,), "the dead one is out")
        assert {version_at(front.url) for _time in range(5)} == {"one"}
        # What is decided stands as it was, so nobody deploys it away by chance.
        assert front.router().observe("demo").urls == (one.url, two.url)
        # The last one dies too: then what was is kept, since it may be the registry that errs.
        one.process.send_signal(signal.SIGSTOP)
        try:
            eventually(lambda: front.router().state().alive("demo") == set(), "none registered")
            assert front.says().targets == (one.url,)
        finally:
            one.process.send_signal(signal.SIGCONT)
        eventually(lambda: front.router().state().alive("demo") == {one.url}, "registered again")
        eventually(lambda: version_at(front.url) == "one", "it answers")
    finally:
        one.kill()
        two.kill()


def test_losing_leases_and_etcd_itself_costs_no_traffic(
    front: Front, versions: dict[str, AppProcess]
) -> None:
    blue, green, red = (versions[name].url for name in ("blue", "green", "red"))
    send_to(front.router(), blue, green)
    store = front.etcd.store()
    load = RouterLoad(front.url, host="demo", rate=60, slow=0.2, sockets=0, uploads=0)
    load.start()
    try:
        eventually(lambda: len(front.router().state().alive("demo")) == 2, "both registered")
        for lease in store.call("/v3/lease/leases", {})["leases"]:
            store.call("/v3/lease/revoke", {"ID": lease["ID"]})
        # By a new lease, and meanwhile none was thought to be all.
        eventually(
            lambda: (
                len(front.router().state().alive("demo")) == 2
                and front.router().state().running == {"front"}
            ),
            "registered again",
        )
        assert set(front.says().targets) == {blue, green}
        front.etcd.kill()
        eventually(lambda: "the registry is lost" in front.app.log(), "the loss is noticed")
        health = requests.get(f"{front.app.url}/health", timeout=PATIENCE)
        assert (health.status_code, health.json()["registry"]) == (200, False)
        assert version_at(front.url) in ("blue", "green")
        with pytest.raises(StoreAway, match=r"Nothing was changed.*majority of etcd"):
            router = front.router()
            router.store = front.etcd.store(timeout=2)
            send_to(router, red)
        front.etcd.start()
        eventually(lambda: front.router().state().running == {"front"}, "it is back")
        send_to(front.router(), red)
    finally:
        seen = load.stop()
    assert seen.failed == []
    assert version_at(front.url) == "red"


def test_a_registrar_restarted_between_and_during_deploys(
    front: Front, versions: dict[str, AppProcess], tmp_path: Path
) -> None:
    blue, green, red = (versions[name].url for name in ("blue", "green", "red"))
    arguments = router_arguments("haproxy", front.haproxy.options())
    send_to(front.router(), blue)
    front.app.kill()
    front.haproxy.restart()
    assert version_at(front.url) == "blue"
    # Decided while nobody followed, by somebody who knows better: done at the next start.
    store, keys = front.etcd.store(), Keys(PREFIX)
    store.put(keys.of("services", "demo"), json.dumps({"urls": [green]}))
    # Seen from outside, the traffic still goes where it did.
    eventually(lambda: not runs(front.etcd)(), "its lease has ended")
    with pytest.raises(NotFollowed, match="the registrar of front does not run"):
        front.router().observe("demo")
    app = start_registrar(tmp_path, front.etcd.urls, arguments)
    try:
        eventually(lambda: version_at(front.url) == "green", "it catches up")
        assert front.router().observe("demo").urls == (green,)
        # In the middle: it ends for good, and the decision is taken back.
        app.process.send_signal(signal.SIGSTOP)
        with pytest.raises(NotFollowed) as raised:
            front.router(follow_timeout=1).switch("demo", [red])
        text = str(raised.value)
        assert "the registrar of front did not follow within 1 s" in text
        assert f"The registration is as it was before: demo goes to {green}" in text
        app.process.send_signal(signal.SIGCONT)
        eventually(runs(front.etcd), "it runs")
        eventually(lambda: front.router().observe("demo").urls == (green,), "as it was")
        assert version_at(front.url) == "green"
    finally:
        app.kill()


def test_three_members_of_which_the_leader_is_stopped(
    tmp_path: Path, versions: dict[str, AppProcess]
) -> None:
    blue, green, red = (versions[name].url for name in ("blue", "green", "red"))
    with (
        etcd_server(tmp_path / "etcd", 3) as etcd,
        haproxy_server(tmp_path / "haproxy", SERVICES) as haproxy,
        registrar(tmp_path, etcd, haproxy),
    ):
        send_to(etcd.router(haproxy.url), blue)
        leader = etcd.leader()
        # It takes requests and answers none, which is worse than being gone.
        leader.freeze()
        send_to(etcd.router(haproxy.url), green)
        assert version_at(haproxy.url) == "green"
        leader.kill()
        send_to(etcd.router(haproxy.url), red)
        assert version_at(haproxy.url) == "red"
        # Of three one is left, which may not decide.
        next(member for member in etcd.members if member is not leader).kill()
        router = etcd.router(haproxy.url)
        router.store = etcd.store(timeout=3)
        with pytest.raises(StoreAway, match="etcd cannot be used"):
            send_to(router, blue)
        assert version_at(haproxy.url) == "red"


def test_a_socket_without_haproxy(front: Front, versions: dict[str, AppProcess]) -> None:
    send_to(front.router(), versions["blue"].url)
    front.haproxy.kill()
    with pytest.raises(NotFollowed, match="HAProxy does not listen at"):
        send_to(front.router(), versions["green"].url)
    front.haproxy.start()
    eventually(lambda: not front.says().error, "the registrar tries again")
    assert version_at(front.url) == "blue"


def test_who_is_tried_is_tried_by_every_router(
    front: Front, versions: dict[str, AppProcess], tmp_path: Path
) -> None:
    blue, green = versions["blue"], versions["green"]
    canary_walk(front.router(), front, blue, green)
    # An instance of the live version dies: the trial goes on.
    other = start_version(tmp_path, "other")
    try:
        send_to(front.router(), blue.url, other.url)
        front.router().stage("demo", [green.url], 40)
        eventually(lambda: other.url in front.router().state().alive("demo"), "registered")
        other.kill()
        eventually(lambda: front.says().targets == (blue.url,), "the dead one is out")
        assert set(share_of(front.url)) == {"blue", "green"}
    finally:
        other.kill()
    # Another router, that cannot find the candidate up, has both keep what there was.
    with haproxy_server(tmp_path / "second", SERVICES) as second:
        with registrar(tmp_path, front.etcd, second, node="second"):
            eventually(lambda: follows(front, "second"), "it follows, and tries the same")
            assert version_at(second.url, **{"x-client-mode": "green"}) == "green"
            second.kill()
            with pytest.raises(NotFollowed, match="the router of second does not follow"):
                front.router().unstage("demo")
            eventually(lambda: follows(front, "front"), "the other one is back")
            candidate = front.router(nodes=["front"]).observe("demo").candidate
            assert candidate == Candidate((green.url,), 40)
        assert version_at(front.url, **{"x-client-mode": "green"}) == "green"


def test_nobody_follows_yet(tmp_path: Path) -> None:
    with etcd_server(tmp_path / "etcd") as etcd:
        router = etcd.router("http://127.0.0.1")
        with pytest.raises(RouterError, match="no registrar has ever reported below /delivery/"):
            send_to(router, "http://127.0.0.1:1")
        assert router.store.read("/") == {}


# As a play has it.


def test_proxy_register(front: Front, versions: dict[str, AppProcess]) -> None:
    def task(name: str, **options: Any) -> dict[str, Any]:
        register = {
            "router": "etcd",
            "api_url": front.url,
            "etcd": front.etcd.options(),
            "service": "demo",
            "host_header": "demo",
            "drain_timeout": 20,
            "prove_timeout": 2,
            **options,
        }
        return {"name": name, "immutable.delivery.proxy_register": register}

    blue, green = versions["blue"].url, versions["green"].url
    send_to(front.router(), blue)
    play = run_play(
        [
            task("Second", url=green, prove_path="/", prove_fields={"version": "green"}),
            task("Again", url=green),
            {
                **task("Unproved", url=blue, prove_path="/", prove_fields={"version": "red"}),
                "ignore_errors": True,
            },
        ]
    )
    second, unproved = play.task("Second"), play.task("Unproved")
    assert (second["previous_url"], second["url"]) == (blue, green)
    assert (second["proved"], second["drained"]) == (True, True)
    assert not play.task("Again").changed
    assert unproved.failed
    assert f"demo goes to {green}. The candidate is given up." in unproved.msg
    assert version_at(front.url) == "green"
