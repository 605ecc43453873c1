# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failed deploy leaves, on an engine and a router that fail in the middle of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.change import run
from ansible_collections.immutable.delivery.plugins.module_utils.engine.images import (
    Images,
    Reference,
)
from ansible_collections.immutable.delivery.plugins.module_utils.errors import (
    DeliveryError,
    Interrupted,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.peers import Share
from ansible_collections.immutable.delivery.plugins.module_utils.routers.routing import Routing
from ansible_collections.immutable.delivery.plugins.module_utils.service import go_back, staging
from ansible_collections.immutable.delivery.plugins.module_utils.service.containers import Engine
from ansible_collections.immutable.delivery.plugins.module_utils.service.deploy import Deploy
from ansible_collections.immutable.delivery.plugins.module_utils.service.finish import deliver
from ansible_collections.immutable.delivery.plugins.module_utils.service.model import Shape, Wanted
from ansible_collections.immutable.delivery.plugins.module_utils.service.observe import (
    Observer,
    RouterAway,
)

from .memory_engine import MemoryEngine
from .memory_router import MemoryRouter

PORT = 8080


def only(names: Iterable[str]) -> str:
    """The one name that there is."""
    (one,) = names
    return one


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "LAST_REQUESTS", 0.1)


def _no_answer(call: str, name: str) -> None:
    raise ConnectionRefusedError(f"no answer to {call} of {name}")


def _interrupted(*_more: Any) -> Any:
    raise Interrupted("interrupted by SIGTERM")


class World:
    """A service on an engine behind a router."""

    def __init__(self, fixed: bool = False, routed: bool = True) -> None:
        self.engine: Any = MemoryEngine()
        self.router = MemoryRouter()
        self.routed = routed
        self.fixed = fixed

    def deploy(self, version: str, soak: float = 0.0) -> Deploy:
        shape = Shape(PORT, PORT if self.fixed else None, environment={"VERSION": version})
        wanted = Wanted(
            "demo", shape, route="demo" if self.routed else "", soak=soak, rehearse=False
        )
        images = Images(self.engine, local=True)
        routing = Routing(self.router, "demo", share=Share({"127.0.0.1"})) if self.routed else None
        observer = Observer(
            wanted, Engine(self.engine), images, Reference.of("demo:1"), routing=routing
        )
        return Deploy(wanted, observer)

    def run(self, version: str, soak: float = 0.0) -> Deploy:
        deploy = self.deploy(version, soak)
        deliver(deploy, check_mode=False, drain_timeout=1.0)
        return deploy

    def fail(self, version: str, soak: float = 0.0, interrupted: bool = False) -> DeliveryError:
        deploy = self.deploy(version, soak)
        if interrupted:
            deploy.verify = _interrupted  # type: ignore[method-assign]
        with pytest.raises(DeliveryError) as caught:
            run(deploy)
        return caught.value

    def serving(self) -> list[str]:
        """Return the names of those that run and that the router leads to."""
        found = []
        for one in self.engine.found.values():
            ports = one["NetworkSettings"].get("Ports", {}).values()
            urls = {f"http://127.0.0.1:{port['HostPort']}" for bound in ports for port in bound}
            if not self.routed or urls & set(self.router.urls):
                found += [one["Name"][1:]] if urls else []
        return found


class Once:
    """Does something as soon as another release than *former* has the traffic."""

    def __init__(self, world: World, former: str, act: Callable[[], None], looks: int = 1) -> None:
        self.world, self.former, self.act, self.left = world, former, act, looks

    def __call__(self) -> None:
        if self.left and set(self.world.serving()) - {self.former}:
            self.left -= 1
            if not self.left:
                self.act()


def test_the_former_one_is_removed_once_the_new_one_is_live() -> None:
    world = World()
    world.run("v1")
    (v1,) = world.serving()
    world.run("v2")
    (v2,) = world.serving()
    assert v1 != v2 and world.engine.running() == [v2]


def test_the_diff_has_the_route_and_no_name_that_is_not_known_yet() -> None:
    world = World()

    def predict(version: str) -> dict[str, str]:
        done = deliver(world.deploy(version), check_mode=True, drain_timeout=1.0)
        return done.outcome.diff

    first = "demo-demo:1-????????-1"
    assert predict("v1") == {
        "before": "demo is registered nowhere\n",
        "after": f"demo goes to {first} (port not known yet)\n{first}: running\n",
    }
    assert not world.engine.found
    made = deliver(world.deploy("v1"), check_mode=False, drain_timeout=1.0)
    v1, url = only(made.deploy.made), only(world.router.urls)
    assert made.outcome.diff["after"] == f"demo goes to {url}\n{v1}: running\n"
    # From now on both have the same name for what comes next.
    foreseen = predict("v2")
    v2 = only(world.run("v2").made)
    assert foreseen == {
        "before": f"demo goes to {url}\n{v1}: running\n",
        "after": f"demo goes to {v2} (port not known yet)\n"
        + "".join(sorted([f"{v1}: exited\n", f"{v2}: running\n"])),
    }
    assert predict("v2")["after"].startswith(f"demo goes to {only(world.router.urls)}\n")


