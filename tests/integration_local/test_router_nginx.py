# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nginx as the router: a real one, its files, its workers, and what goes wrong with them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import (
    Overtaken,
    RouterError,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.nginx import Nginx
from ansible_collections.immutable.delivery.plugins.module_utils.routers.nginx_process import (
    NginxProcess,
)
from tests.support.apps import AppProcess
from tests.support.nginx import NginxServer, nginx_server
from tests.support.plays import run_play
from tests.support.router_flows import (
    PATIENCE,
    canary_walk,
    nothing_lost,
    send_to,
    switches_under_load,
    version_at,
)
from tests.support.waiting import eventually


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NginxServer]:
    with nginx_server(tmp_path / "nginx", services=("demo", "other")) as running:
        yield running


def file_of(server: NginxServer, service: str = "demo") -> Path:
    return server.files / f"{service}.conf"


def test_twenty_switches_under_load_lose_nothing(tmp_path: Path) -> None:
    with nginx_server(tmp_path / "nginx") as server:
        seen = switches_under_load(
            server, server.router, tmp_path, count=20, load={"rate": 100, "slow": 1.0}
        )
    nothing_lost(seen, 20)


def test_canary(server: NginxServer, versions: dict[str, AppProcess]) -> None:
    canary_walk(server.router(), server, versions["blue"], versions["green"])


def test_several_targets_share_the_load(
    server: NginxServer, versions: dict[str, AppProcess]
) -> None:
    router = server.router()
    send_to(router, versions["blue"].url, versions["green"].url)
    assert {version_at(server.url) for _time in range(20)} == {"blue", "green"}
    assert router.observe("demo").urls == (versions["blue"].url, versions["green"].url)


def test_first_version_restart_removal(
    server: NginxServer, versions: dict[str, AppProcess]
) -> None:
    assert server.router().observe("demo").urls == ()
    assert version_at(server.url) == ""
    send_to(server.router(), versions["green"].url)
    server.restart()
    assert version_at(server.url) == "green"
    assert server.router().observe("demo").urls == (versions["green"].url,)
    send_to(server.router())
    assert server.router().observe("demo").urls == ()
    assert requests.get(server.url, timeout=PATIENCE).status_code == 503
    server.restart()
    assert requests.get(server.url, timeout=PATIENCE).status_code == 503


def test_the_drain_is_over_when_the_old_workers_are_gone(
    server: NginxServer, versions: dict[str, AppProcess]
) -> None:
    send_to(server.router(), versions["blue"].url)
    answers: list[requests.Response] = []

    def ask() -> None:
        answers.append(requests.post(f"{server.url}/slow/3", timeout=PATIENCE))

    client = threading.Thread(target=ask)
    client.start()
    router = server.router()
    # nginx does not tell that the request has reached blue; the connection does.
    eventually(lambda: connected(versions["blue"]), "the slow request")
    change = send_to(router, versions["green"].url)
    assert version_at(server.url) == "green"
    assert router.in_flight("demo") == 1
    # Another service was not switched, so nothing of it is left anywhere.
    assert router.in_flight("other") == 0
    drained = change.drain(PATIENCE)
    assert (drained.drained, drained.in_flight) == (True, 0)
    client.join(PATIENCE)
    assert [answer.headers["X-Version"] for answer in answers] == ["blue"]


def connected(app: AppProcess) -> bool:
    """Whether somebody has a connection to *app*."""
    port = int(app.url.rpartition(":")[2])
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(
        line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "01" for line in lines
    )


def test_a_bad_configuration_is_refused_and_the_old_file_stays(
    server: NginxServer, versions: dict[str, AppProcess]
) -> None:
    send_to(server.router(), versions["blue"].url)
    before = file_of(server).read_bytes()
    workers = {worker.pid for worker in server.process().workers()}
    (server.files / "somebody.conf").write_text("upstream demo_live { server 127.0.0.1:9; }\n")
    with pytest.raises(RouterError) as raised:
        send_to(server.router(), versions["green"].url)
    text = str(raised.value)
    assert 'nginx refuses its configuration: duplicate upstream "demo_live"' in text
    assert f"{file_of(server)} is as it was before." in text
    assert file_of(server).read_bytes() == before
    assert version_at(server.url) == "blue"
    # It was not even told.
    assert {worker.pid for worker in server.process().workers()} == workers
    (server.files / "somebody.conf").unlink()
    send_to(server.router(), versions["green"].url)
    assert version_at(server.url) == "green"


class Untold(NginxProcess):
    """A test that passes, and a reload that nginx then does not make."""

    def reload(self) -> None:
        raise RouterError("the machine stopped here")


