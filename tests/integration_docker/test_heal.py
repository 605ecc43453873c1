# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is killed, stopped, removed or forgotten: one repair, and everything answers again."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from docker import DockerClient
from docker.models.containers import Container

from ansible_collections.immutable.delivery.plugins.module_utils.lock.file import read, work_file
from tests.support.modules import Ended, run_module
from tests.support.plays import PlayResult, start_play
from tests.support.service import SERVICE_LABEL, events_since
from tests.support.shipped import CHECKOUT, Shipped
from tests.support.waiting import eventually

HEAL, PROXY, SERVICE = (f"playbooks/{name}.yml" for name in ("heal", "proxy", "service"))
PATIENCE = 30.0
# What the engine does by itself all the time.
IDLE = ("container exec_", "container health_status")
SECRET = "swordfish-of-the-service"


@dataclass
class Production:
    """A proxy and a service of two instances, deployed by the plays that a person starts."""

    engine: DockerClient
    folder: Path
    prefix: str
    port: int
    bridge: str
    images: dict[str, str]

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def play(self, book: str, shipped: Shipped = CHECKOUT, **options: Any) -> PlayResult:
        inventory = self.folder / "hosts.yml"
        inventory.write_text("prod: {hosts: {engine: }}\n")
        extra_vars = {
            "ansible_connection": "local",
            "proxy_name": f"{self.prefix}-proxy",
            "proxy_image": self.images["proxy-service"],
            "proxy_port": self.port,
            "proxy_bind_address": "127.0.0.1",
            "proxy_volume": f"{self.prefix}-proxy-data",
            "service_name": f"{self.prefix}-demo",
            "service_image": self.images["demo-service"],
            "service_pull": "never",
            "service_instances": 2,
            "service_route": "demo",
            "service_stop_timeout": 5,
            "service_environment": {"SECRET": SECRET},
            "service_container_port": 8080,
            "service_bind_address": self.bridge,
            "service_address": self.bridge,
            "service_api_url": self.proxy,
            "service_router": "registry",
            "service_lock_path": str(self.folder / "deploy.lock"),
            "heal_services": [f"{self.prefix}-demo", f"{self.prefix}-proxy"],
            **options.pop("extra_vars", {}),
        }
        args = ["--inventory", str(inventory)]
        return shipped.play(book, extra_vars=extra_vars, args=args, timeout=300, **options)

    def heal(self, **options: Any) -> Ended:
        """Run the module, as the play's task does."""
        arguments = {
            "services": [f"{self.prefix}-demo", f"{self.prefix}-proxy"],
            "address": self.bridge,
            "addresses": {f"{self.prefix}-proxy": ""},
            "router": "registry",
            "api_url": self.proxy,
            "health_paths": {f"{self.prefix}-demo": "/health", f"{self.prefix}-proxy": "/services"},
            **options,
        }
        return run_module(self.folder, "service_heal", arguments)

    def found(self, name: str) -> list[Container]:
        """The containers of a service, but for its spare."""
        label = f"{SERVICE_LABEL}={self.prefix}-{name}"
        listed = self.engine.containers.list(
            all=True, filters={"label": label}, ignore_removed=True
        )
        return [one for one in listed if not one.labels.get("immutable.delivery.helps")]

    def registered(self) -> list[str]:
        answer = requests.get(f"{self.proxy}/services/demo", timeout=PATIENCE).json()
        return list(answer.get("urls", ()))

    def answers(self) -> bool:
        """Whether every instance that the proxy knows of answers, and there are two."""
        got = [requests.get(f"{self.proxy}/demo/1", timeout=PATIENCE) for _ask in range(6)]
        return len(self.registered()) == 2 and all(one.ok for one in got)

    def healthy(self) -> bool:
        """Whether the engine's own checks of all containers have been passed."""
        every = self.found("demo") + self.found("proxy")
        return all(one.attrs["State"]["Health"]["Status"] == "healthy" for one in every)

    def healed(self) -> dict[str, Any]:
        """Heal, see all well, and nothing changed a second time; what was said of each service."""
        first = self.heal()
        assert first.code == 0, first.output
        assert first.result["changed"], first.output
        assert SECRET not in first.output
        assert self.answers()
        second = self.heal()
        assert second.code == 0 and not second.result["changed"], second.output
        assert [one["found"] for one in second.result["services"]] == [[], []]
        return {
            one["name"].removeprefix(f"{self.prefix}-"): one for one in first.result["services"]
        }


@pytest.fixture(scope="module")
def production(
    engine: DockerClient,
    prefix: str,
    app_image: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Production]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    bridge = engine.networks.get("bridge").attrs["IPAM"]["Config"][0]
    images = {name: app_image(name) for name in ("proxy-service", "demo-service")}
    folder = tmp_path_factory.mktemp("production")
    made = Production(engine, folder, prefix, port, bridge.get("Gateway", "172.17.0.1"), images)
    made.play(PROXY).ok()
    made.play(SERVICE).ok()
    # It makes the spares.
    assert made.play(HEAL).ok().changed
    yield made


