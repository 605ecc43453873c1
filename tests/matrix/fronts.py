# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The routers of the matrices: one of each kind, with a service for each cell at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import requests

from tests.matrix.cells import DEMO, HAPROXY, NGINX
from tests.support.haproxy import haproxy_server
from tests.support.nginx import nginx_server
from tests.support.proxy import Proxy, start_proxy
from tests.support.router_flows import send_to
from tests.support.waiting import eventually

PATIENCE = 30.0


@dataclass(frozen=True)
class Front:
    """One service of one router.

    :param url: where its clients ask for it.
    :param api_url: the modules' option.
    :param options: the modules' option of the router's own name.
    """

    router: str
    route: str
    url: str
    api_url: str
    host: str | None
    options: Mapping[str, Any]
    forget: Callable[[], object]

    def get(self, path: str) -> requests.Response:
        """Ask as a client does."""
        headers = {"Host": self.host} if self.host else {}
        return requests.get(f"{self.url}{path}", headers=headers, timeout=PATIENCE)

    def version(self) -> str:
        """Which version answers; the status if none does, or that there was no answer."""
        try:
            answer = self.get("/1")
        except requests.RequestException as error:
            return type(error).__name__
        return answer.headers.get("X-Version", "") if answer.ok else str(answer.status_code)


@contextmanager
def open_fronts(folder: Path, routes: list[str]) -> Iterator[dict[tuple[str, str], Front]]:
    """The routers, by kind and service."""
    with ExitStack() as stack:
        services = [{"name": name, "hosts": [name], "health_path": "/alive"} for name in routes]
        haproxy = stack.enter_context(haproxy_server(folder / HAPROXY, services))
        nginx = stack.enter_context(nginx_server(folder / NGINX, services=routes))
        (folder / DEMO).mkdir()
        proxy = stack.enter_context(start_proxy(folder / DEMO))
        fronts = {}
        for route in routes:
            for kind, server in ((HAPROXY, haproxy), (NGINX, nginx)):
                fronts[kind, route] = Front(
                    kind,
                    route,
                    server.url,
                    server.url,
                    route,
                    {kind: server.options()},
                    partial(_forget, server.router, route),
                )
            fronts[DEMO, route] = Front(
                DEMO,
                route,
                f"{proxy.url}/{route}",
                proxy.url,
                None,
                {},
                partial(_forget_at_proxy, proxy, route),
            )
        yield fronts


def _forget_at_proxy(proxy: Proxy, route: str) -> None:
    """Remove a service; its file is synced, which takes long while images are built besides."""

    def removed() -> bool:
        with suppress(requests.Timeout):
            return proxy.api("DELETE", f"/{route}").status_code in (200, 404)
        return False

    eventually(removed, f"the demo proxy forgets {route}", 6 * PATIENCE)


def _forget(router: Callable[[], Any], route: str) -> None:
    send_to(router(), service=route)