def test_what_has_the_traffic_is_left_if_the_router_cannot_be_told() -> None:
    world = World()
    v1 = only(world.run("v1").made)

    def away() -> None:
        world.router.away = True

    world.router.on_look = Once(world, v1, away)
    failed = world.fail("v2")
    (v2,) = world.serving()
    assert world.engine.running() == sorted([v1, v2])
    name = v2.removesuffix(".candidate")
    assert f"{v2} was left running, since the router may still lead to it" in failed.state
    assert f"Runs, maybe without traffic: {v1}" in failed.state
    assert "Live as before" not in failed.state
    # The next run goes on from there.
    world.router.away = False
    world.run("v2")
    assert world.serving() == world.engine.running() == [name]


def test_a_kept_release_that_has_the_traffic_is_left_likewise() -> None:
    world = World()
    v1 = only(world.run("v1").made)
    v2 = only(world.run("v2").made)

    def away() -> None:
        world.router.away = True

    world.router.on_look = Once(world, v2, away)
    failed = world.fail("v1")
    assert world.serving() == [v1] and world.engine.running() == sorted([v1, v2])
    assert f"{v1} was left running" in failed.state


def test_the_route_goes_back_to_where_the_former_one_is_now() -> None:
    world = World()
    v1 = only(world.run("v1").made)

    def restart() -> None:
        for name in world.engine.running():
            world.engine.restart(name)

    # During the soak; what came before it looked at the route as well.
    world.router.on_look = Once(world, v1, restart, looks=3)
    failed = world.fail("v2", soak=3.0)
    assert failed.kind == "container"
    assert world.serving() == world.engine.running() == [v1]
    assert failed.state == f"Live as before: {v1} at {world.router.urls[0]}."


def test_a_failure_that_was_rolled_back_says_once_who_is_live() -> None:
    world = World()
    failed = world.fail("v1", interrupted=True)
    assert str(failed) == "interrupted by SIGTERM. Nothing of demo is live, as before."
    v1 = only(world.run("v1").made)
    failed = world.fail("v2", interrupted=True)
    assert world.serving() == world.engine.running() == [v1]
    assert failed.result()["msg"] == (
        f"interrupted by SIGTERM. Live as before: {v1} at {world.router.urls[0]}. Run this again."
    )


def test_who_lost_the_traffic_to_somebody_else_is_not_called_live() -> None:
    world = World()
    v1 = only(world.run("v1").made)

    def other() -> None:
        world.router.urls = ("http://127.0.0.1:1",)

    world.router.on_look = Once(world, v1, other, looks=3)
    failed = world.fail("v2", soak=3.0)
    assert "somebody else changed it: demo goes to http://127.0.0.1:1" in failed.state
    assert f"Runs, maybe without traffic: {v1}" in failed.state
    assert "Live" not in failed.state


def test_the_route_goes_back_at_once_if_only_the_engine_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    v1 = only(world.run("v1").made)
    monkeypatch.setattr(go_back, "_answers", lambda url: True)

    def away() -> None:
        world.engine.before = _no_answer

    world.router.on_look = Once(world, v1, away, looks=3)
    began = time.monotonic()
    failed = world.fail("v2", soak=3.0)
    assert failed.kind == "engine_away" and time.monotonic() - began < go_back.BACK_SECONDS / 2
    assert world.serving() == [v1]


def test_what_may_have_the_traffic_of_a_router_that_is_away_is_not_cleared_away() -> None:
    world = World()
    v1 = only(world.run("v1").made)

    def away() -> None:
        world.router.away = True

    world.router.on_look = Once(world, v1, away)
    world.fail("v2")
    (v2,) = world.serving()
    # Not even by a deploy of the former release, which there is nothing else of.
    deploy = world.deploy("v1")
    assert deploy.observer.routing is not None
    deploy.observer.routing.required = False
    with pytest.raises(RouterAway, match=f"it may send traffic to {v2}"):
        run(deploy)
    assert world.serving() == [v2]


def removed_when_the_new_one_starts(world: World, v1: str) -> None:
    """Have somebody clean up what is stopped."""

    def before(call: str, name: str) -> None:
        if call == "start" and name.endswith(".candidate"):
            world.engine.before = lambda call, name: None
            world.engine.remove_container(v1, True, True)

    world.engine.before = before


def test_a_new_one_is_no_failure_because_the_former_one_was_removed() -> None:
    world = World(fixed=True, routed=False)
    v1 = only(world.run("v1").made)
    removed_when_the_new_one_starts(world, v1)
    v2 = only(world.run("v2").made)
    assert world.engine.running() == [v2]


def test_a_new_one_is_left_if_the_former_one_was_removed() -> None:
    world = World(fixed=True, routed=False)
    v1 = only(world.run("v1").made)
    removed_when_the_new_one_starts(world, v1)
    failed = world.fail("v2", interrupted=True)
    (v2,) = world.engine.running()
    name = v2.removesuffix(".candidate")
    assert f"{v1} was removed by somebody" in failed.state
    assert f"{v2} was left running, since nobody is left who could serve" in failed.state
    assert "Live as before" not in failed.state
    world.run("v2")
    assert world.engine.running() == [name]
