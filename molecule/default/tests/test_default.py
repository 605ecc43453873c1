# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine on which nothing was installed has an engine and a registry, both by TLS only."""

from __future__ import annotations

import json

import pytest
import requests
from testinfra.host import Host

from tests.support.scenario import SECONDS, address, authority, deployer

REGISTRY = "cd:5000"


def test_both_run_now_and_after_a_restart(host: Host) -> None:
    for name in ("docker", "docker-registry"):
        service = host.service(name)
        assert service.is_running, name
        assert service.is_enabled, name
    assert host.run("systemctl is-system-running").stdout.strip() == "running"


def test_the_engine_has_compose_and_buildx_and_nothing_else_that_is_newer(host: Host) -> None:
    assert host.check_output("docker compose version --short").startswith("2.")
    assert "buildx" in host.check_output("docker buildx version")
    lines = host.check_output("apt-cache policy libc6 docker.io docker-compose").splitlines()
    candidates = [line.split()[1] for line in lines if "Candidate:" in line]
    assert "deb12" in candidates[0]
    assert "+dfsg" in candidates[1]
    assert candidates == [line.split()[1] for line in lines if "Installed:" in line]


def test_the_engine_listens_where_daemon_json_says(host: Host) -> None:
    options = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert options["hosts"] == ["unix:///var/run/docker.sock", "tcp://0.0.0.0:2376"]
    assert options["tlsverify"] is True
    assert options["live-restore"] is True
    assert not host.socket("tcp://0.0.0.0:2375").is_listening


def test_keys_are_private(host: Host) -> None:
    engine = host.file("/etc/docker/tls/key.pem")
    assert (engine.user, engine.mode) == ("root", 0o600)
    registry = host.file("/etc/docker/registry/tls/key.pem")
    assert (registry.user, registry.group, registry.mode) == ("root", "docker-registry", 0o640)


def test_the_engine_answers_to_our_certificate_only() -> None:
    url = f"https://{address('cd')}:2376/version"
    answer = requests.get(url, verify=authority(), cert=deployer(), timeout=SECONDS)
    assert answer.json()["ApiVersion"]
    with pytest.raises(requests.exceptions.ConnectionError, match=r"(?i)certificate|reset|alert"):
        requests.get(url, verify=authority(), timeout=SECONDS)


def test_an_image_is_pushed_and_pulled_by_its_digest(host: Host) -> None:
    image = f"{REGISTRY}/tried:one"
    host.check_output(f"tar --create --directory /etc hostname | docker import - {image}")
    digest = host.check_output(f"docker push {image}").split("digest: ")[1].split()[0]
    host.check_output(f"docker rmi {image}")
    host.check_output(f"docker pull {REGISTRY}/tried@{digest}")

    tags = requests.get(
        f"https://{address('cd')}:5000/v2/tried/tags/list", verify=authority(), timeout=SECONDS
    )
    assert tags.json() == {"name": "tried", "tags": ["one"]}
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"https://{address('cd')}:5000/v2/", timeout=SECONDS)
