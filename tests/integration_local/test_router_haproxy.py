# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy as the router: a real one, its runtime API, its files, and what goes wrong with them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ansible_collections
import pytest
import requests

from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import (
    Overtaken,
    RouterError,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.haproxy_backends import (
    CandidateDown,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.haproxy_runtime import (
    Runtime,
)
from tests.support.apps import AppProcess
from tests.support.haproxy import HaProxyServer, haproxy_server
from tests.support.plays import run_play
from tests.support.router_daemon import free_port, start_version
from tests.support.router_flows import (
    PATIENCE,
    canary_walk,
    nothing_lost,
    send_to,
    switches_under_load,
    version_at,
)
from tests.support.router_load import RouterLoad
from tests.support.waiting import eventually

SERVICES: list[dict[str, Any]] = [
    {"name": "demo", "hosts": ["demo", "localhost"]},
    {"name": "other", "hosts": ["other"], "backends": 2, "servers": 2},
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HaProxyServer]:
    with haproxy_server(tmp_path / "haproxy", SERVICES) as running:
        yield running


def test_twenty_switches_under_load_lose_nothing(tmp_path: Path) -> None:
    with haproxy_server(tmp_path / "haproxy") as server:
        seen = switches_under_load(
            server, server.router, tmp_path, count=20, load={"rate": 100, "slow": 1.0}
        )
    nothing_lost(seen, 20)


def test_canary(server: HaProxyServer, versions: dict[str, AppProcess]) -> None:
    canary_walk(server.router(), server, versions["blue"], versions["green"])


def test_several_targets_share_the_load(
    server: HaProxyServer, versions: dict[str, AppProcess]
) -> None:
    router = server.router()
    send_to(router, versions["blue"].url, versions["green"].url)
    assert {version_at(server.url) for _time in range(20)} == {"blue", "green"}
    # One more is another backend, as is one less; what stays loses nothing by that.
    send_to(router, *(app.url for app in versions.values()))
    assert {version_at(server.url) for _time in range(30)} == {"blue", "green", "red"}
    send_to(router, versions["red"].url)
    assert {version_at(server.url) for _time in range(10)} == {"red"}
    assert router.observe("demo").urls == (versions["red"].url,)


def test_a_restart_keeps_what_stands_and_a_reload_too(
    server: HaProxyServer, versions: dict[str, AppProcess]
) -> None:
    send_to(server.router(), versions["blue"].url)
    send_to(server.router(), versions["green"].url)
    server.restart()
    # At once, without a check having been made.
    assert version_at(server.url) == "green"
    assert server.router().observe("demo").urls == (versions["green"].url,)
    # The previous version is still there to go back to.
    send_to(server.router(), versions["blue"].url)
    assert version_at(server.url) == "blue"
    send_to(server.router())
    server.restart()
    assert server.router().observe("demo").urls == ()
    assert version_at(server.url) == ""


def test_idle_connections_never_reach_a_version_that_has_been_replaced(
    server: HaProxyServer, versions: dict[str, AppProcess]
) -> None:
    router = server.router()
    with requests.Session() as client:
        client.headers["Host"] = "other"
        # There are two backends and three versions: each is given another address every time.
        for name in [*versions, *versions, *versions]:
            send_to(router, versions[name].url, service="other")
            answers = [client.post(server.url, data=b"x", timeout=PATIENCE) for _time in range(3)]
            assert [answer.headers["X-Version"] for answer in answers] == [name] * 3


def test_a_candidate_that_haproxy_does_not_find_up_gets_nothing(
    server: HaProxyServer, versions: dict[str, AppProcess], tmp_path: Path
) -> None:
    send_to(server.router(), versions["blue"].url)
    sick = start_version(tmp_path, "sick")
    try:
        requests.get(f"{sick.url}/sick", timeout=PATIENCE)
        before = server.map.read_bytes()
        with pytest.raises(CandidateDown) as raised:
            send_to(server.router(check_timeout=3), sick.url)
        text = str(raised.value)
        assert f"does not find {sick.url} up after 3 s" in text
        assert "L7STS" in text
        assert version_at(server.url) == "blue"
        assert server.map.read_bytes() == before
        assert server.router().observe("demo").urls == (versions["blue"].url,)
        # Nor does its address stay anywhere.
        assert sick.url not in [
            url for slot in server.router().backends.of("demo") for url in slot.urls
        ]
        with pytest.raises(CandidateDown):
            server.router(check_timeout=0.5).stage("demo", [sick.url])
    finally:
        sick.kill()
    with pytest.raises(CandidateDown, match="L4CON"):
        server.router(check_timeout=3).switch("demo", [sick.url])
    assert version_at(server.url) == "blue"


def test_a_backend_with_requests_is_not_given_away(
    server: HaProxyServer, versions: dict[str, AppProcess]
) -> None:
    router = server.router()
    blue, green, red = (versions[name].url for name in ("blue", "green", "red"))
    send_to(router, blue, service="other")
    answers: list[requests.Response] = []

    def ask() -> None:
        answers.append(
            requests.post(f"{server.url}/slow/3", headers={"Host": "other"}, timeout=PATIENCE)
        )

    client = threading.Thread(target=ask)
    client.start()
    eventually(lambda: router.backends.sessions()["other-a"] == 1, "the slow request")
    change = send_to(router, green, service="other")
    assert router.in_flight("other") == 1
    with pytest.raises(RouterError, match="other-a and other-b"):
        send_to(router, red, service="other")
    assert router.observe("other").urls == (green,)
    assert change.drain(PATIENCE).in_flight == 0
    client.join(PATIENCE)
    assert [answer.headers["X-Version"] for answer in answers] == ["blue"]
    send_to(router, red, service="other")
    assert router.observe("other").urls == (red,)


def test_of_two_callers_the_second_is_refused(
    server: HaProxyServer, versions: dict[str, AppProcess]
) -> None:
    blue, green, red = (versions[name].url for name in ("blue", "green", "red"))
    send_to(server.router(), blue)
    slow = server.router()
    assert slow.observe("demo").urls == (blue,)
    send_to(server.router(), green)
    with pytest.raises(Overtaken, match="somebody else was first: demo goes to " + green):
        slow.switch("demo", [red])
    with pytest.raises(Overtaken):
        slow.remove("demo")
    assert server.router().observe("demo").urls == (green,)


def test_many_callers_at_once_leave_one_version_and_nothing_torn(
    server: HaProxyServer, versions: dict[str, AppProcess]
) -> None:
    urls = [versions[name].url for name in ("blue", "green", "red")]
    outcomes: list[str] = []

    def call(url: str) -> None:
        try:
            send_to(server.router(), url)
            outcomes.append(url)
        except RouterError as error:
            outcomes.append(error.kind)

    callers = [threading.Thread(target=call, args=(url,)) for url in urls * 2]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE * 2)
    assert len(outcomes) == len(callers)
    standing = server.router().observe("demo").urls
    assert standing[0] in outcomes
    assert version_at(server.url) in versions
    server.restart()
    assert server.router().observe("demo").urls == standing


def test_a_version_that_stalls_for_a_moment_is_not_taken_for_down(
    server: HaProxyServer, tmp_path: Path
) -> None:
    stalls = start_version(tmp_path, "stalls")
    load = RouterLoad(server.url, host="demo", rate=50, slow=0.1, sockets=0)
    try:
        send_to(server.router(), stalls.url)
        load.start()
        eventually(lambda: load.seen.requests > 20, "some answers")
        stalls.process.send_signal(signal.SIGSTOP)
        # Longer than several checks come apart.
        before = load.seen.requests
        time.sleep(2)
        stalls.process.send_signal(signal.SIGCONT)
        eventually(lambda: load.seen.requests > before + 100, "answers again")
    finally:
        seen = load.stop()
        stalls.kill()
    assert seen.failed == []


# What goes wrong.


def test_away_before_and_in_the_middle_of_a_switch(
    server: HaProxyServer, versions: dict[str, AppProcess]
) -> None:
    blue, green = versions["blue"].url, versions["green"].url
    send_to(server.router(), blue)
    before = server.map.read_bytes()
    router = server.router()
    told = router.runtime.tell

    class Dies(Runtime):
        def tell(self, command: str) -> None:
            if command.startswith("set map"):
                server.kill()
            told(command)

    router.runtime = Dies(server.socket, 30)
    with pytest.raises(RouterError) as raised:
        send_to(router, green)
    text = str(raised.value)
    assert "HAProxy does not listen at" in text
    assert "Could not be rolled back" in text
    assert server.map.read_bytes() == before
    with pytest.raises(RouterError, match="Nothing was changed"):
        send_to(server.router(), green)
    server.start()
    assert version_at(server.url) == "blue"
    assert sorted(path.name for path in server.folder.glob(".*")) == []


def test_a_full_disk_or_a_missing_right_is_found_out_before_the_switch(
    server: HaProxyServer, versions: dict[str, AppProcess]
) -> None:
    send_to(server.router(), versions["blue"].url)
    router = server.router()
    router.state_file = Path("/dev/full/servers.state")
    with pytest.raises(RouterError, match=r"/dev/full/servers.state cannot be written"):
        send_to(router, versions["green"].url)
    assert version_at(server.url) == "blue"
    router = server.router()
    router.map_file = server.folder / "elsewhere.map"
    with pytest.raises(RouterError, match="is not there"):
        send_to(router, versions["green"].url)


ASK = """
import os, sys
sys.path.insert(0, sys.argv[2])
from ansible_collections.immutable.delivery.plugins.module_utils.routers.haproxy_runtime import (
    Runtime, RouterError)
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    Runtime(sys.argv[1], 5).ask("show version")
except RouterError as error:
    print(error)
"""


def test_a_socket_without_rights(server: HaProxyServer) -> None:
    Path(server.socket).chmod(0o000)
    # What root may is no test of rights.
    packages = str(Path(ansible_collections.__path__[0]).parent)
    done = subprocess.run(
        [sys.executable, "-c", ASK, server.socket, packages],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"no right to use HAProxy's socket {server.socket}" in done.stdout
    assert "member of the socket's group" in done.stdout


def test_a_socket_of_too_low_a_level(tmp_path: Path, versions: dict[str, AppProcess]) -> None:
    with haproxy_server(tmp_path / "haproxy") as server:
        conf = server.conf.read_text()
        server.conf.write_text(conf.replace("level admin", "level operator"))
        server.restart()
        with pytest.raises(RouterError, match=r"does not allow.*level admin"):
            send_to(server.router(), versions["blue"].url)


def test_a_service_or_a_map_that_the_configuration_lacks(
    server: HaProxyServer, versions: dict[str, AppProcess]
) -> None:
    with pytest.raises(RouterError, match=r"no backends for unknown: unknown-a, unknown-b"):
        send_to(server.router(), versions["blue"].url, service="unknown")
    router = server.router()
    router.map_name = "/nowhere.map"
    with pytest.raises(RouterError, match="does not have the map"):
        router.observe("demo")
    urls = [f"http://127.0.0.1:{port}" for port in (1, 2, 3)]
    with pytest.raises(RouterError, match="room for 2 addresses, not for 3"):
        send_to(server.router(), *urls, service="other")


def test_over_tcp(tmp_path: Path, versions: dict[str, AppProcess]) -> None:
    with haproxy_server(tmp_path / "haproxy") as server:
        port = free_port()
        conf = server.conf.read_text()
        line = f"    stats socket ipv4@127.0.0.1:{port} level admin\n"
        server.conf.write_text(conf.replace("global\n", "global\n" + line, 1))
        server.restart()
        router = server.router()
        router.runtime = router.backends.runtime = Runtime(f"127.0.0.1:{port}", 30)
        send_to(router, versions["blue"].url)
        assert version_at(server.url) == "blue"


# As a play has it.


def test_proxy_register(server: HaProxyServer, versions: dict[str, AppProcess]) -> None:
    def task(name: str, **options: Any) -> dict[str, Any]:
        register = {
            "router": "haproxy",
            "api_url": server.url,
            "haproxy": server.options(),
            "service": "demo",
            "host_header": "demo",
            "drain_timeout": 20,
            "prove_timeout": 2,
            **options,
        }
        return {"name": name, "immutable.delivery.proxy_register": register}

    blue, green = versions["blue"].url, versions["green"].url
    play = run_play(
        [
            task("First", url=blue),
            task("Second", url=green, prove_path="/", prove_fields={"version": "green"}),
            task("Again", url=green),
            {
                **task("Unproved", url=blue, prove_path="/", prove_fields={"version": "red"}),
                "ignore_errors": True,
            },
            task("Remove", state="absent"),
        ]
    )
    second, unproved = play.task("Second"), play.task("Unproved")
    assert play.task("First").changed
    assert (second["previous_url"], second["url"]) == (blue, green)
    assert (second["proved"], second["drained"]) == (True, True)
    assert [step["step"].split()[0] for step in second["steps"]][-3:] == ["send", "prove", "drain"]
    assert not play.task("Again").changed
    assert unproved.failed
    assert f"demo goes to {green}." in unproved.msg
    assert (play.task("Remove")["previous_url"], play.task("Remove")["url"]) == (green, None)
    assert server.router().observe("demo").urls == ()
