# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role docker_host: on a machine with systemd and an engine, and on a fresh one with neither.

A fresh one with systemd, compose and buildx are those of Molecule's scenario `default`. The tests
of this file share the machines and stand in the order in which they were written for it; each but
the first finds the machines as the role leaves them.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from docker import DockerClient

from tests.support.machine import Machine, machine, play_on
from tests.support.plays import PlayResult

DAEMON_JSON = "/etc/docker/daemon.json"
TLS = "/etc/docker/tls"
FOREIGN = {"debug": False, "labels": ["rack=7"], "insecure-registries": ["old:5000"]}
ROLE = [
    {
        "name": "Test",
        "hosts": "all:!localhost",
        "gather_facts": False,
        "roles": ["immutable.delivery.docker_host"],
    }
]
SECONDS = 30


@dataclass
class Site:
    """Two machines, and the folder of their authority."""

    systemd: Machine
    plain: Machine
    folder: Path

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    @property
    def client(self) -> Path:
        return self.pki / "clients" / "deploy"

    def play(self, *, only: str = "all", check: bool = False, **variables: Any) -> PlayResult:
        machines = {"with-init": self.systemd, "without": self.plain}
        return play_on(
            {name: item for name, item in machines.items() if only in ("all", name)},
            ROLE,
            self.folder,
            extra_vars={
                "docker_host_ca_dir": str(self.pki),
                # A forwarded port is not the machine's own.
                "docker_host_names": ["engine.example"],
                "docker_host_plugin_packages": ["ca-certificates"],
                "docker_host_remote": "{{ 'none' if inventory_hostname == 'without' else 'tls' }}",
                **{f"docker_host_{key}": value for key, value in variables.items()},
            },
            check=check,
        )

    def certificate(self) -> x509.Certificate:
        """What the engine of the machine with systemd shows now."""
        context = ssl.create_default_context(cafile=self.client / "ca.pem")
        context.load_cert_chain(self.client / "cert.pem", self.client / "key.pem")
        address = ("127.0.0.1", self.systemd.port(2376))
        with (
            socket.create_connection(address, SECONDS) as plain,
            context.wrap_socket(plain, server_hostname="engine.example") as secure,
        ):
            shown = secure.getpeercert(binary_form=True)
            assert shown is not None
            return x509.load_der_x509_certificate(shown)


def engine_started(there: Machine) -> str:
    """Which engine it is that runs: its process, and when that began."""
    command = 'cut -d " " -f 1,22 "/proc/$(cat /var/run/docker.pid)/stat"'
    return there.run("sh", "-c", command).stdout


def ask(site: Site, **options: Any) -> requests.Response:
    """Ask the API from outside, by TLS."""
    url = f"https://127.0.0.1:{site.systemd.port(2376)}/version"
    return requests.get(url, verify=str(site.client / "ca.pem"), timeout=SECONDS, **options)


