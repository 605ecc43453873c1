# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A portal's candidate at HAProxy: for who asks for it, promoted by the guarded pass, refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests

from tests.support.haproxy import HaProxyServer, haproxy_server
from tests.support.lab import HOST, Lab, Writer, lab_at
from tests.support.plays import PlayResult
from tests.support.router_flows import send_to

GREEN = {"x-client-mode": "green"}


@dataclass
class Fronted(Lab):
    """A lab whose portal is reached through HAProxy."""

    server: HaProxyServer | None = None

    @property
    def portal(self) -> str:
        assert self.server is not None
        return self.server.url

    def version(self, **headers: str) -> str:
        answer = requests.get(
            f"{self.portal}/health", headers={"Host": HOST, **headers}, timeout=30
        )
        return str(answer.json()["version"])

    def step(self, name: str, **more: object) -> PlayResult:
        assert self.server is not None
        return self.play(
            f"playbooks/{name}.yml",
            **{
                "portal_blue_green_router": "haproxy",
                "portal_blue_green_router_url": self.server.url,
                "portal_blue_green_router_haproxy": self.server.options(),
                **more,
            },
        )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    folder = tmp_path_factory.mktemp("staged")
    service = {"name": "portal", "hosts": [HOST]}
    with lab_at(folder / "lab") as lab, haproxy_server(folder / "haproxy", [service]) as server:
        send_to(server.router(), lab.live_url, service="portal")
        yield Fronted(lab.folder, lab.settings, server)


def test_staged_kept_from_promotion_by_the_gate_and_promoted_without_a_loss(lab: Fronted) -> None:
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
        lab.step("portal_promote", portal_version="v24").ok()
        assert (lab.version(), lab.version(**GREEN)) == ("v24", "v24")
    assert writer.failed == [] and writer.lost == []
    assert writer.acknowledged and len(lab.running) == 1


def test_taken_away_again(lab: Fronted) -> None:
    live, before = lab.version(), lab.running
    lab.step("portal_stage", portal_version="v26").ok()
    assert not lab.step("portal_stage", portal_version="v26").ok().changed
    assert (lab.version(), lab.version(**GREEN)) == (live, "v26")
    lab.step("portal_rollback").ok()
    assert (lab.version(), lab.version(**GREEN)) == (live, live)
    assert lab.running == before


def test_a_router_that_can_have_no_candidate_is_refused_before_anything_is_made(
    lab: Fronted,
) -> None:
    before = lab.instances
    refused = lab.play("playbooks/portal_stage.yml", portal_version="v27")
    assert refused.rc != 0
    assert "router registry cannot have a candidate" in refused.output
    assert lab.instances == before
