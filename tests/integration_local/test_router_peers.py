# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several hosts on one route, one after another as `serial: 1` does it, at each kind of router.

127.0.0.1, 127.0.0.2 and 127.0.0.3 are the hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.any_router import KINDS, AnyRouter, any_router
from tests.support.apps import AppProcess
from tests.support.modules import Ended, run_module
from tests.support.router_daemon import start_version
from tests.support.router_load import RouterLoad, router_load

HOSTS = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
Start = Callable[[str, str], AppProcess]


@pytest.fixture(params=KINDS)
def router(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyRouter]:
    with any_router(str(request.param), tmp_path) as one:
        yield one


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(version: str, host: str) -> AppProcess:
            app = start_version(tmp_path, f"{version}-{host}", host)
            stack.callback(app.kill)
            return app

        yield start


def register(router: AnyRouter, folder: Path, *urls: str, **options: Any) -> Ended:
    arguments = {
        **router.options,
        "service": "demo",
        "urls": list(urls),
        "prove_path": "/",
        "drain_timeout": 30,
        **options,
    }
    return run_module(folder, "proxy_register", arguments)


def test_hosts_one_after_another_lose_nothing_and_all_serve(
    router: AnyRouter, start: Start, tmp_path: Path
) -> None:
    def put(version: str, host: str) -> AppProcess:
        app = start(version, host)
        done = register(router, tmp_path, app.url, peers=HOSTS)
        assert done.code == 0, done.output
        assert done.result["changed"]
        assert not done.result.get("warnings")
        return app

    live = {HOSTS[0]: put("v1", HOSTS[0])}
    load = RouterLoad(router.url, host=router.host, rate=50, uploads=1, sockets=1)
    with router_load(load):
        # Two hosts come, then each gets another version.
        for version, host in [("v1", HOSTS[1]), ("v1", HOSTS[2]), *(("v2", h) for h in HOSTS)]:
            former = live.get(host)
            live[host] = put(version, host)
            if former is not None:
                assert former.stop(60) == 0
    assert load.seen.failed == []
    assert {f"v1-{HOSTS[0]}", *(f"v2-{host}" for host in HOSTS)} <= set(load.seen.versions)
    urls = {app.url for app in live.values()}
    assert set(router.router().observe("demo").urls) == urls
    # The second time nothing changes, on no host.
    for app in live.values():
        again = register(router, tmp_path, app.url, peers=HOSTS)
        assert (again.code, again.result["changed"]) == (0, False), again.output
        assert set(again.result["urls"]) == urls
    # One host leaves, and the others stay.
    gone = live.pop(HOSTS[1])
    left = register(router, tmp_path, gone.url, peers=HOSTS, state="absent")
    assert left.code == 0, left.output
    assert set(router.router().observe("demo").urls) == {app.url for app in live.values()}


def test_a_foreign_address_is_refused_or_named(
    router: AnyRouter, start: Start, tmp_path: Path
) -> None:
    one, other = start("v1", HOSTS[0]), start("v1", HOSTS[1])
    assert register(router, tmp_path, other.url).code == 0
    refused = register(router, tmp_path, one.url, peers=[HOSTS[2]])
    assert (refused.code, refused.result["kind"]) == (1, "foreign_address"), refused.output
    assert other.url in refused.result["msg"]
    assert "Nothing was changed." in refused.result["msg"]
    assert router.router().observe("demo").urls == (other.url,)
    # Without peers it is an explicit replacement, which says what it replaces.
    taken = register(router, tmp_path, one.url)
    assert taken.code == 0, taken.output
    assert other.url in str(taken.result["warnings"])
    assert router.router().observe("demo").urls == (one.url,)
    assert not register(router, tmp_path, one.url).result.get("warnings")
