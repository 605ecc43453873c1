# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Places where the role proxy has a router: on machines, and as containers of the shared engine."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from cryptography import x509

from tests.support.certificates import Authority
from tests.support.machine import Machine
from tests.support.plays import PlayResult, run_play
from tests.support.router_daemon import BACKEND, free_port, start_version
from tests.support.waiting import eventually

SECONDS = 30
HOST = "demo.example"
# Of a service that has a certificate of its own where a place is given one.
OWN = "own.example"


@dataclass
class Place:
    """A router: where it is reached from here, and what the role and proxy_register are given.

    :param machine: the machine that it runs on; None for a container of the shared engine.
    :param authority: whose certificate it shows; None where it has none.
    """

    name: str
    kind: str
    machine: Machine | None
    ports: dict[str, int]
    variables: dict[str, Any]
    options: dict[str, Any]
    authority: Path | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['http']}"

    @property
    def inside(self) -> str:
        """The same from where proxy_register runs."""
        return f"http://127.0.0.1:{self.variables['proxy_http_port']}"

    @property
    def config(self) -> str:
        file = "haproxy.cfg" if self.kind == "haproxy" else "nginx.conf"
        return self.read(f"{self.variables.get('proxy_config_folder', f'/etc/{self.kind}')}/{file}")

    def run(self, *command: str) -> str:
        """Run a command where the router's files are."""
        if self.machine is not None:
            return self.machine.run(*command).stdout
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
        return done.stdout

    def read(self, path: str) -> str:
        return self.run("cat", path)

    def ask(self, path: str = "/", *, port: str = "http", **options: Any) -> requests.Response:
        options.setdefault("headers", {"Host": HOST})
        url = f"http://127.0.0.1:{self.ports[port]}{path}"
        return requests.request(options.pop("method", "GET"), url, timeout=SECONDS, **options)

    def version(self) -> str:
        """Which version answers; empty where none does."""
        answer = self.ask("/version")
        return answer.headers.get("X-Version", "") if answer.status_code == 200 else ""

    def start(self, version: str, folder: Path, stack: ExitStack) -> None:
        """Start a version where the router can reach it; *stack*, or the machine, ends it."""
        if self.machine is None:
            app = start_version(folder, f"{self.name}-{version}")
            stack.callback(app.kill)
            self.versions[version] = app.url
            return
        ready = f"/root/{version}-{self.kind}.json"
        self.machine.write("/root/version.py", BACKEND.read_text())
        argv = ["python3", "/root/version.py", "--version", f"{self.name}-{version}"]
        self.machine.container.exec_run([*argv, "--ready-file", ready], detach=True)
        there = self.machine

        def url() -> str:
            output = there.run("cat", ready, check=False)
            return str(json.loads(output.stdout)["url"]) if output.code == 0 else ""

        self.versions[version] = eventually(url, f"{version} of {self.name}", SECONDS)

    def serial(self, host: str = HOST, authority: Path | None = None) -> int:
        """Of the certificate that it shows now to those who know the authority; 0 for none."""
        authority = authority or self.authority
        if authority is None:
            return 0
        context = ssl.create_default_context(cafile=authority)
        with (
            socket.create_connection(("127.0.0.1", self.ports["https"]), SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            shown = secure.getpeercert(binary_form=True)
            assert shown is not None
            return x509.load_der_x509_certificate(shown).serial_number

    def protocol(self) -> str:
        """By which version of HTTP it answers a curl that can do 2, by TLS."""
        port = self.ports["https"]
        return subprocess.run(
            [
                *("curl", "--silent", "--show-error", "--fail", "--http2", "--output", os.devnull),
                *("--cacert", str(self.authority), "--resolve", f"{HOST}:{port}:127.0.0.1"),
                *("--write-out", "%{http_version}", f"https://{HOST}:{port}/h2"),
            ],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        ).stdout

    def restart(self) -> None:
        """End it and start it again."""
        if self.machine is None:
            self.run("docker", "restart", self.variables["proxy_container_name"])
        else:
            self.run("service", self.kind, "restart")
        eventually(self.version_or_nothing, f"{self.name} is back", SECONDS)

    def version_or_nothing(self) -> str:
        try:
            return self.version()
        except requests.ConnectionError:
            return ""

    def log(self) -> str:
        """Its access log."""
        if self.machine is None:
            name = self.variables["proxy_container_name"]
            return self.run("sh", "-c", 'docker logs "$1" 2>&1', "sh", name)
        if self.kind == "nginx":
            return self.read("/var/log/nginx/access.log")
        return self.run("journalctl", "--identifier=haproxy", "--output=cat")


def on_machine(name: str, kind: str, machine: Machine, first: int) -> Place:
    """Return a router of a machine that publishes the ports *first*, and the two that follow."""
    numbers = {"http": first, "https": first + 1, "metrics": first + 2}
    ports = {what: machine.port(number) for what, number in numbers.items()}
    variables = {"proxy_metrics_address": "0.0.0.0", **_ports(numbers)}
    return Place(name, kind, machine, ports, {"proxy_kind": kind, **variables}, {})


def in_container(name: str, kind: str, image: str, container: str, folder: Path) -> Place:
    """Return a router in a container of the shared engine, its files below *folder*."""
    folder.mkdir()
    ports = {what: free_port() for what in ("http", "https", "metrics")}
    # A unix socket's path is limited to about a hundred characters.
    files = {
        "haproxy": {
            "socket": f"{folder}/run/s",
            "map": f"{folder}/state/services.map",
        },
        "nginx": {
            "folder": f"{folder}/etc/delivery",
            "conf": f"{folder}/etc/nginx.conf",
            "container": container,
        },
    }
    variables = {
        "proxy_kind": kind,
        "proxy_platform": "container",
        "proxy_container_name": container,
        "proxy_container_image": image,
        "proxy_packages": [],
        "proxy_listen_addresses": ["127.0.0.1"],
        "proxy_config_folder": f"{folder}/etc",
        "proxy_state_folder": f"{folder}/state",
        "proxy_socket": f"{folder}/run/s",
        **_ports(ports),
    }
    return Place(name, kind, None, ports, variables, files[kind])


def _ports(numbers: Mapping[str, int]) -> dict[str, int]:
    return {f"proxy_{what}_port": number for what, number in numbers.items()}


def give_files(place: Place, authority: Authority, folder: Path) -> None:
    """Give the role a new certificate, with its key, at the same two paths as before."""
    place.authority = authority.path
    place.variables["proxy_tls"] = "files"
    _give(place, "proxy_tls", authority.issue(HOST, days=60), folder)


def give_own(place: Place, authority: Authority, folder: Path) -> int:
    """Give the role a certificate for one service; return its serial number."""
    pem = authority.issue(OWN, days=60)
    _give(place, "own", pem, folder)
    return x509.load_pem_x509_certificate(pem.read_bytes()).serial_number


def _give(place: Place, prefix: str, pem: Path, folder: Path) -> None:
    certificate, _mark, key = pem.read_text().partition("-----BEGIN PRIVATE")
    for what, content in {"certificate": certificate, "key": f"-----BEGIN PRIVATE{key}"}.items():
        file = folder / f"{place.name}-{prefix}-{what}.pem"
        file.write_text(content)
        place.variables[f"{prefix}_{what}"] = str(file)


def play_at(
    places: Sequence[Place],
    play: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    check: bool = False,
    env: Mapping[str, str] | None = None,
    **variables: Any,
) -> PlayResult:
    """Run plays at places, which are the inventory's hosts, in a group for each kind."""
    hosts = {
        place.name: {
            **(place.machine.variables if place.machine else {"ansible_connection": "local"}),
            **place.variables,
            "register_url": place.inside,
            "register_options": place.options,
            "register_versions": place.versions,
        }
        for place in places
    }
    hosts["localhost"] = {"ansible_connection": "local"}
    inventory = folder / "places.json"
    groups: dict[str, dict[str, Any]] = {
        kind: {"hosts": {place.name: {} for place in places if place.kind == kind}}
        for kind in {place.kind for place in places}
    }
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "children": groups}}))
    return run_play(
        play,
        check=check,
        extra_vars={"ansible_python_interpreter": "python3", **variables},
        env={
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "ANSIBLE_PIPELINING": "1",
            **(env or {}),
        },
        args=["--inventory", str(inventory)],
        timeout=1200,
    )
