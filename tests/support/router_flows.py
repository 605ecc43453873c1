# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every router of hosts: switches under load, and the candidate's share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import requests

from ansible_collections.immutable.delivery.plugins.module_utils.change import run
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import (
    Preparing,
    Router,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.canary import (
    CanaryRouter,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.plan import Wanted
from ansible_collections.immutable.delivery.plugins.module_utils.routers.switch import (
    RouteChange,
)
from tests.support.apps import AppProcess
from tests.support.router_daemon import start_version
from tests.support.router_load import RouterLoad, Seen

PATIENCE = 30.0
CLIENTS = 200


class Server(Protocol):
    """HaProxyServer or NginxServer."""

    url: str

    def restart(self) -> None: ...


def send_to(router: Router, *urls: str, service: str = "demo") -> RouteChange:
    """Make the whole change, as proxy_register does; none of *urls* removes the service."""
    change = RouteChange(
        router, Wanted(service, urls, prepare=bool(urls) and isinstance(router, Preparing))
    )
    run(change)
    return change


def version_at(url: str, **headers: str) -> str:
    """Which version answers; empty where none is there."""
    answer = requests.get(url, headers={"Host": "demo", **headers}, timeout=PATIENCE)
    return answer.headers.get("X-Version", "") if answer.status_code == 200 else ""


def switches_under_load(
    server: Server,
    router: Callable[[], Router],
    folder: Path,
    *,
    count: int,
    load: dict[str, Any],
) -> Seen:
    """Replace the version *count* times, each old one ended by SIGTERM after its drain."""
    with ExitStack() as stack:

        def start(number: int) -> AppProcess:
            app = start_version(folder, f"v{number}")
            stack.callback(app.kill)
            return app

        live = start(0)
        send_to(router(), live.url)
        traffic = RouterLoad(server.url, **load)
        traffic.start()
        try:
            for number in range(1, count + 1):
                candidate = start(number)
                change = send_to(router(), candidate.url)
                assert change.drain(PATIENCE).drained
                assert live.stop(60) == 0
                live = candidate
        finally:
            seen = traffic.stop()
        return seen


def nothing_lost(seen: Seen, count: int) -> None:
    assert seen.failed == []
    assert {"get", "post", "slow", "upload", "socket"} <= set(seen.answered)
    assert set(seen.versions) == {f"v{number}" for number in range(count + 1)}


def share_of(url: str) -> Counter[str]:
    """Ask as many different clients, and count the versions that they got."""
    with requests.Session() as session:
        session.headers["Host"] = "demo"
        return Counter(
            session.get(url, headers={"User-Agent": f"client {n}"}, timeout=PATIENCE).headers[
                "X-Version"
            ]
            for n in range(CLIENTS)
        )


def canary_walk(router: CanaryRouter, server: Server, blue: AppProcess, green: AppProcess) -> None:
    """Stage, try, promote, and take back: the same for every router of hosts."""
    send_to(router, blue.url)
    assert router.observe("demo").candidate is None
    # While there is none, asking for it is asking for what there is.
    assert version_at(server.url, **{"x-client-mode": "green"}) == "blue"

    router.stage("demo", [green.url])
    assert share_of(server.url) == {"blue": CLIENTS}
    assert version_at(server.url, **{"x-client-mode": "green"}) == "green"
    assert version_at(server.url, **{"x-client-mode": "blue"}) == "blue"

    router.stage("demo", [green.url], 30)
    candidate = router.observe("demo").candidate
    assert candidate is not None
    assert (candidate.urls, candidate.weight) == ((green.url,), 30)
    share = share_of(server.url)
    # Thirty percent of the clients, give or take five standard deviations.
    assert 28 < share["green"] < 92
    # Each client stays with its version, and whoever asks for one gets it.
    assert share_of(server.url) == share
    assert version_at(server.url, **{"x-client-mode": "green"}) == "green"
    assert version_at(server.url, **{"x-client-mode": "blue"}) == "blue"
    assert router.observe("demo").urls == (blue.url,)

    # It is in the files as well.
    server.restart()
    assert share_of(server.url) == share

    router.unstage("demo")
    router.unstage("demo")
    assert router.observe("demo").candidate is None
    assert share_of(server.url) == {"blue": CLIENTS}

    router.stage("demo", [green.url], 50)
    send_to(router, green.url)
    assert router.observe("demo").candidate is None
    assert share_of(server.url) == {"green": CLIENTS}
    assert version_at(server.url, **{"x-client-mode": "blue"}) == "green"
