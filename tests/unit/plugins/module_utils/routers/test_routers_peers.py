# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose the addresses of a shared route are, as a table and as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.routers import peers
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import (
    Route,
    normal,
    same_targets,
)
from ansible_collections.immutable.delivery.plugins.module_utils.routers.peers import (
    ForeignAddress,
    Parts,
    Share,
    divide,
    host_of,
    merge,
)

ONE, TWO, THREE = "http://10.0.0.1:8080", "http://10.0.0.2:8080", "http://10.0.0.3:8080"
NAMES = {"web1": "10.0.0.1", "web2": "10.0.0.2", "web3": "10.0.0.3", "alias2": "10.0.0.2"}


def named(name: str) -> frozenset[str]:
    return frozenset({NAMES[name]} if name in NAMES else ())


@pytest.mark.parametrize(
    ("route", "hosts", "others", "parts"),
    [
        # By name, with and without a port, and however it is written.
        ([ONE, TWO], ["10.0.0.1"], ["10.0.0.2"], Parts((ONE,), (TWO,))),
        ([ONE, TWO], [ONE], [TWO], Parts((ONE,), (TWO,))),
        (["http://WEB1:1/"], ["web1."], [], Parts(("http://WEB1:1/",))),
        (["http://[::1]:80"], ["0:0:0:0:0:0:0:1"], [], Parts(("http://[::1]:80",))),
        # By what the names resolve to, in either direction.
        ([ONE, TWO], ["web1"], ["web2"], Parts((ONE,), (TWO,))),
        (["http://web2:80"], ["10.0.0.1"], ["10.0.0.2"], Parts((), ("http://web2:80",))),
        (["http://web2:80"], ["web1"], ["alias2"], Parts((), ("http://web2:80",))),
        # Nobody's.
        ([THREE, ONE], ["web1"], ["web2"], Parts((ONE,), (), (THREE,))),
        (["http://unknown:80"], ["web1"], ["web2"], Parts((), (), ("http://unknown:80",))),
        # A host is not its own peer, though a play's list of hosts has it.
        ([ONE, TWO], ["10.0.0.1"], ["10.0.0.1", "10.0.0.2"], Parts((ONE,), (TWO,))),
        # Two hosts of the same address cannot be told apart by it, but by their names.
        (["http://127.0.0.1:1", "http://127.0.0.1:2"], ["127.0.0.1"], ["127.0.0.1"],
         Parts(("http://127.0.0.1:1", "http://127.0.0.1:2"))),
        (["http://alias2:1", "http://web2:2"], ["alias2"], ["web2"],
         Parts(("http://alias2:1",), ("http://web2:2",))),
    ],
)  # fmt: skip
def test_whose_an_address_is(
    route: list[str], hosts: list[str], others: list[str], parts: Parts
) -> None:
    assert divide(route, hosts, others, addresses=named) == parts


def test_an_earlier_address_is_ones_own_wherever_it_is() -> None:
    parts = divide([ONE, "HTTP://172.18.0.4:80/"], ["10.0.0.9"], [], ["http://172.18.0.4"])
    assert parts == Parts(("HTTP://172.18.0.4:80/",), (), (ONE,))


HOSTS = st.sampled_from(["10.0.0.1", "10.0.0.2", "web1", "web2", "web3", "10.0.0.9", "strange"])
URLS = st.builds("http://{}:{}".format, HOSTS, st.integers(1, 3))
ROUTES = st.lists(URLS, max_size=6, unique=True)
SETS = st.lists(HOSTS, max_size=4, unique=True)


@given(ROUTES, st.lists(URLS, min_size=1, max_size=3, unique=True), SETS, ROUTES)
def test_the_own_part_is_replaced_and_the_rest_stays(
    route: list[str], own: list[str], others: list[str], earlier: list[str]
) -> None:
    share = Share(own, others, earlier, named)
    parts = divide(route, own, others, earlier, named)
    assert same_targets([*parts.own, *parts.others], route)
    new = share.merge(route, own)
    # All of ours is there, nothing of the others is lost, and nothing else is there.
    assert {normal(url) for url in new} == {normal(url) for url in (*own, *parts.others)}
    assert len(new) == len({normal(url) for url in new})
    # The second time nothing is changed.
    assert same_targets(share.merge(new, own), new)
    # Nothing is left of ours once it is taken off.
    assert share.merge(new, []) == parts.others


@given(st.permutations(["10.0.0.1", "10.0.0.2", "10.0.0.3"]), st.integers(1, 4))
def test_hosts_one_after_another_end_with_all_serving(order: list[str], rounds: int) -> None:
    route: tuple[str, ...] = ()
    for number in range(rounds):
        for host in order:
            share = Share([host], order)
            share.check(Route("demo", route))
            route = share.merge(route, [f"http://{host}:{8000 + number}"])
    assert same_targets(route, [f"http://{host}:{8000 + rounds - 1}" for host in order])


def test_a_foreign_address_is_refused_by_name() -> None:
    with pytest.raises(ForeignAddress) as caught:
        Share(["web1"], ["web2"], addresses=named).check(Route("demo", (ONE, TWO, THREE)))
    assert f"{THREE} is neither of this host (web1) nor of a peer (web2)" in str(caught.value)
    assert "peers" in caught.value.next_step
    Share(["web1"], None, addresses=named).check(Route("demo", (ONE, TWO, THREE)))


def test_a_name_that_cannot_be_resolved_is_compared_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_arguments: object, **_options: object) -> None:
        raise OSError("no name server")

    monkeypatch.setattr(peers.socket, "getaddrinfo", fails)
    share = Share(["here"], ["there"])
    assert share.own(["http://here:1", "http://there:1", "http://else:1"]) == ("http://here:1",)
    assert share.foreign(["http://there:1", "http://else:1"]) == ("http://else:1",)


def test_numbers_are_resolved_to_themselves() -> None:
    assert peers.resolve("127.0.0.1") == {"127.0.0.1"}
    assert peers.resolve("localhost") & {"127.0.0.1", "::1"}


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("web1", "web1"),
        ("Web1.:80", "web1"),
        ("http://web1:80/path", "web1"),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("http://[bad", "http://[bad"),
    ],
)
def test_host_of(name: str, host: str) -> None:
    assert host_of(name) == host


def test_merge_has_each_address_once() -> None:
    assert merge([ONE, TWO], [TWO + "/", THREE]) == (ONE, TWO + "/", THREE)
