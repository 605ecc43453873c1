# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two deployers of one service, at each kind of router: the second is told, and changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import Overtaken
from ansible_collections.immutable.delivery.plugins.module_utils.routers.canary import (
    CanaryRouter,
    as_canary,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.routing import Routing
from tests.support.any_router import KINDS, AnyRouter, any_router
from tests.support.router_daemon import start_version
from tests.support.router_flows import send_to

LIVE, ONE, TWO = "live", "one", "two"
# Who is told must not have written, so nothing is there to be undone.
Noted = list[Callable[[], object]]


@pytest.fixture(scope="module", params=KINDS)
def started(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AnyRouter]:
    folder = tmp_path_factory.mktemp("races")
    with any_router(str(request.param), folder) as router:
        yield router


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The addresses of three versions that run."""
    folder = tmp_path_factory.mktemp("versions")
    with ExitStack() as stack:
        apps = {name: start_version(folder, name) for name in (LIVE, ONE, TWO)}
        for app in apps.values():
            stack.callback(app.kill)
        yield {name: app.url for name, app in apps.items()}


@pytest.fixture
def router(started: AnyRouter, urls: dict[str, str]) -> AnyRouter:
    """A router with the live version, and no candidate."""
    send_to(started.router(), urls[TWO])
    send_to(started.router(), urls[LIVE])
    return started


@pytest.fixture
def canary(router: AnyRouter) -> AnyRouter:
    if not isinstance(router.router(), CanaryRouter):
        pytest.skip("it has no candidates")
    return router


def deployer(router: AnyRouter) -> tuple[Routing, Noted, Callable[..., None]]:
    """Return a deployer that has looked, and what it would undo."""
    routing = Routing(router.router(), "demo")
    routing.observe()
    noted: Noted = []
    return routing, noted, lambda undo, state="": noted.append(undo)


def goes_to(router: AnyRouter) -> tuple[str, ...]:
    return router.router().observe("demo").urls


@pytest.mark.parametrize("remove", [False, True])
def test_the_second_is_refused_and_changes_nothing(
    router: AnyRouter, urls: dict[str, str], remove: bool
) -> None:
    slow, undos, note = deployer(router)
    send_to(router.router(), urls[ONE])
    with pytest.raises(Overtaken) as caught:
        slow.remove(note) if remove else slow.switch([urls[TWO]], note)
    assert urls[ONE] in caught.value.message
    assert caught.value.kind == "overtaken"
    assert undos == []
    assert goes_to(router) == (urls[ONE],)


@pytest.mark.parametrize("remove", [False, True])
def test_the_router_itself_refuses_who_looked_earlier(
    router: AnyRouter, urls: dict[str, str], remove: bool
) -> None:
    # As between the last look and the write, where no caller can look again.
    slow = router.router()
    slow.observe("demo")
    send_to(router.router(), urls[ONE])
    with pytest.raises(Overtaken):
        slow.remove("demo") if remove else slow.switch("demo", [urls[TWO]])
    assert goes_to(router) == (urls[ONE],)


def test_an_undo_leaves_who_came_after(router: AnyRouter, urls: dict[str, str]) -> None:
    first, undos, note = deployer(router)
    first.switch([urls[ONE]], note)
    send_to(router.router(), urls[TWO])
    with pytest.raises(Overtaken) as caught:
        undos.pop()()
    assert urls[TWO] in caught.value.message
    assert goes_to(router) == (urls[TWO],)


def test_of_two_at_the_same_moment_one_wins(router: AnyRouter, urls: dict[str, str]) -> None:
    start = threading.Barrier(2)
    ended: dict[str, DeliveryError | None] = {}
    left: dict[str, Noted] = {}

    def deploy(name: str) -> None:
        routing, left[name], note = deployer(router)
        start.wait(60)
        try:
            routing.switch([urls[name]], note)
        except DeliveryError as error:
            ended[name] = error
        else:
            ended[name] = None

    threads = [threading.Thread(target=deploy, args=(name,)) for name in (ONE, TWO)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    winners = [name for name, error in ended.items() if error is None]
    assert len(winners) == 1, ended
    (loser,) = {ONE, TWO} - set(winners)
    assert isinstance(ended[loser], Overtaken), ended
    assert goes_to(router) == (urls[winners[0]],)
    # What the loser noted before it wrote, such as a backend to empty, does not touch the winner.
    for undo in reversed(left[loser]):
        undo()
    assert goes_to(router) == (urls[winners[0]],)


def test_the_second_candidate_is_refused(canary: AnyRouter, urls: dict[str, str]) -> None:
    slow, undos, note = deployer(canary)
    first, _undos, _note = deployer(canary)
    first.stage([urls[ONE]], 10, lambda undo, state="": None)
    for act in (
        lambda: slow.stage([urls[TWO]], 5, note),
        lambda: slow.unstage(note),
        # A switch would end the trial of somebody who does not know.
        lambda: slow.switch([urls[TWO]], note),
    ):
        with pytest.raises(Overtaken) as caught:
            act()
        assert urls[ONE] in caught.value.message
    assert undos == []
    route = canary.router().observe("demo")
    assert route.urls == (urls[LIVE],)
    assert route.candidate is not None and route.candidate.urls == (urls[ONE],)


def test_the_router_itself_refuses_the_second_candidate(
    canary: AnyRouter, urls: dict[str, str]
) -> None:
    slow = as_canary(canary.router())
    slow.observe("demo")
    first, _undos, note = deployer(canary)
    first.stage([urls[ONE]], 10, note)
    for act in (
        lambda: slow.stage("demo", [urls[TWO]], 5),
        lambda: slow.unstage("demo"),
        lambda: slow.switch("demo", [urls[TWO]]),
    ):
        with pytest.raises(Overtaken):
            act()
    candidate = canary.router().observe("demo").candidate
    assert candidate is not None and (candidate.urls, candidate.weight) == ((urls[ONE],), 10)


def test_the_undo_of_a_candidate_leaves_who_came_after(
    canary: AnyRouter, urls: dict[str, str]
) -> None:
    first, undos, note = deployer(canary)
    first.stage([urls[ONE]], 10, note)
    second, _undos, _note = deployer(canary)
    second.stage([urls[ONE]], 30, lambda undo, state="": None)
    with pytest.raises(Overtaken, match="30 %"):
        undos.pop()()
    candidate = canary.router().observe("demo").candidate
    assert candidate is not None and (candidate.urls, candidate.weight) == ((urls[ONE],), 30)
    # One that is promoted meanwhile is not put back either, and needs no undo.
    send_to(canary.router(), urls[TWO])
    third, undos, note = deployer(canary)
    third.stage([urls[ONE]], 10, note)
    send_to(canary.router(), urls[ONE])
    undos.pop()()
    assert goes_to(canary) == (urls[ONE],)
