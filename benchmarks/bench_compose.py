# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long users are without an answer: compose_redeploy beside community.docker's module.

Both bring projects that are alike to the same next version, in turn, on one engine, while clients
ask every service. What counts is what the clients see: the longest time without an answer.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import harness
from benchmarks.bench_proxy import load, started_proxy
from tests.support.compose import as_yaml, service, service_image
from tests.support.engine import BASE_IMAGE

ROOT = Path(__file__).resolve().parents[1]
OURS = "immutable.delivery.compose_redeploy"
THEIRS = "community.docker.docker_compose_v2"
RATE = 500.0
ASK_EVERY = 0.005
PREFIX = f"idt-{os.getpid()}-bench"
HALF = 0.5


def run_module(folder: Path, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Run a module in a process of its own; return its result."""
    collection, _dot, module = name.rpartition(".")
    file = folder / "options.json"
    file.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": dict(options)}))
    done = subprocess.run(
        [sys.executable, "-m", f"ansible_collections.{collection}.plugins.modules.{module}", file],
        env={**os.environ, "PYTHONPATH": str(ROOT / ".build" / "collections")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stdout} {done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


class Client(threading.Thread):
    """Asks one service again and again; knows the longest time without an answer."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.longest = 0.0
        self.over = threading.Event()

    def run(self) -> None:
        last = time.monotonic()
        while not self.over.wait(ASK_EVERY):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                connection.request("GET", "/health")
                answered = connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                answered = False
            finally:
                connection.close()
            if answered:
                now = time.monotonic()
                self.longest = max(self.longest, now - last)
                last = now


@contextmanager
def asking(ports: list[int]) -> Iterator[list[Client]]:
    """Clients of these ports, each of which was answered once it is left."""
    clients = [Client(port) for port in ports]
    for client in clients:
        client.start()
    try:
        yield clients
        for port in ports:
            _answered(port)
        # One more answer, which ends the last gap.
        time.sleep(0.2)
    finally:
        for client in clients:
            client.over.set()
        for client in clients:
            client.join(20)


def _answered(port: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)
        finally:
            connection.close()
    raise RuntimeError(f"nobody answers at port {port}")


def free_ports(count: int) -> list[int]:
    """Ports that nobody has."""
    with ExitStack() as stack:
        opened = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _one in range(count)
        ]
        return [one.getsockname()[1] for one in opened]


class Shape:
    """A project: its folder, its published ports, and how each module is told to redeploy it."""

    def __init__(self, folder: Path, name: str, image: str, ports: int) -> None:
        self.folder = folder
        folder.mkdir()
        self.name = f"{PREFIX}-{name}"
        self.image = image
        self.ports = free_ports(ports)

    def write(self, version: int) -> None:
        """Write what is wanted next."""
        raise NotImplementedError

    def options(self, module: str) -> dict[str, Any]:
        """The module's options."""
        options: dict[str, Any] = {"project_src": str(self.folder), "project_name": self.name}
        if module == OURS:
            # Theirs does not watch what it has started.
            options["soak"] = 0
        if module == THEIRS:
            options |= {"recreate": "always", "build": "policy", "wait": True}
        return options

    def down(self) -> None:
        """Remove it."""
        subprocess.run(
            ["docker", "compose", "-p", self.name, "down", "--volumes", "--timeout", "2"],
            capture_output=True,
            check=False,
        )

    def redeploy(self, module: str) -> float:
        """Redeploy; return the longest time that a client had no answer."""
        with asking(self.ports) as clients:
            run_module(self.folder, module, self.options(module))
        return max(client.longest for client in clients)

    def published(self, number: int) -> list[str]:
        """The service's ports in the compose file."""
        return [f"127.0.0.1:{self.ports[number]}:8080"]


class Single(Shape):
    """One service on a fixed port."""

    def write(self, version: int) -> None:
        web = service(self.image, f"v{version}", ports=self.published(0))
        (self.folder / "compose.yaml").write_text(as_yaml({"services": {"web": web}}))


