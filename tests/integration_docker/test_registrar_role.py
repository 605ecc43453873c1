# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registrar by its image and by its role: each has a real HAProxy follow a real etcd."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from docker import DockerClient

from tests.support.certificates import Authority
from tests.support.engine import BUILD_SECONDS, IMAGES, one_at_a_time
from tests.support.etcd import EtcdServer, etcd_server, runs
from tests.support.haproxy import TEMPLATE, HaProxyServer, haproxy_server
from tests.support.machine import Machine, machine, play_on
from tests.support.plays import ROOT, PlayResult
from tests.support.router_daemon import BACKEND, free_port, start_version
from tests.support.router_flows import PATIENCE, send_to, version_at
from tests.support.waiting import eventually

IMAGE = f"{IMAGES}/registrar:latest"
PLAY: dict[str, Any] = {
    "name": "Have the registrar",
    "hosts": "front",
    "gather_facts": False,
    "roles": ["immutable.delivery.registrar"],
}


def build_image() -> str:
    """Build the image by the very line of its README."""
    line = f"tar -c apps/registrar plugins/module_utils | docker build -q -t {IMAGE}"
    with one_at_a_time("image-registrar"):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f"{line} -f apps/registrar/Dockerfile -"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    return IMAGE


@contextmanager
def registrar_container(
    engine: DockerClient, name: str, etcd: EtcdServer, haproxy: HaProxyServer, port: int
) -> Iterator[object]:
    """The image beside a HAProxy of this machine, as its README says."""
    folders = [str(haproxy.folder), str(Path(haproxy.socket).parent)]
    options = haproxy.options()
    container = engine.containers.run(
        build_image(),
        [
            *("--listen", f"127.0.0.1:{port}", "--node", "front", "--etcd", etcd.urls[0]),
            *(f"--router-option={option}={options[option]}" for option in ("socket", "map")),
        ],
        name=name,
        detach=True,
        network_mode="host",
        # Whoever may change the router's files.
        user=str(haproxy.folder.stat().st_uid),
        environment={"HEALTH_PORT": str(port)},
        volumes={folder: {"bind": folder, "mode": "rw"} for folder in folders},
    )
    try:
        eventually(runs(etcd), "the registrar runs")
        yield container
    finally:
        container.remove(force=True)


def test_the_image_follows_etcd(engine: DockerClient, prefix: str, tmp_path: Path) -> None:
    port = free_port()
    blue, green = (start_version(tmp_path, name) for name in ("blue", "green"))
    try:
        with (
            etcd_server(tmp_path / "etcd") as etcd,
            haproxy_server(tmp_path / "haproxy") as haproxy,
            registrar_container(engine, f"{prefix}-registrar", etcd, haproxy, port),
        ):
            container = engine.containers.get(f"{prefix}-registrar")
            for app, version in ((blue, "blue"), (green, "green")):
                assert send_to(etcd.router(haproxy.url), app.url).drain(PATIENCE).drained
                assert version_at(haproxy.url) == version
            # As the engine asks for its health.
            assert container.exec_run("/app/healthcheck").exit_code == 0
            etcd.kill()
            # Routers go on without the registry, and so it is well.
            assert container.exec_run("/app/healthcheck").exit_code == 0
            etcd.start()
            container.stop(timeout=60)
            container.reload()
            assert container.attrs["State"]["ExitCode"] == 0
            assert not runs(etcd)()
            assert version_at(haproxy.url) == "green"
    finally:
        blue.kill()
        green.kill()


INSTALL = "haproxy etcd-server python3-aiohttp python3-requests"


def prepare(there: Machine, authority: Authority) -> None:
    """Give a machine HAProxy, as the role proxy does, and etcd, which wants certificates."""
    there.run(
        "sh", "-c", f"apt-get update -q && apt-get install -qy --no-install-recommends {INSTALL}"
    )
    text = jinja2.Environment(keep_trailing_newline=True, trim_blocks=True).from_string(
        TEMPLATE.read_text()
    )
    there.write(
        "/etc/haproxy/haproxy.cfg",
        text.render(proxy_services=[{"name": "demo"}], proxy_maxconn=400),
    )
    for file in ("services.map", "servers.state"):
        there.write(f"/var/lib/haproxy-delivery/{file}", "")
    for name in ("server", "client"):
        there.write(f"/etc/{name}.pem", authority.issue("127.0.0.1").read_text())
    there.write("/etc/ca.pem", authority.path.read_text())
    there.run("chown", "etcd:", "/etc/server.pem")
    url, files = "https://127.0.0.1:2379", "/etc/server.pem"
    there.write(
        "/etc/default/etcd",
        f"ETCD_LISTEN_CLIENT_URLS={url}\nETCD_ADVERTISE_CLIENT_URLS={url}\n"
        f"ETCD_CERT_FILE={files}\nETCD_KEY_FILE={files}\n"
        "ETCD_CLIENT_CERT_AUTH=true\nETCD_TRUSTED_CA_FILE=/etc/ca.pem\n",
    )
    there.run("systemctl", "restart", "haproxy", "etcd")


def test_the_role_has_it_run_and_changes_nothing_twice(
    engine: DockerClient, prefix: str, tmp_path: Path
) -> None:
    ports = ["127.0.0.1::80"]
    with machine(engine, f"{prefix}-front", kind="systemd", publish=ports) as there:
        prepare(there, Authority(tmp_path))
        variables = {
            "registrar_etcd": ["https://127.0.0.1:2379"],
            "registrar_ca": "/etc/ca.pem",
            "registrar_etcd_cert": "/etc/client.pem",
        }

        def play(*plays: dict[str, Any]) -> PlayResult:
            return play_on({"front": there}, plays, tmp_path, extra_vars=variables)

        play(PLAY).ok()
        # A service there, switched to by the registrar's own API.
        there.write("/root/version.py", BACKEND.read_text())
        version = [
            "python3",
            "/root/version.py",
            "--version",
            "blue",
            "--ready-file",
            "/root/ready",
        ]
        there.container.exec_run(version, detach=True)
        eventually(lambda: there.run("test", "-s", "/root/ready", check=False).code == 0, "ready")
        url = quote(json.loads(there.read("/root/ready"))["url"], safe="")
        post = f"urlopen(Request('http://127.0.0.1:8500/services/demo/{url}', method='POST'))"
        there.run("python3", "-c", f"from urllib.request import Request, urlopen; {post}")
        front = f"http://127.0.0.1:{there.port(80)}"
        assert version_at(front) == "blue"
        # What cannot be is refused before anything is changed.
        wrong = {"registrar_consul": "http://127.0.0.1:8500"}
        again = play(PLAY, {**PLAY, "vars": wrong})
        assert not again.changed, [one for one in again.results if one.changed]
        assert "either registrar_etcd or registrar_consul" in again.failures[0].msg
        assert len(again.failures) == 1 and again.results[-1].failed, again.output
        # A restart of both keeps it, by what is on the machine.
        there.run("systemctl", "restart", "delivery-registrar", "haproxy")
        assert version_at(front) == "blue"
        assert there.run("systemctl", "is-active", "delivery-registrar").stdout.strip() == "active"
