# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three machines by Vagrant, and the walk of docs/walk.md over them, as it is written there.

The tests stand in the order of the page's sections, and each goes on where the one before it ended.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from docker import DockerClient

from tests.support.engine import APPS, BUILD_SECONDS, IMAGES, ROOT
from tests.support.machine import FLAGS
from tests.support.plays import SHARING
from tests.support.service import traffic
from tests.support.vagrant import CHECKOUT, STATE, destroy, vagrant_env
from tests.support.waiting import eventually
from tests.support.walk import Typed, Walk

PAGE = ROOT / "docs" / "walk.md"
PROXY = "http://10.100.200.201:8000"
SERVICE = re.compile(r":(\d+)->8080/tcp +(demo-\S+)")
LINE_SECONDS = 1800


def changed(typed: Typed) -> dict[str, int]:
    """How many tasks changed something, by host, as the last recap says."""
    recap = typed.ok().rpartition("PLAY RECAP")[2]
    return {host: int(number) for host, number in re.findall(r"(\S+) +: .*changed=(\d+)", recap)}


def live(shown: Typed) -> tuple[str, str]:
    """Port and name of the service's only container, as `docker ps` shows it."""
    ((port, name),) = SERVICE.findall(shown.ok())
    return port, name


def recommended(answer: str) -> int:
    """The number in the answer of the service."""
    (number,) = json.loads(answer.strip().splitlines()[-1]).values()
    assert isinstance(number, int)
    return number


def left(engine: DockerClient) -> list[str]:
    """What there is on the engine, on the disk and among processes that belongs to the machines."""
    containers = engine.containers.list(all=True, ignore_removed=True)
    found = [f"container {one.name}" for one in containers]
    found += [f"volume {one.name}" for one in engine.volumes.list()]
    found += [f"network {one.name}" for one in engine.networks.list()]
    found = [one for one in found if f" immutable-{CHECKOUT}" in one]
    found += [f"folder {one}" for one in STATE.glob(CHECKOUT)]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(STATE / CHECKOUT) in command or "10.100.200." in command:
            found.append(f"process {command}")
    return found