@pytest.fixture(scope="module")
def fresh(
    engine: DockerClient, prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with (
        machine(
            engine,
            f"{prefix}-init",
            publish=["127.0.0.1::2376"],
        ) as systemd,
        machine(engine, f"{prefix}-plain", kind="plain", publish=["127.0.0.1::2375"]) as plain,
    ):
        # Debian's init script raises a limit that a container may not raise.
        plain.write("/etc/default/docker", "ulimit() { :; }\n")
        yield Site(systemd, plain, tmp_path_factory.mktemp("docker_host"))


@pytest.fixture(scope="module")
def site(fresh: Site) -> Site:
    """The machines after the first run."""
    started = engine_started(fresh.systemd)
    checked = fresh.play(check=True).ok()
    assert {one.host for one in checked.results if one.changed} == {"with-init", "without"}
    assert engine_started(fresh.systemd) == started
    for there, paths in (
        (fresh.systemd, [DAEMON_JSON, TLS]),
        (fresh.plain, ["/usr/sbin/dockerd", "/etc/docker"]),
    ):
        assert there.run("ls", *paths, check=False).stdout == ""
    assert not fresh.pki.exists()

    fresh.systemd.write(DAEMON_JSON, json.dumps(FOREIGN))
    fresh.play(insecure_registries=["cd:5000"]).ok()
    return fresh


def test_a_second_run_changes_nothing(site: Site) -> None:
    before = [engine_started(there) for there in (site.systemd, site.plain)]
    again = site.play(insecure_registries=["cd:5000"]).ok()
    assert not again.changed, [result.task for result in again.results if result.changed]
    assert [engine_started(there) for there in (site.systemd, site.plain)] == before


def test_what_others_wrote_into_daemon_json_survives(site: Site) -> None:
    options = json.loads(site.systemd.read(DAEMON_JSON))
    assert options["labels"] == ["rack=7"]
    assert options["debug"] is False
    assert options["insecure-registries"] == ["old:5000", "cd:5000"]
    assert options["log-opts"] == {"max-size": "10m", "max-file": "3"}
    assert options["hosts"] == ["unix:///var/run/docker.sock", "tcp://0.0.0.0:2376"]
    shown = json.loads(site.systemd.run("docker", "info", "--format", "{{json .}}").stdout)
    assert shown["Labels"] == ["rack=7"]
    assert shown["LiveRestoreEnabled"] is True


def test_the_api_answers_to_our_certificate_only(site: Site, tmp_path: Path) -> None:
    ours = (str(site.client / "cert.pem"), str(site.client / "key.pem"))
    assert ask(site, cert=ours).json()["ApiVersion"]

    with pytest.raises(requests.exceptions.ConnectionError, match=r"(?i)certificate|reset|alert"):
        ask(site)

    plain = requests.get(f"http://127.0.0.1:{site.systemd.port(2376)}/version", timeout=SECONDS)
    assert plain.status_code == 400
    assert "Client sent an HTTP request to an HTTPS server" in plain.text

    # A certificate of our authority that proves a server proves no client.
    server = site.pki / "hosts" / "with-init" / "engine"
    with pytest.raises(requests.exceptions.ConnectionError):
        ask(site, cert=(str(server / "cert.pem"), str(server / "key.pem")))


def test_private_keys_are_private(site: Site) -> None:
    for key in [site.pki / "ca.key", *site.pki.rglob("key.pem")]:
        assert key.stat().st_mode & 0o777 == 0o600, key
    modes = site.systemd.run("stat", "-c", "%a %U", TLS, f"{TLS}/key.pem")
    assert modes.stdout.split("\n")[:2] == ["700 root", "600 root"]
    assert site.systemd.run("ls", TLS).stdout.split() == [
        "ca.pem",
        "cert.pem",
        "key.pem",
    ]


def test_a_certificate_is_renewed_before_it_expires(site: Site) -> None:
    before, authority = site.certificate(), (site.pki / "ca.pem").read_text()
    started = engine_started(site.systemd)
    # The certificates have 365 days left, so that this is the time.
    site.play(only="with-init", renew_before=366, insecure_registries=["cd:5000"]).ok()
    after = site.certificate()
    assert after.serial_number != before.serial_number
    assert after.not_valid_after_utc > before.not_valid_after_utc
    assert (site.pki / "ca.pem").read_text() == authority
    assert engine_started(site.systemd) != started, "an engine reads certificates as it starts"


@pytest.mark.parametrize("text", ['{"debug": tr', '["debug"]'])
def test_a_daemon_json_that_is_none_is_refused(site: Site, text: str) -> None:
    whole, started = site.systemd.read(DAEMON_JSON), engine_started(site.systemd)
    site.systemd.write(DAEMON_JSON, text)
    try:
        refused = site.play(only="with-init", insecure_registries=["new:5000"])
        assert refused.rc != 0
        assert "is no JSON object" in refused.failures[-1].msg
        assert "Nothing was changed" in refused.failures[-1].msg
        assert site.systemd.read(DAEMON_JSON) == text
        assert not refused.changed
        assert engine_started(site.systemd) == started
    finally:
        site.systemd.write(DAEMON_JSON, whole)


def test_an_engine_that_does_not_come_up_gets_its_configuration_back(site: Site) -> None:
    whole = site.systemd.read(DAEMON_JSON)
    failed = site.play(
        only="with-init",
        insecure_registries=["cd:5000"],
        daemon_options={"no-such-option": True},
        start_timeout=5,
    )
    assert failed.rc != 0
    said = failed.failures[-1].msg
    assert "no-such-option" in said, "the engine's own words"
    assert "daemon.json was put back as it was, and the engine answers again" in said
    assert site.systemd.read(DAEMON_JSON) == whole
    left = site.systemd.run("sh", "-c", "ls -d /etc/docker/daemon.json*").stdout
    assert left.split() == [DAEMON_JSON]
    site.systemd.run("docker", "version")


def test_without_tls_the_port_is_open_only_where_that_is_asked_for(site: Site) -> None:
    closed = json.loads(site.plain.read(DAEMON_JSON))
    assert closed["hosts"] == ["unix:///var/run/docker.sock"]
    url = f"http://127.0.0.1:{site.plain.port(2375)}/version"
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(url, timeout=SECONDS)
    site.plain.run("docker", "version")

    # What it was given while its port was by TLS does not stay.
    site.plain.write(f"{TLS}/key.pem", "a key")
    once = {"tlsverify": True, "tlskey": f"{TLS}/key.pem", "tlscert": f"{TLS}/cert.pem"}
    site.plain.write(DAEMON_JSON, json.dumps({**closed, **once}))
    opened = site.play(only="without", remote="open").ok()
    warning = opened.task("Warn that whoever reaches the port is root on this machine")
    assert warning.msg.startswith("WARNING")
    assert requests.get(url, timeout=SECONDS).json()["ApiVersion"]
    assert "tls" not in site.plain.run("ls", "/etc/docker").stdout
    assert not {*once} & {*json.loads(site.plain.read(DAEMON_JSON))}