def kill(container: Container) -> None:
    """End it as a crash would, and wait until the engine has started it again."""
    container.reload()
    os.kill(int(container.attrs["State"]["Pid"]), signal.SIGKILL)

    def restarted() -> bool:
        container.reload()
        return bool(container.attrs["RestartCount"]) and container.status == "running"

    eventually(restarted, "the engine to start it again")


def test_instances_that_end_are_started_and_registered_where_they_are(
    production: Production,
) -> None:
    one, other = production.found("demo")
    before = production.registered()
    kill(one)
    other.stop()
    said = production.healed()["demo"]
    assert any("ended with exit code" in text for text in said["found"]), said
    assert any("the router sends demo to" in text for text in said["found"]), said
    assert {str(had.id) for had in production.found("demo")} == {str(one.id), str(other.id)}
    one.restart()
    other.pause()
    assert any("is paused" in text for text in production.healed()["demo"]["found"])
    assert production.registered() != before


def test_what_is_removed_is_made_again_as_it_was(production: Production) -> None:
    (one, other) = production.found("demo")
    one.remove(force=True, v=True)
    said = production.healed()["demo"]
    assert "1 of 2 instances" in str(said["found"])
    for gone in production.found("demo"):
        gone.remove(force=True, v=True)
    requests.delete(f"{production.proxy}/services/demo", timeout=PATIENCE)
    said = production.healed()["demo"]
    assert "2 of 2 instances" in str(said["found"]) and "does not know" in str(said["found"])
    for made in production.found("demo"):
        assert f"SECRET={SECRET}" in made.attrs["Config"]["Env"]
        assert made.attrs["Image"] == other.attrs["Image"]
        assert made.attrs["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


def test_the_proxy_comes_back_first_and_with_its_registrations(production: Production) -> None:
    (proxy,) = production.found("proxy")
    proxy.stop()
    assert production.healed()["proxy"]["changed"]
    proxy.remove(force=True, v=True)
    (demo, _other) = production.found("demo")
    demo.restart()
    said = production.healed()
    assert said["proxy"]["changed"] and said["demo"]["changed"]


def test_one_that_hangs_is_replaced_if_its_like_does_better(production: Production) -> None:
    demo = f"{production.prefix}-demo"
    # Those that were made or started just now have yet to be asked by the engine.
    eventually(production.healthy, "the engine to find all healthy")
    before, at = production.found("demo"), production.registered()
    # Nothing can answer this, so whatever is made is no better than what there is.
    worse = production.heal(health_paths={demo: "/no/where"}, health_timeout=2)
    assert worse.code == 1 and "was removed again" in worse.output, worse.output
    assert [one.id for one in production.found("demo")] == [one.id for one in before]
    assert production.registered() == at and production.answers()
    hung = before[0]
    hung.reload()
    os.kill(int(hung.attrs["State"]["Pid"]), signal.SIGSTOP)
    said = production.healed()["demo"]
    assert "gives no good answer" in str(said["found"]), said
    assert str(hung.id) not in {str(one.id) for one in production.found("demo")}


def test_by_the_play_under_the_lock_and_in_check_mode(
    production: Production, tarball: Shipped
) -> None:
    # A service that was deployed from a checkout is the same for an installed collection.
    assert not production.play(PROXY, tarball).ok().changed
    assert not production.play(SERVICE, tarball).ok().changed
    for one in production.found("demo"):
        one.stop()
    repair = "Repair what does not stand as it should"
    began = time.time()
    checked = production.play(HEAL, check=True, diff=True).ok()
    would = checked.task(repair)
    assert would.changed and "would start" in would["diff"]["after"]
    assert "would be repaired" in checked.stdout
    path = production.folder / "deploy.lock"
    with start_play(
        [
            {
                "name": "Lock",
                "immutable.delivery.deploy_lock": {
                    "path": str(path),
                    "name": "demo",
                },
            },
            {"name": "Deploy", "ansible.builtin.wait_for": {"path": "/never"}},
        ]
    ) as deploying:
        eventually(lambda: bool(deploying.results), "the lock of a deploy")
        kept_out = production.play(HEAL).ok()
        deploying.kill()
    assert not kept_out.changed and "being deployed by" in kept_out.stdout, kept_out.output
    # What a module of the killed deploy is still at is not in need of repair either.
    held = read(path)
    assert held is not None
    with work_file(path, held.token).open() as shared:
        fcntl.flock(shared, fcntl.LOCK_SH)
        kept_out = production.play(HEAL).ok()
    assert not kept_out.changed and "is still at work on demo" in kept_out.stdout, kept_out.output
    seen = events_since(production.engine, began, production.prefix)
    assert [event for event in seen if not event.startswith(IDLE)] == []
    healed = production.play(HEAL, tarball).ok()
    assert healed.task(repair).changed and "repaired" in healed.stdout
    assert production.answers()
    assert not production.play(HEAL).ok().changed
    assert SECRET not in "".join(one.output for one in (checked, healed))