class Portal(Shape):
    """The portal's topology, of which only the static configuration changes."""

    def write(self, version: int) -> None:
        static = self.folder / "static"
        static.mkdir(exist_ok=True)
        (static / "apis.json").write_text(json.dumps({"version": version}))
        (static / "Dockerfile").write_text(
            f"FROM {BASE_IMAGE}\nCOPY apis.json /var/static/\nVOLUME /var/static\n"
            'ENTRYPOINT ["/bin/true"]\n'
        )
        healthy, ended = (
            {"condition": f"service_{word}"} for word in ("healthy", "completed_successfully")
        )

        def one(number: int | None = None, *needs: str) -> dict[str, Any]:
            ports = None if number is None else self.published(number)
            return service(self.image, ports=ports, depends_on=dict.fromkeys(needs, healthy))

        services: dict[str, Any] = {
            "static": {"image": f"{self.name}-static", "build": "./static"},
            "dynamic": {
                "image": BASE_IMAGE,
                "entrypoint": ["/bin/true"],
                "volumes": ["/var/dynamic"],
            },
            "postgres": one(),
            "kong": one(0, "postgres"),
            "api": one(1),
            "adapter": one(None, "api", "kong"),
            "mailer": one(None, "api"),
            "chatbot": one(None, "api"),
            "portal": one(2, "api"),
            "haproxy": one(3, "portal", "kong"),
        }
        services["api"] |= {
            "volumes_from": ["static", "dynamic"],
            "depends_on": {"static": ended, "dynamic": ended},
        }
        (self.folder / "compose.yaml").write_text(as_yaml({"services": services}))

    def options(self, module: str) -> dict[str, Any]:
        options = super().options(module)
        if module == OURS:
            options["static_services"] = ["static"]
        return options

    def redeploy(self, module: str) -> float:
        if module == THEIRS:
            # The first three of the steps that the portal's own documentation gives.
            for command in (["build"], ["rm", "-fsv", "static"], ["up", "-d", "static"]):
                subprocess.run(
                    ["docker", "compose", "-p", self.name, *command],
                    cwd=self.folder,
                    capture_output=True,
                    check=True,
                )
        return super().redeploy(module)


def compare(shape: Shape, rounds: int) -> dict[str, float]:
    """Redeploy with both in turn; return the best of each: what else runs only adds to them."""
    seconds: dict[str, list[float]] = {OURS: [], THEIRS: []}
    try:
        shape.write(0)
        run_module(shape.folder, OURS, shape.options(OURS))
        version = 0
        for number in range(rounds):
            # Each is the first of the two as often as the other.
            for module in (OURS, THEIRS) if number % 2 else (THEIRS, OURS):
                version += 1
                shape.write(version)
                seconds[module].append(shape.redeploy(module))
    finally:
        shape.down()
    return {module: min(taken) for module, taken in seconds.items()}


def rolled(folder: Path, image: str, seconds: float) -> tuple[int, int, bool]:
    """Roll a service under steady traffic; return the requests, those lost, and if it was done."""
    folder.mkdir()
    name = f"{PREFIX}-roll"

    def write(version: str) -> None:
        web = service(image, version, deploy={"replicas": 2})
        (folder / "compose.yaml").write_text(as_yaml({"services": {"web": web}}))

    with started_proxy(folder) as (proxy, _process), ThreadPoolExecutor(1) as pool:
        entrances = [{"service": "web", "port": 8080, "name": name}]
        options = {
            "project_src": str(folder),
            "project_name": name,
            "strategy": "rolling",
            "soak": 0,  # it costs no request, only time
            "router": {"api_url": proxy, "services": entrances},
        }
        try:
            write("v1")
            run_module(folder, OURS, options)
            traffic = pool.submit(
                load, f"{proxy}/{name}", connections=32, seconds=seconds, rate=RATE
            )
            write("v2")
            run_module(folder, OURS, options)
            done = not traffic.done()
            seen = traffic.result()
        finally:
            subprocess.run(
                ["docker", "compose", "-p", name, "down", "--timeout", "2"],
                capture_output=True,
                check=False,
            )
    return seen["requests"], seen["failed"], done


def run(quick: bool) -> harness.Table:
    """Compare what clients see of a redeploy."""
    table = harness.Table("Compose redeploys as clients see them, best of all rounds")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = service_image()
        single = Single(folder / "single", "single", image, 1)
        shapes: list[tuple[str, Shape, float, int]] = [
            ("one service, fixed port", single, 1.0, 2 if quick else 10)
        ]
        if not quick:
            portal = Portal(folder / "portal", "portal", image, 4)
            shapes.append(("portal, new static data", portal, HALF, 3))
        for what, shape, bound, rounds in shapes:
            seen = compare(shape, rounds)
            ours, theirs = seen[OURS], seen[THEIRS]
            table.rows += [
                harness.Row(f"{what}: down", "s", harness.LOWER, ours, {THEIRS: theirs}),
                harness.Row(f"{what}: of it", "x", harness.LOWER, ours / theirs, bound=bound),
            ]
        requests, lost, done = rolled(folder / "roll", image, 30 if quick else 90)
        table.rows.append(
            harness.Row("rolling: requests lost", "", harness.LOWER, float(lost), bound=0)
        )
    within = "which it was all through" if done else "which ended before the redeploy did"
    table.note = (
        f"Rolling at {RATE:.0f} requests/s, {within}: {requests} requests. Down: the longest time "
        f"without an answer at any published port, asked every {1000 * ASK_EVERY:.0f} ms."
    )
    return table


if __name__ == "__main__":
    sys.exit(harness.main(run("--quick" in sys.argv)))