def test_a_file_that_nginx_has_not_read_is_not_what_stands(
    server: NginxServer, versions: dict[str, AppProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    send_to(server.router(), versions["blue"].url)
    router = server.router()
    router.process = Untold(router.process.command, str(server.conf), server.pid_file)
    # As if power had failed between file and reload: nothing is put back.
    monkeypatch.setattr(Nginx, "_put_back", lambda *args: None)
    with pytest.raises(RouterError, match="the machine stopped here"):
        router.switch("demo", [versions["green"].url])
    assert versions["green"].url in file_of(server).read_text()
    assert server.router().observe("demo").urls == (versions["blue"].url,)
    assert version_at(server.url) == "blue"
    # So the same switch again is not taken for made.
    send_to(server.router(), versions["green"].url)
    assert version_at(server.url) == "green"
    assert server.router().observe("demo").urls == (versions["green"].url,)


def test_nginx_that_keeps_its_workers_has_not_been_switched(
    server: NginxServer, versions: dict[str, AppProcess]
) -> None:
    send_to(server.router(), versions["blue"].url)
    before = file_of(server).read_bytes()

    class Deaf(NginxProcess):
        def master(self) -> int:
            # A reload that fails after its test, as where an address to listen on is taken.
            conf = server.conf.read_text()
            server.conf.write_text(conf + "nonsense;\n")
            return super().master()

        def test(self) -> None:
            return

    router = server.router()
    whole = server.conf.read_text()
    router.process = Deaf(router.process.command, str(server.conf), server.pid_file, timeout=1)
    with pytest.raises(RouterError, match="still serves with its old configuration 1 s after"):
        router.switch("demo", [versions["green"].url])
    assert file_of(server).read_bytes() == before
    server.conf.write_text(whole)
    assert version_at(server.url) == "blue"
    assert server.router().observe("demo").urls == (versions["blue"].url,)


def test_of_two_callers_the_second_is_refused(
    server: NginxServer, versions: dict[str, AppProcess]
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


def test_a_file_that_somebody_else_changed_is_left_alone(
    server: NginxServer, versions: dict[str, AppProcess]
) -> None:
    send_to(server.router(), versions["blue"].url)
    text = file_of(server).read_text()
    port = versions["blue"].url.rpartition(":")[2]
    file_of(server).write_text(text.replace(f"server 127.0.0.1:{port};", "server 127.0.0.1:9;"))
    with pytest.raises(RouterError, match="was changed by somebody else"):
        send_to(server.router(), versions["green"].url)
    assert "server 127.0.0.1:9;" in file_of(server).read_text()


def test_nginx_that_does_not_run(server: NginxServer, versions: dict[str, AppProcess]) -> None:
    send_to(server.router(), versions["blue"].url)
    before = file_of(server).read_bytes()
    server.stop()
    with pytest.raises(RouterError, match=r"nginx does not run here: .*Nothing was changed"):
        send_to(server.router(), versions["green"].url)
    server.pid_file.write_text("1\n")
    with pytest.raises(RouterError, match="process 1 is not the master of nginx"):
        send_to(server.router(), versions["green"].url)
    assert file_of(server).read_bytes() == before


def test_nginx_that_ends_in_the_middle_of_a_switch(
    server: NginxServer, versions: dict[str, AppProcess]
) -> None:
    send_to(server.router(), versions["blue"].url)
    before = file_of(server).read_bytes()

    class Ends(NginxProcess):
        def test(self) -> None:
            super().test()
            server.stop()

    router = server.router()
    router.process = Ends(router.process.command, str(server.conf), server.pid_file)
    with pytest.raises(RouterError, match="nginx does not run here"):
        send_to(router, versions["green"].url)
    assert file_of(server).read_bytes() == before
    server.start()
    assert version_at(server.url) == "blue"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:80/path", "http://a;b:80", "ftp://127.0.0.1", "http://127.0.0.1:x"]
)
def test_addresses_that_nginx_cannot_have(server: NginxServer, url: str) -> None:
    before = file_of(server).read_bytes()
    with pytest.raises(RouterError, match="nginx cannot send traffic to"):
        server.router().switch("demo", [url])
    assert file_of(server).read_bytes() == before


# As a play has it.


def test_proxy_register(server: NginxServer, versions: dict[str, AppProcess]) -> None:
    def task(name: str, **options: Any) -> dict[str, Any]:
        register = {
            "router": "nginx",
            "api_url": server.url,
            "nginx": server.options(),
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
        ]
    )
    second, unproved = play.task("Second"), play.task("Unproved")
    assert (second["previous_url"], second["url"]) == (blue, green)
    assert (second["proved"], second["drained"]) == (True, True)
    assert not play.task("Again").changed
    assert f"demo goes to {green}." in unproved.msg
    assert version_at(server.url) == "green"
