# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One real router of each kind, for what has to hold for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.immutable.delivery.plugins.module_utils.http import Http
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import Router
from ansible_collections.immutable.delivery.plugins.module_utils.routers.registry import Registry
from tests.support.etcd import etcd_server, registrar
from tests.support.haproxy import haproxy_server
from tests.support.nginx import nginx_server
from tests.support.proxy import PATIENCE, start_proxy

KINDS = ("haproxy", "nginx", "registry", "etcd")


@dataclass
class AnyRouter:
    """A router with the service `demo`.

    :param url: where clients ask for the service.
    :param host: the host that they ask for, if the router chooses by it.
    :param options: what the modules need to know of it.
    :param server: what runs it.
    """

    kind: str
    url: str
    host: str | None
    options: dict[str, Any]
    server: Any

    def router(self) -> Router:
        """Return a router as each caller has one of its own."""
        if self.kind == "registry":
            return Registry(Http(self.server.url), PATIENCE)
        router: Router = (
            self.server.router(self.url) if self.kind == "etcd" else self.server.router()
        )
        return router


@contextmanager
def any_router(kind: str, folder: Path) -> Iterator[AnyRouter]:
    """A running router of that kind."""
    with ExitStack() as stack:
        yield _start(kind, folder, stack)


def _start(kind: str, folder: Path, stack: ExitStack) -> AnyRouter:
    if kind == "registry":
        folder.mkdir(parents=True, exist_ok=True)
        proxy = stack.enter_context(start_proxy(folder))
        options: dict[str, Any] = {"router": kind, "api_url": proxy.url}
        return AnyRouter(kind, f"{proxy.url}/demo", None, options, proxy)
    server: Any
    if kind == "nginx":
        server = stack.enter_context(nginx_server(folder / "nginx"))
    else:
        server = stack.enter_context(haproxy_server(folder / "haproxy"))
    url, runs = server.url, server
    if kind == "etcd":
        etcd = stack.enter_context(etcd_server(folder / "etcd"))
        stack.enter_context(registrar(folder, etcd, server))
        runs = etcd
    options = {"router": kind, "api_url": url, "host_header": "demo", kind: runs.options()}
    return AnyRouter(kind, url, "demo", options, runs)
