# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real HAProxy for tests, unprivileged, with the configuration that the role renders."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2

from ansible_collections.immutable.delivery.plugins.module_utils.routers.haproxy import HaProxy
from ansible_collections.immutable.delivery.plugins.module_utils.routers.haproxy_runtime import (
    Runtime,
)
from tests.support.router_daemon import Daemon, accepts, free_port, program

TEMPLATE = Path(__file__).resolve().parents[2] / "roles" / "proxy" / "templates" / "haproxy.cfg.j2"


class HaProxyServer:
    """HAProxy on a port of loopback.

    :param services: as the role's `proxy_services`.
    :param binary: another HAProxy than the installed one, for trying another version.
    """

    def __init__(
        self, folder: Path, services: list[dict[str, Any]], binary: str | None = None
    ) -> None:
        self.folder = folder
        self.binary = binary or os.environ.get("TEST_HAPROXY") or program("haproxy")
        # A unix socket's path is limited to about a hundred characters, and pytest's are longer.
        self._short = tempfile.TemporaryDirectory()
        self.socket = f"{self._short.name}/admin.sock"
        self.map = folder / "services.map"
        self.state = folder / "servers.state"
        self.conf = folder / "haproxy.cfg"
        self.log = folder / "haproxy.log"
        self.map.touch()
        self.state.touch()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.write(services)
        self.daemon: Daemon | None = None

    def write(self, services: list[dict[str, Any]], **variables: Any) -> None:
        """Render the configuration."""
        environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True
        )
        text = environment.from_string(TEMPLATE.read_text()).render(
            proxy_state_folder=str(self.folder),
            proxy_socket=self.socket,
            proxy_user="",
            proxy_log="stderr local0 warning",
            proxy_binds=[f"127.0.0.1:{self.port}"],
            proxy_maxconn=2000,
            proxy_services=[{"health_interval": "200ms", **service} for service in services],
            **variables,
        )
        self.conf.write_text(text)

    def start(self) -> None:
        argv = [self.binary, "-db", "-f", str(self.conf)]
        # The socket gets its name after the ports are bound, and an earlier one may be left.
        self.daemon = Daemon(argv, self.log, lambda: accepts(self.port) and self._listens())

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(self.socket) == 0

    def restart(self) -> None:
        """End it at once and start it again: what is in memory is lost."""
        self.kill()
        self.start()

    def kill(self) -> None:
        if self.daemon is not None:
            self.daemon.kill()

    def close(self) -> None:
        self.kill()
        self._short.cleanup()

    def options(self, **others: Any) -> dict[str, Any]:
        """The modules' option `haproxy`."""
        return {"socket": self.socket, "map": str(self.map), "check_timeout": 30, **others}

    def router(self, check_timeout: float = 30.0) -> HaProxy:
        return HaProxy(
            Runtime(self.socket, 30),
            self.url,
            map_name=str(self.map),
            map_file=self.map,
            state_file=self.state,
            check_timeout=check_timeout,
        )


@contextmanager
def haproxy_server(
    folder: Path, services: list[dict[str, Any]] | None = None
) -> Iterator[HaProxyServer]:
    """A running HAProxy, by default with one service, `demo`."""
    folder.mkdir(parents=True, exist_ok=True)
    server = HaProxyServer(folder, services or [{"name": "demo"}])
    try:
        server.start()
        yield server
    finally:
        server.close()
