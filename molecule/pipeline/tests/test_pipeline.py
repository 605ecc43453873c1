# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands after a deploy, another under load, and one that was refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
import testinfra
from testinfra.host import Host

from tests.support.scenario import SECONDS, address, authority, deployer, inventory

LABEL = "immutable.delivery.service"


@pytest.fixture(scope="module")
def prod() -> Host:
    return testinfra.get_host("ansible://prod", ansible_inventory=inventory())


def containers(prod: Host, service: str) -> dict[str, dict[str, Any]]:
    """A service's containers by what they run, ended ones as well."""
    names = prod.check_output(f"docker ps --all --quiet --filter label={LABEL}={service}").split()
    found = json.loads(prod.check_output(f"docker inspect {' '.join(names)}"))
    return {one["Config"]["Image"]: one for one in found}


def digest(tag: str) -> str:
    """What the registry calls an image of the service that was pushed under a tag."""
    answer = requests.head(
        f"https://{address('cd')}:5000/v2/demo/manifests/{tag}",
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
        verify=authority(),
        timeout=SECONDS,
    )
    return f"cd:5000/demo@{answer.headers['Docker-Content-Digest']}"


def test_the_new_version_runs_and_the_one_before_it_is_kept(prod: Host) -> None:
    states = {image: one["State"]["Status"] for image, one in containers(prod, "demo").items()}
    assert states == {digest("v2"): "running", digest("v1"): "exited"}


def test_the_proxy_sends_people_to_it(prod: Host) -> None:
    url = f"http://{address('prod')}:8000"
    registered = requests.get(f"{url}/services/demo", timeout=SECONDS).json()["url"]["url"]
    live = containers(prod, "demo")[digest("v2")]
    (port,) = live["NetworkSettings"]["Ports"]["8080/tcp"][:1]
    assert registered == f"http://{address('prod')}:{port['HostPort']}"
    answer = requests.get(f"{url}/demo/1", timeout=SECONDS)
    assert isinstance(answer.json()["rec"], int)
    assert answer.headers["X-Version"] == "v2"


def test_what_runs_is_started_again_by_the_engine_and_what_is_kept_is_not(prod: Host) -> None:
    for service in ("demo", "proxy"):
        for one in containers(prod, service).values():
            runs = one["State"]["Status"] == "running"
            policy = one["HostConfig"]["RestartPolicy"]["Name"]
            assert policy == ("unless-stopped" if runs else "no")
            assert not runs or one["State"]["Health"] is not None


def test_prod_is_deployed_to_by_its_engine_alone(prod: Host) -> None:
    url = f"https://{address('prod')}:2376/version"
    assert requests.get(url, verify=authority(), cert=deployer(), timeout=SECONDS).ok
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(url, verify=authority(), timeout=SECONDS)
    # Neither what builds nor what it is built from has got there.
    assert prod.run("docker buildx version").rc != 0
    assert not prod.file("/srv/apps").exists
