# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The switch with a router that does as it is told, or as the test wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.change import run
from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.probe import Unhealthy
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import (
    Overtaken,
    Route,
    RouterError,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.check import (
    Check,
    Unproved,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.plan import Wanted
from ansible_collections.immutable.delivery.plugins.module_utils.routers.switch import RouteChange

BLUE = "http://10.0.0.5"
GREEN = "http://10.0.0.6"
OTHER = "http://10.0.0.7"


class FakeRouter:
    """Keeps one route, and notes what it was told."""

    name = "fake"

    def __init__(self, url: str | None) -> None:
        self.url = url
        self.told: list[tuple[str, str | None]] = []
        self.left: list[int | None] = [0]
        self.fails: set[str] = set()
        self.after_switch: Callable[[], None] = lambda: None

    def observe(self, service: str) -> Route:
        return Route(service, () if self.url is None else (self.url,))

    def switch(self, service: str, urls: Sequence[str]) -> None:
        (url,) = urls
        self.told.append(("switch", url))
        self.url = url
        self.after_switch()
        if "switch" in self.fails:
            raise RouterError("the answer got lost")

    def remove(self, service: str) -> None:
        self.told.append(("remove", None))
        self.url = None

    def in_flight(self, service: str) -> int | None:
        left = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if left == -1:
            raise RouterError("not now")
        return left

    def entrance(self, service: str) -> str:
        return f"http://router/{service}"


class FakeCheck(Check):
    """A check that fails when told to, and runs something first."""

    def __init__(self, good: bool, before: Callable[[], None] = lambda: None) -> None:
        object.__setattr__(self, "good", good)
        object.__setattr__(self, "before", before)

    def any_version(self) -> Check:
        return FakeCheck(True)

    def run(self, watch: Callable[[], object] = lambda: None) -> None:
        self.before()  # type: ignore[attr-defined]
        if not self.good:  # type: ignore[attr-defined]
            raise Unhealthy("status 503")


def change(
    router: FakeRouter, url: str | None, *, health: bool | None = None, proof: bool | None = None
) -> RouteChange:
    return RouteChange(
        router,
        Wanted("demo", () if url is None else (url,), proof is not None),
        health=None if health is None else {url or "": FakeCheck(health)},
        proof=None if proof is None else FakeCheck(proof),
    )


def test_health_switch_proof() -> None:
    router = FakeRouter(BLUE)
    outcome = run(change(router, GREEN, health=True, proof=True))
    assert router.told == [("switch", GREEN)]
    assert (outcome.before.url, outcome.after.url) == (BLUE, GREEN)
    assert outcome.diff == {
        "before": f"demo goes to {BLUE}\n",
        "after": f"demo goes to {GREEN}\n",
    }


def test_check_mode_tells_the_router_nothing() -> None:
    router = FakeRouter(BLUE)
    outcome = run(change(router, GREEN, health=True, proof=True), check_mode=True)
    assert router.told == []
    assert outcome.changed
    assert outcome.diff["after"] == f"demo goes to {GREEN}\n"


def test_an_unhealthy_target_is_refused_before_anything_changes() -> None:
    router = FakeRouter(BLUE)
    with pytest.raises(Unhealthy) as caught:
        run(change(router, GREEN, health=False))
    assert router.told == []
    assert f"Nothing was changed: demo goes to {BLUE}." in str(caught.value)


def test_the_health_of_a_target_that_has_the_traffic_is_not_asked() -> None:
    router = FakeRouter(GREEN)
    assert not run(change(router, GREEN, health=False)).changed


@pytest.mark.parametrize("before", [BLUE, None])
def test_a_failed_proof_puts_back_what_was_there(before: str | None) -> None:
    router = FakeRouter(before)
    with pytest.raises(Unproved) as caught:
        run(change(router, GREEN, proof=False))
    assert router.url == before
    stands = f"demo goes to {BLUE}." if before else "demo is registered nowhere."
    assert stands in str(caught.value)


def test_a_switch_whose_answer_was_lost_is_taken_back() -> None:
    router = FakeRouter(BLUE)
    router.fails.add("switch")
    router.after_switch = lambda: router.fails.clear() if len(router.told) > 1 else None
    with pytest.raises(RouterError, match="the answer got lost"):
        run(change(router, GREEN))
    assert router.url == BLUE


def test_a_route_that_somebody_else_set_meanwhile_is_left_alone() -> None:
    router = FakeRouter(BLUE)
    router.after_switch = lambda: setattr(router, "url", OTHER)
    with pytest.raises(Overtaken) as caught:
        run(change(router, GREEN))
    assert router.url == OTHER
    assert router.told == [("switch", GREEN)]
    assert f"somebody else changed the route meanwhile: demo goes to {OTHER}" in str(caught.value)
    assert "deploy_lock" in str(caught.value)


@pytest.mark.parametrize("url", [GREEN, None])
def test_a_switch_that_the_router_refuses_has_changed_nothing(url: str | None) -> None:
    class Refusing(FakeRouter):
        def switch(self, service: str, urls: Sequence[str]) -> None:
            self.told.append(("refused", urls[0]))
            raise Overtaken(f"somebody else was first: demo goes to {OTHER}")

        def remove(self, service: str) -> None:
            self.switch(service, [""])

    router = Refusing(BLUE)
    with pytest.raises(Overtaken) as caught:
        run(change(router, url))
    assert set(router.told) == {("refused", url or "")}
    assert str(caught.value) == (
        f"somebody else was first: demo goes to {OTHER}. The router was left as it is."
    )


def test_only_what_has_no_traffic_yet_is_asked_for_its_health() -> None:
    class Many(FakeRouter):
        urls: tuple[str, ...] = (BLUE, OTHER)

        def observe(self, service: str) -> Route:
            return Route(service, self.urls)

        def switch(self, service: str, urls: Sequence[str]) -> None:
            self.urls = tuple(urls)

    router = Many(BLUE)
    wanted = Wanted("demo", (GREEN, BLUE))
    sick = {BLUE: FakeCheck(False), GREEN: FakeCheck(False)}
    with pytest.raises(Unhealthy, match=f"Nothing was changed: demo goes to {BLUE} and {OTHER}"):
        run(RouteChange(router, wanted, health=sick))
    half = {BLUE: FakeCheck(False), GREEN: FakeCheck(True)}
    outcome = run(RouteChange(router, wanted, health=half))
    assert outcome.after.urls == (GREEN, BLUE)
    assert outcome.diff["after"] == f"demo goes to {GREEN} and {BLUE}\n"
    # The order of the targets means nothing, and neither is asked now.
    back = RouteChange(router, Wanted("demo", (BLUE, GREEN)), health=sick)
    assert not run(back).changed


def test_a_switch_during_the_proof_is_noticed() -> None:
    router = FakeRouter(BLUE)
    proof = FakeCheck(True, before=lambda: setattr(router, "url", OTHER))
    with pytest.raises(Overtaken):
        run(RouteChange(router, Wanted("demo", (GREEN,), prove=True), proof=proof))
    assert router.url == OTHER


def test_a_confirmation_without_a_switch_is_noticed() -> None:
    router = FakeRouter(BLUE)
    router.after_switch = lambda: setattr(router, "url", BLUE)
    with pytest.raises(RouterError, match=f"and yet demo goes to {BLUE}"):
        run(change(router, GREEN))


def test_absent_removes_and_is_then_satisfied() -> None:
    router = FakeRouter(BLUE)
    assert run(change(router, None)).after.url is None
    assert not run(change(router, None)).changed
    assert router.told == [("remove", None)]


def test_observing_fails_with_what_stands() -> None:
    class Silent(FakeRouter):
        def observe(self, service: str) -> Route:
            raise DeliveryError("no answer")

    with pytest.raises(DeliveryError, match="Nothing was changed"):
        run(change(Silent(BLUE), GREEN))


@pytest.mark.parametrize(
    ("left", "timeout", "drained", "in_flight"),
    [
        ([0], 0.0, True, 0),
        ([3], 0.0, False, 3),
        ([2, 1, 0], 60.0, True, 0),
        ([-1, 0], 60.0, True, 0),
        ([-1], 0.0, False, None),
        ([None], 60.0, None, None),
        ([4], 0.05, False, 4),
    ],
)
def test_drain(
    left: list[int | None], timeout: float, drained: bool | None, in_flight: int | None
) -> None:
    router = FakeRouter(GREEN)
    router.left = left
    came_to = change(router, GREEN).drain(timeout)
    assert (came_to.drained, came_to.in_flight) == (drained, in_flight)