def save_app_base(archive: Path) -> None:
    """Save what all apps are built on, packages included, as an image of its own."""
    made = f"{IMAGES}/app-base:latest"
    app = APPS / "demo-service"
    for command in (
        ["docker", "build", "--target", "base", "--tag", made, str(app)],
        ["docker", "save", "--output", str(archive), made],
    ):
        done = subprocess.run(
            command,
            env={**os.environ, "DOCKER_BUILDKIT": "1"},
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    # For the machine's user as well.
    archive.chmod(0o644)


@pytest.fixture(scope="module")
def walk(engine: DockerClient) -> Iterator[Walk]:
    """Somebody who walks along the page; nothing is left of it, however far it went."""
    if shutil.which("vagrant") is None:
        pytest.fail("vagrant is missing; `make setup-machines` installs it", pytrace=False)
    # What an app's Dockerfile begins with, so that the machines need not fetch it again each.
    archive = ROOT / ".build" / "machines" / "base.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    save_app_base(archive)
    env = {
        **vagrant_env(),
        **SHARING,
        "MACHINE_BASE_IMAGE": f"/vagrant/{archive.relative_to(ROOT)}",
        "MACHINE_PACKAGES": "control",
        "ANSIBLE_NOCOLOR": "1",
        # A quarter of the programs for each task on a machine.
        "ANSIBLE_PIPELINING": "1",
    }
    # The first would hide the checkout's own; the others, where they are set, are preferred by
    # requests to the authority that a module of community.docker is given.
    for name in ("ANSIBLE_COLLECTIONS_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        env.pop(name, None)
    # Of a run that was killed.
    destroy()
    try:
        with Walk(PAGE, ROOT, env, LINE_SECONDS) as walking:
            yield walking
    finally:
        destroy()
        archive.unlink()


def test_three_machines_come_up_and_a_second_provision_changes_nothing(walk: Walk) -> None:
    *_before, up, again = walk.section("")
    assert set(changed(up)) >= {"machine-dev", "machine-cd", "machine-prod"}
    assert set(changed(again).values()) == {0}, again.output


def test_the_vagrantfile_starts_machines_as_the_other_tests_do() -> None:
    text = (ROOT / "Vagrantfile").read_text()
    assert [flag for flag in FLAGS if f'"{flag}"' not in text] == []


def test_on_dev_the_service_is_built_run_and_tested_both_ways(walk: Walk) -> None:
    image, tests, alone, _run, answer, against, _removed = walk.section("On dev")
    for typed in (image, tests):
        assert "Successfully" in typed.ok() or "writing image" in typed.output
    assert "All 4 tests of a service of their own passed." in alone.ok()
    recommended(answer.ok())
    assert "All 4 tests of http://localhost:7070 passed." in against.ok()


def test_cd_builds_and_deploys_to_prod_which_it_cannot_log_in_to(walk: Walk) -> None:
    _cd, built, proxy, unknown, deployed, known, answer, shown, login = walk.section("On cd")
    assert changed(built)["machine-cd"] == 4, "two images and that of the tests, built and pushed"
    assert changed(proxy)["machine-prod"] == 1
    assert json.loads(unknown.ok()) == {}
    assert changed(deployed)["machine-prod"] == 1
    port, _name = live(shown)
    assert json.loads(known.ok())["url"] == {
        "url": f"http://10.100.200.201:{port}",
        "name": "demo",
    }
    recommended(answer.ok())

    assert login.code == 255 and "Permission denied" in login.output
    keys = "-name key -o -name 'id_*' -o -name private_key -o -name ca.key"
    assert walk.type("cd", f"sudo find /home /root /vagrant/.vagrant {keys}").ok().strip() == ""
    plain = walk.type("cd", "curl --silent --show-error --insecure https://prod:2376/version")
    assert plain.code != 0 and "certificate" in plain.output


def test_the_next_release_takes_over_and_nobody_notices(walk: Walk) -> None:
    before = live(walk.type("cd", "docker --tlsverify -H tcp://prod:2376 ps"))
    with traffic(
        f"{PROXY}/demo/1", method="GET", version=lambda one: one.headers["X-Version"]
    ) as seen:
        deployed, answer, shown = walk.section("Again")
    assert changed(deployed)["machine-prod"] == 1
    recommended(answer.ok())
    after = live(shown)
    assert before[0] != after[0] and before[1] != after[1]
    assert (seen.lost, seen.versions) == ([], ["1.0.0", "1.1.0"])

    again = walk.type(*walk.page["Again"][0])
    assert set(changed(again).values()) == {0}


def test_a_release_whose_tests_fail_changes_nothing(walk: Walk) -> None:
    before = live(walk.type("cd", "docker --tlsverify -H tcp://prod:2376 ps"))
    with traffic(
        f"{PROXY}/demo/1", method="GET", version=lambda one: one.headers["X-Version"]
    ) as seen:
        failed, answer, shown = walk.section("A release that must not go out")
    assert failed.code == 2
    assert "the tests failed with exit code 1" in failed.output
    assert "recommends_a_number" in failed.output
    recommended(answer.ok())
    assert live(shown) == before
    assert (seen.lost, seen.versions) == ([], ["1.1.0"])


def test_what_dies_is_repaired(walk: Walk) -> None:
    killed, healed, answer, stopped, started, again = walk.section("Things that die")
    assert len(killed.ok().split()) == 2, "the service and the proxy"
    assert changed(healed)["machine-prod"] == 1
    recommended(answer.ok())
    stopped.ok()
    assert changed(started)["machine-prod"] >= 1
    recommended(again.ok())
    assert requests.get(f"{PROXY}/demo/1", timeout=60).headers["X-Version"] == "1.1.0"


def test_the_host_deploys_all_of_it_by_one_command(walk: Walk) -> None:
    (deployed,) = walk.section("From the host")
    assert changed(deployed)["machine-prod"] >= 1
    assert requests.get(f"{PROXY}/demo/1", timeout=60).headers["X-Version"] == "1.3.0"


def test_nothing_is_left_of_the_machines(walk: Walk, engine: DockerClient) -> None:
    assert any("container" in one for one in left(engine))
    (destroyed,) = walk.section("Away with it")
    destroyed.ok()
    # Ansible's connections stay open for a few seconds.
    eventually(lambda: left(engine) == [], "nothing to be left of the machines", 120)
