# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""service_deploy on a real engine: the whole flow, and what the next runs make of it."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator

import pytest
import requests
from docker import DockerClient

from tests.support.certificates import Authority
from tests.support.plays import run_play
from tests.support.service import CHECK, Shop, events_since, open_shop, traffic
from tests.support.service_front import engine_front
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def shop(
    engine: DockerClient, prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    with open_shop(engine, prefix, tmp_path_factory.mktemp("shop")) as shop:
        yield shop


def test_deploy_and_again_under_load(shop: Shop) -> None:
    name = shop.new_name()
    checks = {"test_image": shop.image("v1"), "test_command": CHECK}
    first = shop.deploy(name, shop.image("v1"), **checks)
    assert first.code == 0, first.output
    with traffic(f"{shop.proxy.url}/{name}/1") as seen:
        second = shop.deploy(name, shop.image("v2"), **checks)
        assert second.code == 0, second.output
    assert seen.lost == []
    assert seen.versions == ["v1", "v2"]
    again = shop.deploy(name, shop.image("v2"), **checks)
    assert again.code == 0, again.output
    assert not again.result["changed"]


def test_check_mode_touches_nothing(shop: Shop) -> None:
    name = shop.new_name()
    assert shop.deploy(name, shop.image("v1")).code == 0
    options = shop.options(name, shop.image("v2"), instances=2)
    before, began = shop.state(name), time.time()
    (task,) = run_play(
        [{"name": "Deploy", "immutable.delivery.service_deploy": options}], check=True, diff=True
    ).results
    assert task.changed, task.data
    assert shop.state(name) == before
    assert events_since(shop.engine, began, shop.prefix) == []
    assert "running" in task["diff"]["after"] and len(task["steps"]) > 4
    # A tag is looked up, and nothing else.
    assert {step["seconds"] for step in task["steps"]} == {0.0}


def test_instances_come_and_go_beside_the_others(shop: Shop) -> None:
    name = shop.new_name()
    assert shop.deploy(name, shop.image("v1")).code == 0
    (one,) = shop.running(name)
    with traffic(f"{shop.proxy.url}/{name}/1") as seen:
        more = shop.deploy(name, shop.image("v1"), instances=3)
        assert more.code == 0, more.output
        three = shop.running(name)
        assert one in three and len(three) == 3
        assert len(set(more.result["urls"])) == 3
        registered = shop.proxy.api("GET", f"/{name}").json()["urls"]
        assert sorted(registered) == sorted(more.result["urls"])
        # All of them at once, by a new release.
        new = shop.deploy(name, shop.image("v2"), instances=3)
        assert new.code == 0, new.output
        assert len(shop.running(name)) == 3 and not set(shop.running(name)) & set(three)
        less = shop.deploy(name, shop.image("v2"), instances=1)
        assert less.code == 0, less.output
        assert len(shop.running(name)) == 1 and less.result["drained"]
        assert not shop.deploy(name, shop.image("v2"), instances=1).result["changed"]
    assert seen.lost == [] and seen.versions == ["v1", "v2"]
    # Of v1 three are kept, of v2 no more than are wanted.
    assert len(shop.containers(name)) == 4


def test_back_to_a_release_that_was_kept(shop: Shop) -> None:
    name = shop.new_name()
    first, second = shop.image("v1"), shop.image("v2")
    assert shop.deploy(name, first).code == 0
    (old,) = shop.running(name)
    assert shop.deploy(name, second).code == 0
    # Not even the registry is needed.
    shop.registry.stop()
    try:
        with traffic(f"{shop.proxy.url}/{name}/1") as seen:
            back = shop.deploy(name, first)
    finally:
        shop.registry.start()
    assert back.code == 0, back.output
    assert shop.running(name) == [old]
    assert seen.lost == [] and seen.versions == ["v2", "v1"]


def test_instances_that_ended_or_are_ill_are_repaired(shop: Shop) -> None:
    name = shop.new_name()
    image = shop.image("v1")
    assert shop.deploy(name, image, instances=2).code == 0
    stopped, killed = (shop.engine.containers.get(one) for one in shop.running(name))
    stopped.stop()
    # The engine starts this one again, and at another port.
    os.kill(int(killed.attrs["State"]["Pid"]), signal.SIGKILL)
    eventually(lambda: _restarted(shop, killed.id), "the engine to start it again")
    repaired = shop.deploy(name, image, instances=2)
    assert repaired.code == 0, repaired.output
    assert shop.running(name) == sorted([str(stopped.id), str(killed.id)])
    for _again in range(6):
        assert shop.version(name) == "v1"
    assert not shop.deploy(name, image, instances=2).result["changed"]


def _restarted(shop: Shop, container: str) -> bool:
    found = shop.engine.containers.get(container)
    return bool(found.attrs["RestartCount"]) and found.status == "running"


def test_a_fixed_port_changes_hands_quickly(shop: Shop) -> None:
    name = shop.new_name()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    fixed = {"published_port": port, "router": None, "api_url": None, "prove_path": None}
    checks = {"test_image": shop.image("v1"), "test_command": CHECK}
    first = shop.deploy(name, shop.image("v1"), **fixed, **checks)
    assert first.code == 0, first.output
    assert first.result["urls"] == [f"http://127.0.0.1:{port}"]
    assert first.result["downtime_seconds"] == 0
    # What is broken is found out before the port is taken from anybody.
    before = shop.state(name)
    with traffic(f"http://127.0.0.1:{port}/1") as seen:
        wrong = shop.deploy(name, shop.image("wrong", "wrong"), **fixed, **checks)
    assert wrong.result["kind"] == "tests_failed", wrong.output
    assert seen.lost == [] and shop.state(name) == before
    second = shop.deploy(name, shop.image("v2"), **fixed, **checks)
    assert second.code == 0, second.output
    assert 0 < second.result["downtime_seconds"] < 60
    assert requests.get(f"http://127.0.0.1:{port}/1", timeout=30).json()["version"] == "v2"
    assert len(second.result["previous"]) == 1 and len(shop.containers(name)) == 2
    assert not shop.deploy(name, shop.image("v2"), **fixed, **checks).result["changed"]
    # Without the rehearsal it is found out late, and the earlier version gets the port back.
    late = shop.deploy(name, shop.image("wrong", "wrong"), rehearse=False, **fixed, **checks)
    assert late.result["kind"] == "tests_failed", late.output
    state = late.result["state"]
    assert state.startswith("Live as before: ") and state.endswith(f" at http://127.0.0.1:{port}.")
    assert requests.get(f"http://127.0.0.1:{port}/1", timeout=30).json()["version"] == "v2"


def test_before_there_is_a_router(shop: Shop) -> None:
    name = shop.new_name()
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{bound.getsockname()[1]}"
        first = shop.deploy(name, shop.image("v1"), api_url=away, router_required=False)
    assert first.code == 0, first.output
    assert len(first.result["containers"]) == 1
    assert "not registered" in str(first.result["warnings"])
    (one,) = shop.running(name)
    second = shop.deploy(name, shop.image("v1"), router_required=False)
    assert second.code == 0, second.output
    assert shop.running(name) == [one] and shop.version(name) == "v1"


def test_over_tls_and_only_with_a_certificate(shop: Shop) -> None:
    name, image = shop.new_name(), shop.image("v1")
    authority = Authority(shop.folder)
    context = authority.context("127.0.0.1")
    context.load_verify_locations(authority.path)
    context.verify_mode = ssl.CERT_REQUIRED
    ours = str(authority.issue("deploy"))
    checked = {"validate_certs": True, "ca_path": str(authority.path)}
    with engine_front(tls=context) as front:
        refused = shop.deploy(name, image, docker_host=front.url, **checked)
        assert refused.result["kind"] == "engine_away", refused.output
        assert front.refused and not front.requests and not shop.containers(name)
        known = {**checked, "client_cert": ours, "client_key": ours, "docker_host": front.url}
        done = shop.deploy(name, image, **known)
        assert done.code == 0, done.output
        assert "POST /containers/create" in " ".join(front.requests)
    assert shop.version(name) == "v1"


def test_removed(shop: Shop) -> None:
    name = shop.new_name()
    assert shop.deploy(name, shop.image("v1")).code == 0
    assert shop.deploy(name, shop.image("v2")).code == 0
    gone = shop.deploy(name, shop.image("v2"), state="absent")
    assert gone.code == 0, gone.output
    assert gone.result["changed"] and shop.containers(name) == []
    assert shop.proxy.current(name) is None
    assert not shop.deploy(name, shop.image("v2"), state="absent").result["changed"]


def test_five_services_by_the_role(shop: Shop) -> None:
    names = [shop.new_name() for _service in range(5)]
    play = [
        {
            "name": "Deploy",
            "ansible.builtin.include_role": {"name": "immutable.delivery.service"},
            "vars": {
                "service_list": [
                    {"name": name, "environment": {"SECRET": f"swordfish-{name}"}} for name in names
                ],
                "service_image": shop.image("v1"),
                "service_container_port": 8080,
                "service_bind_address": "127.0.0.1",
                "service_router": "registry",
                "service_api_url": shop.proxy.url,
                "service_prove_path": "/1",
                "service_lock_path": str(shop.folder / "deploy.lock"),
            },
        }
    ]
    first = run_play(play, timeout=300).ok()
    assert "swordfish" not in first.output
    assert [shop.version(name) for name in names] == ["v1"] * 5
    assert not run_play(play, timeout=300).ok().task("Deploy").changed
