# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What switches lose behind HAProxy, nginx and a registry in etcd, beside the ways that seem to do.

Open-loop load with GET, POST, uploads and WebSockets, 5 % of the requests slow. Several services
are switched at a time, each with a load of its own, so that waiting for slow requests to end does
not make the run last for hours. The rivals are given the same load and fewer switches, so losses
are told for a hundred switches.
"""

from __future__ import annotations

import http.client
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# The parts that are shared with the tests import the collection by its full name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / ".build" / "collections"))

from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import (
    Preparing,
    Router,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.nginx_process import (
    NginxProcess,
)
from benchmarks import harness
from tests.support.apps import AppProcess
from tests.support.etcd import EtcdServer, etcd_server, registrar
from tests.support.haproxy import HaProxyServer, haproxy_server
from tests.support.nginx import NginxServer, nginx_server
from tests.support.router_daemon import start_version
from tests.support.router_flows import send_to
from tests.support.router_load import RouterLoad

PATIENCE = 60.0


class Routed(Protocol):
    """What clients ask at one address, and what switches it."""

    @property
    def url(self) -> str: ...

    def router(self) -> Router: ...


class Registered:
    """HAProxy by its registrar, which follows etcd."""

    def __init__(self, etcd: EtcdServer, server: HaProxyServer) -> None:
        self.url = server.url
        self._etcd = etcd

    def router(self) -> Router:
        return self._etcd.router(self.url, follow_timeout=PATIENCE)


@dataclass(frozen=True)
class Size:
    """How much is done; *rate* and *requests* are of each service."""

    services: int
    switches: int
    rival_switches: int
    requests: int
    rate: float
    slow: float


WHOLE = Size(services=4, switches=52, rival_switches=5, requests=64_000, rate=170, slow=3.0)
QUICK = Size(services=2, switches=3, rival_switches=2, requests=0, rate=50, slow=0.5)


@dataclass
class Result:
    """What came of one way of switching."""

    switches: int = 0
    requests: int = 0
    failed: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def lost(self) -> float:
        """Requests lost in a hundred switches."""
        return 100 * len(self.failed) / self.switches


# Switches a service to an address and ends its old version.
Way = Callable[[str, str, AppProcess], None]


def ours(server: Routed) -> Way:
    """The router, its drain, and SIGTERM after it."""

    def switch(service: str, url: str, old: AppProcess) -> None:
        change = send_to(server.router(), url, service=service)
        drained = change.drain(PATIENCE)
        if not drained.drained:
            raise RuntimeError(f"{drained.in_flight} were left after {PATIENCE:g} s")
        old.stop(PATIENCE)

    return switch


def killed(server: HaProxyServer) -> Way:
    """The map, and the old version killed at once."""

    def switch(service: str, url: str, old: AppProcess) -> None:
        send_to(server.router(), url, service=service)
        old.kill()

    return switch


def readdressed(server: HaProxyServer) -> Way:
    """One backend, whose server is given another address; SIGTERM at once."""

    def switch(service: str, url: str, old: AppProcess) -> None:
        parts = urlsplit(url)
        command = f"set server {service}-a/t1 addr {parts.hostname} port {parts.port}"
        server.router().runtime.tell(command)
        old.stop(PATIENCE)

    return switch


def reloaded(server: NginxServer) -> Way:
    """The file, a reload, and SIGTERM at once."""

    class Hasty(NginxProcess):
        def reload(self) -> None:
            os.kill(self.master(), signal.SIGHUP)

    def switch(service: str, url: str, old: AppProcess) -> None:
        router = server.router()
        router.process = Hasty(router.process.command, str(server.conf), server.pid_file)
        router.switch(service, [url])
        old.stop(PATIENCE)

    return switch


class FirstAnswer:
    """Asks on one connection until the new version answers, in a thread of its own."""

    def __init__(self, url: str, service: str, version: str) -> None:
        self._url = url
        self._service = service
        self._version = version
        self.began = time.perf_counter()
        self.seconds = 0.0
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        parts = urlsplit(self._url)
        deadline = self.began + PATIENCE
        client = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
        while time.perf_counter() < deadline:
            try:
                client.request("GET", "/first", headers={"Host": self._service})
                answer = client.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                client.close()
                continue
            if answer.headers.get("X-Version") == self._version:
                self.seconds = time.perf_counter() - self.began
                break
            time.sleep(0.002)
        client.close()

    def wait(self) -> float:
        """Seconds from the beginning of the switch to the first new answer."""
        self._thread.join(PATIENCE * 2)
        return self.seconds


def measure(server: Routed, way: Way, size: Size, *, rival: bool, folder: Path) -> Result:
    """Switch every service again and again by *way*, under load."""
    result = Result()
    wanted = size.rival_switches if rival else size.switches

    def one(number: int) -> None:
        service = name_of(number)
        live = start_version(folder, f"{service}-0")
        send_to(server.router(), live.url, service=service)
        load = RouterLoad(server.url, host=service, rate=size.rate, slow=size.slow)
        load.start()
        done = 0
        try:
            while done < wanted or (not rival and load.seen.requests < size.requests):
                done += 1
                version = f"{service}-{done}"
                candidate = start_version(folder, version)
                router = server.router()
                if isinstance(router, Preparing):
                    # What its checks take is no part of the switch, and users do not wait for it.
                    router.prepare(service, [candidate.url], lambda undo, state="": None)
                first = FirstAnswer(server.url, service, version)
                way(service, candidate.url, live)
                result.seconds.append(first.wait())
                live = candidate
        finally:
            seen = load.stop()
            live.kill()
        result.switches += done
        result.requests += seen.requests
        result.failed += seen.failed

    with ThreadPoolExecutor(size.services) as pool:
        for task in [pool.submit(one, number) for number in range(size.services)]:
            task.result()
    return result


def name_of(number: int) -> str:
    """The name of a service."""
    return f"service{number}"


@contextmanager
def haproxy(folder: Path, size: Size) -> Iterator[HaProxyServer]:
    names = [name_of(number) for number in range(size.services)]
    with haproxy_server(folder, [{"name": name, "hosts": [name]} for name in names]) as server:
        yield server


@contextmanager
def etcd(folder: Path, size: Size) -> Iterator[Registered]:
    with (
        haproxy(folder / "haproxy", size) as server,
        etcd_server(folder / "etcd") as store,
        registrar(folder, store, server),
    ):
        yield Registered(store, server)


@contextmanager
def nginx(folder: Path, size: Size) -> Iterator[NginxServer]:
    names = tuple(name_of(number) for number in range(size.services))
    with nginx_server(folder, services=names) as server:
        yield server


def run(quick: bool) -> harness.Table:
    """Measure each way with a router of its own."""
    size = QUICK if quick else WHOLE
    ways: list[tuple[str, str, Any, Any]] = [
        ("HAProxy", "ours", haproxy, ours),
        ("HAProxy", "map, old killed at once", haproxy, killed),
        ("HAProxy", "set server addr, SIGTERM", haproxy, readdressed),
        ("etcd", "ours", etcd, ours),
        ("nginx", "ours", nginx, ours),
        ("nginx", "reload, SIGTERM at once", nginx, reloaded),
    ]
    results: dict[str, dict[str, Result]] = {"HAProxy": {}, "etcd": {}, "nginx": {}}
    for router, name, started, way in ways:
        with tempfile.TemporaryDirectory() as folder, started(Path(folder) / "r", size) as server:
            results[router][name] = measure(
                server, way(server), size, rival=name != "ours", folder=Path(folder)
            )
    table = harness.Table(
        f"switches behind HAProxy, nginx and etcd with HAProxy: {size.services} services, "
        f"{size.rate * size.services:.0f} requests/s, 5 % of {size.slow:g} s, uploads, WebSockets"
    )
    for router, by_name in results.items():
        lost = {name: result.lost for name, result in by_name.items()}
        _add(table, f"{router}: lost in 100 switches", "", lost, bound=0)
        for percent in (50, 99):
            values = {
                name: 1000 * harness.percentile(result.seconds, percent)
                for name, result in by_name.items()
            }
            _add(table, f"{router}: first new answer, p{percent}", "ms", values)
    every = [result for by_name in results.values() for result in by_name.values()]
    switches = ", ".join(f"{r}: {n['ours'].switches} switches" for r, n in results.items())
    table.note = f"{switches}; {sum(result.requests for result in every):,} requests in all"
    return table


def _add(
    table: harness.Table,
    what: str,
    unit: str,
    values: dict[str, float],
    bound: float | None = None,
) -> None:
    rivals = {name: value for name, value in values.items() if name != "ours"}
    table.rows.append(harness.Row(what, unit, harness.LOWER, values["ours"], rivals, bound))


if __name__ == "__main__":
    sys.exit(harness.main(run("--quick" in sys.argv)))
