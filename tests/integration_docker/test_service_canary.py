# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A canary of a service on a real engine with a real HAProxy: tried, refused, promoted, back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from docker import DockerClient

from tests.support.haproxy import HaProxyServer, haproxy_server
from tests.support.modules import Ended
from tests.support.plays import PlayResult
from tests.support.service import Shop, open_shop, traffic
from tests.support.shipped import CHECKOUT, Shipped

GREEN = {"x-client-mode": "green"}


@dataclass
class Front:
    """A shop whose service is reached through HAProxy."""

    shop: Shop
    server: HaProxyServer
    name: str

    def run(self, state: str, version: str = "", **more: Any) -> Ended:
        """The module, with an image where a version is named."""
        image = self.shop.image(version) if version else None
        return self.shop.deploy(self.name, image, state=state, **{**self.options(), **more})

    def options(self) -> dict[str, Any]:
        return {
            "router": "haproxy",
            "api_url": self.server.url,
            "haproxy": self.server.options(),
            "route": "demo",
        }

    def play(self, phase: str, shipped: Shipped, **variables: Any) -> PlayResult:
        """Run a playbook of the collection."""
        given = {
            **self.options(),
            "name": self.name,
            "container_port": 8080,
            "bind_address": "127.0.0.1",
            "lock_path": str(self.shop.folder / "canary.lock"),
            **variables,
        }
        return shipped.play(
            f"playbooks/service_{phase}.yml",
            extra_vars={
                "service_hosts": "localhost",
                **{f"service_{name}": value for name, value in given.items()},
            },
            args=["--inventory", "localhost,"],
            timeout=300,
        )

    def version(self, **headers: str) -> str:
        answer = requests.get(f"{self.server.url}/1", headers=headers, timeout=30)
        assert answer.ok, answer.text
        return str(answer.json()["version"])


@pytest.fixture(scope="module")
def front(
    engine: DockerClient, prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("canary")
    with (
        open_shop(engine, prefix, folder) as shop,
        haproxy_server(folder / "haproxy", [{"name": "demo", "backends": 3}]) as server,
    ):
        front = Front(shop, server, shop.new_name())
        first = front.run("staged", "v1")
        assert first.code == 0, first.output
        # Beside nobody there is nothing to be tried on.
        assert front.version() == "v1" and first.result["candidate"] == []
        yield front


def done(ended: Ended, *, changed: bool = True) -> dict[str, Any]:
    assert ended.code == 0, ended.output
    assert ended.result["changed"] is changed, ended.output
    return ended.result


def test_from_the_first_who_asks_for_it_to_the_way_back(front: Front) -> None:
    with traffic(f"{front.server.url}/1") as seen:
        staged = done(front.run("staged", "v2"))
        assert (staged["weight"], len(staged["candidate"])) == (0, 1)
        assert (front.version(), front.version(**GREEN)) == ("v1", "v2")
        assert seen.versions == ["v1"]
        done(front.run("staged", "v2"), changed=False)
        # No registry, and no image, is needed from here on.
        front.shop.registry.stop()
        try:
            assert done(front.run("canary", weight=40))["weight"] == 40
            done(front.run("canary", weight=40), changed=False)
            promoted = done(front.run("promoted"))
            assert front.version() == "v2" and promoted["candidate"] == []
            assert promoted["drained"] and len(front.shop.running(front.name)) == 1
            done(front.run("promoted"), changed=False)
            done(front.run("rolled_back"))
            assert front.version() == "v1"
            done(front.run("rolled_back"), changed=False)
        finally:
            front.shop.registry.start()
    assert seen.lost == []
    assert set(seen.versions) == {"v1", "v2"}
    # Who was refused can be tried again, and is made anew.
    done(front.run("staged", "v2"))
    assert len(front.shop.running(front.name)) == 2
    done(front.run("rolled_back"))


def test_a_gate_that_fails_gives_the_clients_back(front: Front, tarball: Shipped) -> None:
    front.play("stage", tarball, image=front.shop.image("v2")).ok()
    gate = 'test "$CANARY_WEIGHT" -lt 40 || { echo too many; exit 3; }'
    steps = [{"weight": 10, "bake": 0}, {"weight": 40, "bake": 0}]
    probe = {"dir": str(front.shop.folder / "load"), "url": front.server.url, "reads": ["/1"]}
    probe.update(rate=20)
    with traffic(f"{front.server.url}/1") as seen:
        played = front.play(
            "canary",
            CHECKOUT,
            canary_steps=steps,
            canary_command=["sh", "-c", gate],
            canary_probe=probe,
        )
    assert played.rc != 0
    told = played.output
    assert "did not pass the gate" in told and "staged again" in told and "too many" in told
    assert f"{front.name}: {front.name}-" in told and "has all other clients" in told
    assert seen.lost == []
    assert (front.version(), front.version(**GREEN)) == ("v1", "v2")
    # The same gate, kinder; then everybody.
    front.play("canary", tarball, canary_steps=steps[1:], canary_command=["true"]).ok()
    front.play("promote", tarball).ok()
    assert front.version() == "v2"
    front.play("rollback", tarball).ok()
    assert front.version() == "v1"


def test_the_other_playbooks_do_the_same_in_a_checkout(front: Front) -> None:
    front.play("stage", CHECKOUT, image=front.shop.image("v2")).ok()
    assert (front.version(), front.version(**GREEN)) == ("v1", "v2")
    front.play("promote", CHECKOUT).ok()
    assert front.version() == "v2"
    front.play("rollback", CHECKOUT).ok()
    assert front.version() == "v1"


def test_a_candidate_that_is_not_what_it_should_be_is_taken_back(front: Front) -> None:
    before = sorted((one.id, one.name, one.status) for one in front.shop.containers(front.name))
    failed = front.run("staged", "v3", prove_fields={"version": "v9"}, prove_timeout=2)
    assert failed.code != 0
    assert "ask for the candidate: " in failed.result["msg"]
    assert f"Live as before: {front.name}-" in failed.result["state"]
    assert (front.version(), front.version(**GREEN)) == ("v1", "v1")
    left = sorted((one.id, one.name, one.status) for one in front.shop.containers(front.name))
    assert set(left) <= set(before)
    assert [one for one in left if one[2] == "running"] == [
        one for one in before if one[2] == "running"
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"router": "registry"}, "router registry cannot have a candidate"),
        ({"published_port": 1}, "two versions cannot listen on one port"),
        ({"address": "prod.example.com"}, "HAProxy cannot send traffic to http://prod.example.com"),
        ({"router": None, "prove_path": None}, "state staged needs router"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_started(
    front: Front, options: dict[str, Any], words: str
) -> None:
    before = front.shop.running(front.name)
    refused = front.run("staged", "v2", **options)
    assert refused.code != 0
    assert words in refused.result["msg"]
    assert front.shop.running(front.name) == before
