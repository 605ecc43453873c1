# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A portal's candidate at HAProxy and through etcd: for who asks, promoted by the guarded pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.etcd import etcd_server, registrar
from tests.support.haproxy import haproxy_server
from tests.support.lab import HOST, Lab, Writer, lab_at
from tests.support.plays import PlayResult
from tests.support.router_flows import send_to
from tests.support.shipped import Shipped

SERVICE = {"name": "portal", "hosts": [HOST]}
GREEN = {"x-client-mode": "green"}


@dataclass
class Fronted(Lab):
    """A lab whose portal is reached through a router that can have a candidate."""

    url: str = ""
    router: dict[str, Any] = field(default_factory=dict)

    @property
    def portal(self) -> str:
        return self.url

    def version(self, **headers: str) -> str:
        answer = requests.get(f"{self.url}/health", headers={"Host": HOST, **headers}, timeout=30)
        return str(answer.json()["version"])

    def step(self, name: str, **more: Any) -> PlayResult:
        router = {f"portal_blue_green_router{key}": value for key, value in self.router.items()}
        return self.play(f"playbooks/{name}.yml", **router, **more)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab_at(tmp_path_factory.mktemp("staged") / "lab") as lab:
        yield lab


@pytest.fixture
def by_haproxy(lab: Lab, tmp_path: Path) -> Iterator[Fronted]:
    with haproxy_server(tmp_path, [SERVICE]) as server:
        send_to(server.router(), lab.live_url, service="portal")
        router = {"": "haproxy", "_url": server.url, "_haproxy": server.options()}
        yield Fronted(lab.folder, lab.settings, server.url, router)


@pytest.fixture
def by_etcd(lab: Lab, tmp_path: Path) -> Iterator[Fronted]:
    with (
        haproxy_server(tmp_path / "haproxy", [SERVICE]) as server,
        etcd_server(tmp_path / "etcd") as etcd,
        registrar(tmp_path, etcd, server),
    ):
        send_to(etcd.router(server.url), lab.live_url, service="portal")
        router = {"": "etcd", "_url": server.url, "_etcd": etcd.options()}
        yield Fronted(lab.folder, lab.settings, server.url, router)


def test_taken_away_again(by_haproxy: Fronted, tarball: Shipped) -> None:
    lab = by_haproxy
    live, before = lab.version(), lab.running
    lab.step("portal_stage", shipped=tarball, portal_version="v26").ok()
    assert not lab.step("portal_stage", portal_version="v26").ok().changed
    assert (lab.version(), lab.version(**GREEN)) == (live, "v26")
    lab.step("portal_rollback", shipped=tarball).ok()
    assert not lab.step("portal_rollback").ok().changed
    assert (lab.version(), lab.version(**GREEN)) == (live, live)
    assert lab.running == before


def test_a_router_that_can_have_no_candidate_is_refused_before_anything_is_made(
    lab: Lab,
) -> None:
    before = lab.instances
    refused = lab.play("playbooks/portal_stage.yml", portal_version="v27")
    assert refused.rc != 0
    assert "router registry cannot have a candidate" in refused.output
    assert lab.instances == before


# The last one: what is live afterwards is known to etcd, and to no other router.
def test_staged_kept_from_promotion_by_the_gate_and_promoted_without_a_loss(
    by_etcd: Fronted, tarball: Shipped
) -> None:
    lab = by_etcd
    with Writer(lab) as writer:
        lab.step("portal_stage", portal_version="v24").ok()
        assert (lab.version(), lab.version(**GREEN)) == ("v23", "v24")
        # A deploy of what is live does not touch it.
        assert not lab.step("deploy", portal_version="v23").ok().changed
        assert lab.version(**GREEN) == "v24"

        kept = lab.step(
            "portal_promote", portal_version="v24", portal_blue_green_gate_command=["false"]
        )
        assert kept.rc != 0
        assert "Ask what was told to be asked" in kept.failures[-1].msg
        assert "Live is v23" in kept.failures[-1].msg
        assert "is staged as before" in kept.failures[-1].msg
        assert (lab.version(), lab.version(**GREEN)) == ("v23", "v24")
        lab.step("portal_promote", shipped=tarball, portal_version="v24").ok()
        assert (lab.version(), lab.version(**GREEN)) == ("v24", "v24")
    assert writer.failed == [] and writer.lost == []
    assert writer.acknowledged and len(lab.running) == 1
