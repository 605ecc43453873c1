# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy and nginx restarted at each moment of a switch: there is always a version that serves.

What serves then is what the router says, and what a further restart keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.change import run
from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.routers import haproxy as module
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import Preparing
from ansible_collections.immutable.delivery.plugins.module_utils.routers.files import Prepared
from ansible_collections.immutable.delivery.plugins.module_utils.routers.haproxy import HaProxy
from ansible_collections.immutable.delivery.plugins.module_utils.routers.haproxy_runtime import (
    Runtime,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.nginx import Nginx
from ansible_collections.immutable.delivery.plugins.module_utils.routers.nginx_process import (
    NginxProcess,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.plan import Wanted
from ansible_collections.immutable.delivery.plugins.module_utils.routers.switch import RouteChange
from tests.support.apps import AppProcess
from tests.support.haproxy import HaProxyServer, haproxy_server
from tests.support.nginx import NginxServer, nginx_server
from tests.support.router_daemon import start_version
from tests.support.router_flows import send_to, version_at
from tests.support.waiting import eventually


class Restarting(Runtime):
    """The runtime API of an HAProxy that is restarted before the n-th command from now."""

    def __init__(self, server: HaProxyServer, number: int) -> None:
        super().__init__(server.socket, 30)
        object.__setattr__(self, "server", server)
        object.__setattr__(self, "left", number)

    def ask(self, command: str) -> str:
        # One that waits for checks asks as often as it takes, so its questions are not counted.
        if command != "show stat":
            object.__setattr__(self, "left", self.left - 1)  # type: ignore[attr-defined]
            if self.left == 0:  # type: ignore[attr-defined]
                self.server.restart()  # type: ignore[attr-defined]
        return super().ask(command)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, AppProcess]]:
    folder = tmp_path_factory.mktemp("versions")
    with ExitStack() as stack:
        apps = {name: start_version(folder, name) for name in ("blue", "green")}
        for app in apps.values():
            stack.callback(app.kill)
        yield apps


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HaProxyServer]:
    with haproxy_server(tmp_path_factory.mktemp("haproxy")) as one:
        yield one


def anew(server: HaProxyServer, live: AppProcess) -> None:
    """Have HAProxy know one version only, in its files too."""
    server.kill()
    server.map.write_text("")
    server.state.write_text("")
    server.start()
    send_to(server.router(), live.url)


def switch(router: HaProxy | Nginx, url: str) -> bool:
    """Switch as a module does; return whether it succeeded."""
    try:
        run(RouteChange(router, Wanted("demo", (url,), prepare=isinstance(router, Preparing))))
    except DeliveryError:
        return False
    return True


def router_with(server: HaProxyServer, runtime: Runtime) -> HaProxy:
    router = server.router()
    return HaProxy(
        runtime,
        router.url,
        map_name=router.map_name,
        map_file=router.map_file,
        state_file=router.state_file,
        check_timeout=30,
    )


def serves(
    server: HaProxyServer | NginxServer, versions: dict[str, AppProcess], done: bool
) -> None:
    """Make sure that a version serves, the right one, and still does after another restart."""
    (url,) = server.router().observe("demo").urls
    name = next(name for name, app in versions.items() if app.url == url)
    assert name == "green" or not done
    assert version_at(server.url) == name
    server.restart()
    # HAProxy checks what it has just read.
    assert eventually(lambda: version_at(server.url), "a version serves") == name
    assert server.router().observe("demo").urls == (url,)


def test_haproxy_restarted_before_each_command(
    server: HaProxyServer, versions: dict[str, AppProcess]
) -> None:
    succeeded, number = 0, 0
    while True:
        number += 1
        anew(server, versions["blue"])
        runtime = Restarting(server, number)
        done = switch(router_with(server, runtime), versions["green"].url)
        serves(server, versions, done)
        succeeded += done
        if runtime.left > 0:  # type: ignore[attr-defined]
            break
    # Before the last of them it was restarted in each place, and the switch was made all the same.
    assert number > 10
    assert succeeded >= number - 3, (succeeded, number)


@pytest.mark.parametrize("after", [False, True])
def test_haproxy_restarted_as_its_files_are_replaced(
    server: HaProxyServer,
    versions: dict[str, AppProcess],
    monkeypatch: pytest.MonkeyPatch,
    after: bool,
) -> None:
    anew(server, versions["blue"])
    restarts: list[Callable[[], None]] = [server.restart]

    class Late(Prepared):
        def commit(self) -> None:
            if after:
                super().commit()
            if restarts:
                restarts.pop()()
            if not after:
                super().commit()

    monkeypatch.setattr(module, "Prepared", Late)
    done = switch(server.router(), versions["green"].url)
    monkeypatch.undo()
    assert done
    serves(server, versions, done)


@pytest.mark.parametrize("moment", ["test", "before the reload", "after the reload"])
def test_nginx_restarted_during_a_switch(
    tmp_path: Path, versions: dict[str, AppProcess], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    with nginx_server(tmp_path) as server:
        send_to(server.router(), versions["blue"].url)
        restarts: list[Callable[[], None]] = [server.restart]
        name = "test" if moment == "test" else "reload"
        original = getattr(NginxProcess, name)

        def late(process: NginxProcess) -> None:
            if moment == "after the reload":
                original(process)
            if restarts:
                restarts.pop()()
            if moment != "after the reload":
                original(process)

        monkeypatch.setattr(NginxProcess, name, late)
        done = switch(server.router(), versions["green"].url)
        monkeypatch.undo()
        serves(server, versions, done)
