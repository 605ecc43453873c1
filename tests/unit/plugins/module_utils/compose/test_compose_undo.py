# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an undo leaves if the router cannot be told of it: whoever has the traffic goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.compose.blue_green import (
    BlueGreenChange,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.colour_engine import (
    ColourEngine,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.colours import (
    Move,
    Standing,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.containers import (
    Containers,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.decision import (
    RECREATE,
    ROLLING,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.engine_state import (
    ONEOFF,
    PROJECT,
    SERVICE,
    instances,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.put_back import (
    Progress,
    PutBack,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.routing import (
    Checks,
    Entrance,
    ProjectRouting,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.traffic import Traffic
from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.http import Http
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import StillServing
from ansible_collections.immutable.delivery.plugins.module_utils.routers.drain import NotDrained

from ..service.memory_engine import MemoryEngine
from ..service.memory_router import MemoryRouter
from .world import instance, service, wanted

PORT = 8080


class World:
    """A service of which a former and a new container are there; the new one has the traffic."""

    def __init__(self, strategy: str) -> None:
        self.engine: Any = MemoryEngine()
        self.router = MemoryRouter()
        self.routing = ProjectRouting(
            self.router,
            {"web": Entrance("web", PORT, "web")},
            "127.0.0.1",
            Checks(drain_timeout=0.1),
            Http,
        )
        self.want = wanted(service("web"), strategy=strategy, routed=frozenset({"web"}))
        self.containers = Containers(
            self.engine,
            None,
            self.want.project,
            5.0,  # type: ignore[arg-type]
        )
        self.old = self.make("old")
        self.router.urls = (self.url("old"),)
        self.traffic = Traffic(self.engine, self.routing, self.want.routed)
        self.traffic.observe("web", self.seen())
        self.progress = Progress()
        self.put_back = PutBack(self.containers, self.want, self.traffic, self.progress)
        self.put_back.former = {self.old: self.seen()[0]}
        self.new = self.make("new")
        if strategy == RECREATE:
            self.progress.stop(self.seen()[0])
            self.containers.stop_and_keep(self.old, 1)
        self.progress.made["web"] = [self.new]
        self.progress.started.add(self.new)
        self.progress.healthy[self.new] = self.containers.inspect(self.new)
        self.noted: list[Callable[[], object]] = []
        self.traffic.send("web", [self.new], {}, lambda undo, state="": self.noted.append(undo))

    def make(self, name: str, project: str = "p") -> str:
        labels = {PROJECT: project, SERVICE: "web", ONEOFF: "False"}
        one: str = self.engine.make(name, labels, PORT)
        return one

    def seen(self) -> list[Any]:
        return instances(self.engine, "p")["web"]

    def url(self, name: str) -> str:
        ports = self.engine.named(name)["NetworkSettings"]["Ports"]
        return f"http://127.0.0.1:{ports[f'{PORT}/tcp'][0]['HostPort']}"


@pytest.mark.parametrize("strategy", [RECREATE, ROLLING])
def test_the_former_one_serves_again(strategy: str) -> None:
    world = World(strategy)
    assert world.put_back() == "old serves again"
    assert world.engine.running() == ["old"]
    assert world.router.urls == (world.url("old"),)


@pytest.mark.parametrize("strategy", [RECREATE, ROLLING])
def test_who_has_the_traffic_goes_on_if_the_router_is_away(strategy: str) -> None:
    world = World(strategy)
    world.router.away = True
    with pytest.raises(DeliveryError, match="the table does not answer"):
        world.put_back()
    assert "new" in world.engine.running()
    assert world.put_back.left == {world.new}
    assert world.router.urls == (world.url("new"),)


def test_requests_that_are_left_do_not_break_an_undo_off(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(ROLLING)
    monkeypatch.setattr(MemoryRouter, "in_flight", lambda self, service: 1)
    world.routing.checks = Checks(drain_timeout=0.1, drain_required=True)
    with pytest.raises(NotDrained):
        world.traffic.drain("web")
    assert world.put_back() == "old serves again"


def test_one_that_has_failed_is_replaced_even_so() -> None:
    world = World(RECREATE)
    world.router.away = True
    world.engine.restart("new")
    with pytest.raises(DeliveryError, match="the table does not answer"):
        world.put_back()
    assert world.engine.running() == ["old"]


@pytest.mark.parametrize(
    ("name", "holder_goes", "names"),
    [
        ("web-1", False, {"web-1": "old"}),
        ("web-1_0123456789ab", False, {"web-1_0123456789ab": "old", "web-1": "kept"}),
        # The one that a killed run has put in its place goes.
        ("web-1_0123456789ab", True, {"web-1": "old"}),
        ("fixed_0123456789ab", False, {"fixed_0123456789ab": "old"}),
    ],
)
def test_who_serves_again_has_its_name_again(
    name: str, holder_goes: bool, names: dict[str, str]
) -> None:
    world = World(ROLLING)
    web = service("web")
    old = instance(web, 1, name=name, id_="old", status="exited")
    kept = instance(web, 1, name="web-1", id_="kept")
    world.put_back.former = {"old": old, **({"kept": kept} if "_" in name else {})}
    world.progress.stopped = {"old": (old, "no")}
    world.progress.unproved = {"kept"} if holder_goes else set()
    if name.startswith("fixed"):
        world.put_back.former = {"old": old}
    assert world.put_back._names() == names


def test_who_depends_on_one_that_is_lost_is_started_even_so() -> None:
    world = World(RECREATE)
    database = service("db")
    front = service("web", depends_on={"db": {"condition": "service_started"}})
    world.put_back.wanted = wanted(database, front, strategy=RECREATE)
    lost = instance(database)
    world.put_back.former = {**world.put_back.former, lost.id: lost}
    world.progress.stop(lost)
    with pytest.raises(DeliveryError, match="p-db-1"):
        world.put_back()
    assert world.engine.running() == ["old"]


@pytest.mark.parametrize("switched", [False, True])
def test_a_second_project_that_has_the_traffic_stays(switched: bool) -> None:
    world = World(ROLLING)
    world.make("green", "p-green")
    colours = ColourEngine(world.engine, "p", frozenset({"web"}))
    move = Move("p-green", True, {"web": None})
    change = BlueGreenChange(world.containers, colours, world.routing, Standing({}), move)
    if switched:
        change.switched.add("web")
    world.router.urls = (world.url("green"),)
    if switched:
        with pytest.raises(StillServing, match="p-green was left running, since the router still"):
            change._remove_target()
        world.router.urls = (world.url("new"),)
    change._remove_target()
    assert world.engine.running() == ["new", "old"]
