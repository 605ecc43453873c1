# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One service at one router: each write and each undo is compare-and-set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.http import Unreachable
from ansible_collections.immutable.delivery.plugins.module_utils.probe import Unhealthy
from ansible_collections.immutable.delivery.plugins.module_utils.routers import (
    routing as routing_module,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import (
    Overtaken,
    Route,
    RouterDown,
    RouterError,
    same_targets,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.check import (
    Check,
    Unproved,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.peers import (
    ForeignAddress,
    Share,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.routing import Routing

OLD, NEW, OTHER = "http://10.0.0.1:1", "http://10.0.0.1:2", "http://10.0.0.9:1"
PEER = "http://10.0.0.2:1"


@dataclass
class Table:
    """A router that compares with what was observed last, as the real ones do."""

    urls: tuple[str, ...] = ()
    told: list[tuple[str, ...]] = field(default_factory=list)
    seen: tuple[str, ...] | None = None
    before_write: list[Callable[[], None]] = field(default_factory=list)
    lost: bool = False
    away: bool = False
    name: str = "table"

    def observe(self, service: str) -> Route:
        if self.away:
            raise Unreachable("the table does not answer")
        self.seen = self.urls
        return Route(service, self.urls)

    def switch(self, service: str, urls: Sequence[str]) -> None:
        if self.before_write:
            self.before_write.pop(0)()
        if self.seen is not None and not same_targets(self.seen, self.urls):
            raise Overtaken(f"somebody else was first: {service} goes to {self.urls}")
        self.told.append(tuple(urls))
        self.urls = self.seen = tuple(urls)
        if self.lost:
            self.lost = False
            raise RouterError("the answer got lost")

    def remove(self, service: str) -> None:
        self.switch(service, ())

    def in_flight(self, service: str) -> int | None:
        return 0

    def entrance(self, service: str) -> str:
        return "http://table.test"

    def becomes(self, *urls: str) -> Callable[[], None]:
        """Return what somebody else does."""
        return lambda: setattr(self, "urls", urls)


class Serves(Check):
    """Answers through the router if what is there is one of *urls*."""

    def __init__(self, table: Table, *urls: str) -> None:
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "urls", set(urls))

    def ask(self) -> str:
        there: tuple[str, ...] = self.table.urls  # type: ignore[attr-defined]
        return "" if set(there) <= self.urls else "status 502"  # type: ignore[attr-defined]

    def run(self, watch: Callable[[], object] = lambda: None) -> None:
        if self.ask():
            raise Unhealthy(self.ask())


@dataclass
class Undos:
    noted: list[tuple[Callable[[], object], str]] = field(default_factory=list)

    def __call__(self, undo: Callable[[], object], state: str = "") -> None:
        self.noted.append((undo, state))

    def run(self) -> None:
        while self.noted:
            self.noted.pop()[0]()


def observed(table: Table, serves: Check | None = None, share: Share | None = None) -> Routing:
    routing = Routing(table, "demo", serves=serves, share=share)
    routing.observe()
    return routing


def test_a_switch_and_its_undo() -> None:
    table, undo = Table((OLD,)), Undos()
    observed(table).switch([NEW], undo)
    assert table.urls == (NEW,)
    assert [state for _undo, state in undo.noted] == [f"demo goes to {OLD}"]
    undo.run()
    assert table.urls == (OLD,)


@pytest.mark.parametrize("remove", [False, True])
def test_who_was_first_is_named_and_not_overtaken(remove: bool) -> None:
    table, undo = Table((OLD,)), Undos()
    routing = observed(table)
    table.urls = (OTHER,)
    with pytest.raises(Overtaken, match=f"somebody else was first: demo goes to {OTHER}"):
        routing.remove(undo) if remove else routing.switch([NEW], undo)
    assert (table.told, undo.noted) == ([], [])
    # Looking again does not make it ours.
    assert routing.look().urls == (OTHER,)
    with pytest.raises(Overtaken):
        routing.switch([NEW], undo)


def test_who_comes_between_the_look_and_the_write_is_not_overtaken() -> None:
    table, undo = Table((OLD,)), Undos()
    routing = observed(table)
    table.before_write.append(table.becomes(OTHER))
    with pytest.raises(Overtaken) as caught:
        routing.switch([NEW], undo)
    assert "The router was left as it is." in str(caught.value)
    assert (table.urls, undo.noted) == ((OTHER,), [])


@pytest.mark.parametrize("between", [False, True])
def test_an_undo_leaves_who_came_after(between: bool) -> None:
    table, undo = Table((OLD,)), Undos()
    observed(table).switch([NEW], undo)
    if between:
        table.before_write.append(table.becomes(OTHER))
    else:
        table.urls = (OTHER,)
    with pytest.raises(Overtaken, match=OTHER.replace(".", r"\.")):
        undo.run()
    assert table.urls == (OTHER,)


def test_no_address_is_refused_and_removes_nothing() -> None:
    table, undo = Table((OLD,)), Undos()
    with pytest.raises(RouterError, match="no address that demo could be sent to"):
        observed(table).switch([], undo)
    assert table.told == []
    observed(table).remove(undo)
    assert table.urls == ()
    undo.run()
    assert table.urls == (OLD,)


def test_an_undo_asks_where_the_former_one_is_now() -> None:
    table, undo = Table((OLD,)), Undos()
    moved = "http://10.0.0.1:3"
    observed(table, Serves(table, NEW, moved)).switch([NEW], undo, back=lambda: [moved])
    undo.run()
    assert table.urls == (moved,)


def test_an_undo_to_where_nobody_answers_fails() -> None:
    table, undo = Table((OLD,)), Undos()
    observed(table, Serves(table, NEW)).switch([NEW], undo)
    with pytest.raises(Unproved, match=f"demo goes to {OLD}, and does not answer: status 502"):
        undo.run()


def test_an_undo_never_leaves_an_empty_route() -> None:
    table, undo = Table((OLD,)), Undos()
    observed(table).switch([NEW], undo, back=list)
    with pytest.raises(RouterError, match=f"nothing is left to go back to.*{NEW}"):
        undo.run()
    assert table.urls == (NEW,)


def test_the_undo_of_a_first_registration_removes_it() -> None:
    table, undo = Table(), Undos()
    observed(table).switch([NEW], undo)
    undo.run()
    assert table.urls == ()


def test_a_switch_whose_answer_was_lost_is_undone() -> None:
    table, undo = Table((OLD,), lost=True), Undos()
    with pytest.raises(RouterError, match="the answer got lost"):
        observed(table).switch([NEW], undo)
    assert table.urls == (NEW,)
    undo.run()
    assert table.urls == (OLD,)


def test_an_undo_that_failed_does_not_keep_an_earlier_one_from_going_back() -> None:
    table, undo = Table((OLD,)), Undos()
    routing = observed(table)
    routing.switch([OLD, NEW], undo)
    routing.switch([NEW], undo)
    last, _state = undo.noted.pop()

    def refuse() -> None:
        raise RouterError("not now")

    table.before_write.append(refuse)
    with pytest.raises(RouterError, match="not now"):
        last()
    undo.run()
    assert table.urls == (OLD,)


def test_an_undo_waits_for_a_router_that_is_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing_module, "BACK_SECONDS", 20.0)
    table, undo = Table((OLD,)), Undos()
    observed(table).switch([NEW], undo)

    def refuse() -> None:
        raise RouterDown("it is restarted")

    table.before_write += [refuse, refuse]
    undo.run()
    assert (table.urls, table.before_write) == ((OLD,), [])


def test_restore_brings_the_route_to_what_serves_now() -> None:
    table = Table((OLD,))
    routing = observed(table, Serves(table, NEW))
    routing.restore(lambda: [NEW])
    assert table.urls == (NEW,)
    table.urls = (OTHER,)
    with pytest.raises(Overtaken, match="left as it is"):
        routing.restore(lambda: [OLD])
    assert table.urls == (OTHER,)


def test_what_is_there_already_is_not_written() -> None:
    table, undo = Table((OLD,)), Undos()
    routing = observed(table)
    table.urls = (NEW,)
    routing.switch([NEW], undo)
    assert (table.told, undo.noted) == ([], [])


def test_ask_says_what_is_wrong() -> None:
    table = Table((OLD,))
    routing = observed(table, Serves(table, OLD))
    assert routing.ask() == ""
    table.urls = (OTHER,)
    with pytest.raises(Overtaken, match=f"somebody else changed the route meanwhile: .*{OTHER}"):
        routing.ask()
    routing.observe()
    assert routing.ask() == "status 502"
    table.away = True
    assert [routing.ask() for _time in range(2)] == ["the table does not answer"] * 2
    # It is the router that fails then, and not who is behind it.
    with pytest.raises(Unreachable):
        routing.ask()


def test_an_undo_registers_again_what_a_restarted_router_has_lost() -> None:
    table, undo = Table((OLD,)), Undos()
    observed(table).switch([NEW], undo)
    table.urls = ()
    undo.run()
    assert table.urls == (OLD,)


def test_a_router_that_cannot_be_asked_for_the_route_may_go_on_serving() -> None:
    table = Table((OLD,))
    routing = observed(table, Serves(table, OLD))
    table.away = True
    assert routing.ask() == ""
    # Without a check there is nothing that says so.
    routing = observed(Table((OLD,)))
    routing.router.away = True  # type: ignore[attr-defined]
    assert routing.ask() == "the table does not answer"


def test_a_router_that_is_away_and_not_required() -> None:
    table = Table((OLD,), away=True)
    routing = Routing(table, "demo", required=False)
    assert routing.observe() is None
    assert routing.away == "the table does not answer"
    with pytest.raises(Unreachable):
        Routing(table, "demo").observe()


# A route that several hosts serve.


def shared(table: Table) -> Routing:
    return observed(table, share=Share(["10.0.0.1"], ["10.0.0.2"]))


def test_only_the_own_part_is_seen_and_replaced() -> None:
    table, undo = Table((PEER, OLD)), Undos()
    routing = shared(table)
    assert routing.observe() == (OLD,)
    routing.switch([NEW], undo)
    assert table.urls == (PEER, NEW)
    undo.run()
    assert table.urls == (PEER, OLD)
    routing.remove(undo)
    assert table.urls == (PEER,)


def test_a_foreign_address_is_refused_before_anything_is_written() -> None:
    table = Table((OLD, OTHER))
    with pytest.raises(ForeignAddress, match=OTHER):
        shared(table)
    assert table.told == []


def test_a_peer_that_switches_meanwhile_is_no_rival() -> None:
    table, undo = Table((PEER, OLD)), Undos()
    routing = shared(table)
    moved = "http://10.0.0.2:7"
    table.before_write.append(table.becomes(OLD, moved))
    routing.switch([NEW], undo)
    assert set(table.urls) == {moved, NEW}
    # Nor while it is undone.
    table.before_write.append(table.becomes(PEER, NEW))
    undo.run()
    assert set(table.urls) == {PEER, OLD}


def test_who_changes_the_own_part_is_a_rival() -> None:
    table, undo = Table((PEER, OLD)), Undos()
    routing = shared(table)
    rival = "http://10.0.0.1:99"
    table.before_write.append(table.becomes(PEER, rival))
    with pytest.raises(Overtaken, match=rival):
        routing.switch([NEW], undo)
    assert (table.urls, undo.noted) == ((PEER, rival), [])


def test_a_peer_that_switches_all_the_time_is_given_up_on() -> None:
    table, undo = Table((PEER, OLD)), Undos()
    routing = shared(table)
    table.before_write += [table.becomes(f"http://10.0.0.2:{n}", OLD) for n in range(2, 20)]
    with pytest.raises(Overtaken):
        routing.switch([NEW], undo)
    assert undo.noted == []
    assert OLD in table.urls
