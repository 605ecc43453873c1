# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real nginx for tests, unprivileged, on a port of loopback."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.immutable.delivery.plugins.module_utils.routers.nginx import Nginx
from ansible_collections.immutable.delivery.plugins.module_utils.routers.nginx_process import (
    NginxProcess,
)
from tests.support.router_daemon import Daemon, accepts, free_port, program

CONF = """\
user {user};
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 2;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
    # What an old worker closes as it leaves, a client may be about to use.
    keepalive_timeout {keepalive};
    include {folder}/delivery/*.conf;
{servers}}}
"""
SERVER = """\
    server {{
        listen 127.0.0.1:{port};
        server_name {name} localhost;
        location / {{
            if (${name}_upstream = {name}_nowhere) {{ return 503; }}
            proxy_pass ${name}_scheme://${name}_upstream;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }}
    }}
"""


class NginxServer:
    """nginx with a server for each service; the first one also answers for `localhost`."""

    def __init__(
        self, folder: Path, services: Sequence[str] = ("demo",), keepalive: str = "0"
    ) -> None:
        self.folder = folder
        self.files = folder / "delivery"
        self.files.mkdir()
        self.conf = folder / "nginx.conf"
        self.pid_file = folder / "nginx.pid"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # Started by root, its workers would be somebody who cannot enter a test's folder.
        user = f"{pwd.getpwuid(os.getuid()).pw_name} {grp.getgrgid(os.getgid()).gr_name}"
        servers = "".join(SERVER.format(port=self.port, name=name) for name in services)
        self.conf.write_text(
            CONF.format(user=user, folder=folder, keepalive=keepalive, servers=servers)
        )
        for name in services:
            # As the role leaves it: the variables are there before the first version is.
            (self.files / f"{name}.conf").write_text(nowhere(name))
        self.daemon: Daemon | None = None

    def start(self) -> None:
        argv = [program("nginx"), "-e", f"{self.folder}/error.log", "-c", str(self.conf)]
        # It listens a moment before it says who it is.
        self.daemon = Daemon(
            argv, self.folder / "nginx.log", lambda: accepts(self.port) and self._has_pid()
        )

    def _has_pid(self) -> bool:
        return self.pid_file.exists() and self.pid_file.stat().st_size > 0

    def stop(self) -> None:
        if self.daemon is not None:
            # Its workers end with the master, which they would outlive if it was killed.
            self.daemon.stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    def options(self, **others: Any) -> dict[str, Any]:
        """The modules' option `nginx`."""
        return {
            "folder": str(self.files),
            "conf": str(self.conf),
            "program": program("nginx"),
            "pid_file": str(self.pid_file),
            **others,
        }

    def process(self, timeout: float = 30.0) -> NginxProcess:
        return NginxProcess([program("nginx")], str(self.conf), self.pid_file, timeout=timeout)

    def router(self, timeout: float = 30.0) -> Nginx:
        return Nginx(self.process(timeout), self.url, self.files)


def nowhere(service: str) -> str:
    """The file of a service without a version, as a person would write it."""
    return (
        "# No version yet.\n"
        f"upstream {service}_nowhere {{ server 127.0.0.1:1 down; }}\n"
        f'map "" ${service}_upstream {{ default {service}_nowhere; }}\n'
        f'map "" ${service}_scheme {{ default http; }}\n'
    )


@contextmanager
def nginx_server(folder: Path, **options: Any) -> Iterator[NginxServer]:
    """A running nginx."""
    folder.mkdir(parents=True, exist_ok=True)
    server = NginxServer(folder, **options)
    try:
        server.start()
        yield server
    finally:
        server.stop()
