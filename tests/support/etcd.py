# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real etcd for tests, of one member or of three, and registrars that follow it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from ansible_collections.immutable.delivery.plugins.module_utils.http import Http
from ansible_collections.immutable.delivery.plugins.module_utils.routers.etcd import Etcd
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_model import (
    Health,
    Keys,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.kv_router import KvRouter
from tests.support.apps import AppProcess, start_app
from tests.support.certificates import Authority
from tests.support.plays import ROOT
from tests.support.router_daemon import Daemon, free_port, program
from tests.support.waiting import eventually

REGISTRAR = ROOT / "apps" / "registrar" / "main.py"
PREFIX = "/delivery"
# Of a busy machine: what etcd has by default makes it change its leader whenever a disk is slow.
BEATS = ["--heartbeat-interval", "100", "--election-timeout", "1000"]


class Member:
    """One member of an etcd.

    :param authority: where it is given, only those are let in who show a certificate of it.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        authority: Authority | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.arguments = arguments
        self.folder = folder
        self.url = f"{'https' if authority else 'http'}://127.0.0.1:{free_port()}"
        self.tls: list[str] = []
        self.trust: dict[str, Any] = {}
        if authority is not None:
            own = str(authority.issue("127.0.0.1"))
            self.trust = {"verify": str(authority.path), "cert": own}
            self.tls = ["--cert-file", own, "--key-file", own, "--client-cert-auth"]
            self.tls += ["--trusted-ca-file", str(authority.path)]
        self.peer = f"http://127.0.0.1:{free_port()}"
        self.daemon: Daemon | None = None

    def launch(self, cluster: str) -> None:
        self.daemon = Daemon(
            [
                program("etcd"),
                *("--name", self.name, "--data-dir", str(self.folder / self.name)),
                *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
                *("--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer),
                *("--initial-cluster", cluster, "--initial-cluster-token", str(self.folder)),
                *("--logger", "zap", "--log-level", "warn", "--unsafe-no-fsync", *BEATS),
                *self.tls,
                *self.arguments,
            ],
            self.folder / f"{self.name}.log",
            lambda: True,
        )

    def healthy(self) -> bool:
        try:
            health = requests.get(f"{self.url}/health", timeout=5, **self.trust).json()
            return bool(health.get("health") == "true")
        except (requests.RequestException, ValueError):
            return False

    def leads(self) -> bool:
        try:
            status = requests.post(f"{self.url}/v3/maintenance/status", data="{}", timeout=5).json()
        except (requests.RequestException, ValueError):
            return False
        return bool(status.get("leader")) and status["leader"] == status["header"]["member_id"]

    def kill(self) -> None:
        if self.daemon is not None:
            self.daemon.kill()

    def freeze(self) -> None:
        assert self.daemon is not None
        self.daemon.process.send_signal(signal.SIGSTOP)


class EtcdServer:
    """An etcd of so many members."""

    def __init__(
        self,
        folder: Path,
        count: int = 1,
        authority: Authority | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.members = [
            Member(folder, f"m{number}", authority, arguments) for number in range(count)
        ]
        self._cluster = ",".join(f"{member.name}={member.peer}" for member in self.members)

    @property
    def urls(self) -> list[str]:
        return [member.url for member in self.members]

    def start(self) -> None:
        for member in self.members:
            member.launch(self._cluster)
        for member in self.members:
            eventually(member.healthy, f"etcd's member {member.name} is healthy")

    def restart(self) -> None:
        self.kill()
        self.start()

    def leader(self) -> Member:
        return eventually(
            lambda: next((member for member in self.members if member.leads()), None), "a leader"
        )

    def kill(self) -> None:
        for member in self.members:
            member.kill()

    def store(self, timeout: float = 20, urls: Sequence[str] = ()) -> Etcd:
        trust = self.members[0].trust
        own = {"ca_path": trust["verify"], "client_cert": (trust["cert"],) * 2} if trust else {}
        return Etcd([Http(url, **own) for url in urls or self.urls], timeout)

    def router(
        self, url: str, *, health: str = "/health", follow_timeout: float = 30, **options: Any
    ) -> KvRouter:
        return KvRouter(
            self.store(),
            Keys(PREFIX),
            url,
            health=Health(health, "demo"),
            follow_timeout=follow_timeout,
            **options,
        )

    def options(self, **others: Any) -> dict[str, Any]:
        """The modules' option `etcd`."""
        return {"endpoints": self.urls, "prefix": PREFIX, "follow_timeout": 30, **others}


@contextmanager
def etcd_server(
    folder: Path,
    count: int = 1,
    authority: Authority | None = None,
    arguments: Sequence[str] = (),
) -> Iterator[EtcdServer]:
    """A running etcd."""
    folder.mkdir(parents=True, exist_ok=True)
    server = EtcdServer(folder, count, authority, arguments)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def router_arguments(kind: str, options: dict[str, Any]) -> list[str]:
    """A registrar's arguments for a router with the modules' options."""
    given = [f"--router-option={name}={value}" for name, value in options.items()]
    return ["--router", kind, *given]


def start_registrar(
    folder: Path,
    etcd: Sequence[str],
    arguments: Sequence[str],
    *,
    node: str = "front",
    prefix: str = PREFIX,
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] = (),
) -> AppProcess:
    """Start a registrar, with short times; without *etcd* the arguments say where to register.

    :param program: what it is to be started by.
    """
    ready = folder / f"registrar-{node}.json"
    argv = [sys.executable, str(REGISTRAR), "--listen", "127.0.0.1:0", "--ready-file", str(ready)]
    argv += ["--node", node, "--prefix", prefix, "--ttl", "5", "--check-interval", "0.3"]
    argv += [f"--etcd={url}" for url in etcd]
    return start_app([*program, *argv, *arguments], environment, ready)


@contextmanager
def registrar(folder: Path, etcd: EtcdServer, server: Any, **options: Any) -> Iterator[AppProcess]:
    """A registrar for a router of tests, that has said that it runs."""
    arguments = router_arguments(server.router().name, server.options())
    arguments += options.pop("arguments", [])
    app = start_registrar(folder, etcd.urls, arguments, **options)
    try:
        eventually(runs(etcd, options.get("node", "front")), "the registrar runs")
        yield app
    finally:
        app.kill()


def runs(etcd: EtcdServer, node: str = "front") -> Callable[[], bool]:
    """Tells whether a registrar has said that it runs."""
    router = etcd.router("http://127.0.0.1")
    return lambda: node in router.state().running
