# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The order in which ports of the host and names change hands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.compose.claims import (
    Holder,
    Port,
    blockers,
    held_ports,
    port_of,
    wanted_ports,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.decision import (
    State,
    decide,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.engine_state import (
    Instance,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.order import Taken
from ansible_collections.immutable.delivery.plugins.module_utils.compose.orphans import with_orphans
from ansible_collections.immutable.delivery.plugins.module_utils.compose.plan import REPLACE, plan
from ansible_collections.immutable.delivery.plugins.module_utils.compose.service import Service
from ansible_collections.immutable.delivery.plugins.module_utils.compose.strategies import (
    RECREATE,
    How,
)

from .world import World, instance, service, wanted

NAMES = ("a", "b", "c", "d")


def published(port: int | str, address: str = "", protocol: str = "tcp") -> dict[str, Any]:
    return {
        "target": 8080,
        "published": str(port),
        "host_ip": address,
        "protocol": protocol,
        "mode": "ingress",
    }


def at(name: str, *ports: int | str, **more: Any) -> Service:
    return service(name, ports=[published(port) for port in ports], **more)


def groups(before: list[Service], after: list[Service]) -> list[list[tuple[list[str], list[str]]]]:
    """The stops and starts of each level between two versions of the files."""
    world = World(wanted(*after), {one.name: [instance(one)] for one in before})
    return [
        [(list(group["stop"]), list(group["start"])) for group in step.detail["groups"]]
        for step in world.run()
        if step.action == REPLACE
    ]


def test_services_that_swap_ports_are_both_stopped_first() -> None:
    found = groups([at("a", 1), at("b", 2), at("c", 3)], [at("a", 2), at("b", 1), at("c", 4)])
    assert found == [[(["a-1", "b-1"], ["a", "b"]), (["c-1"], ["c"])]]


def test_a_front_that_gives_its_port_to_the_app_it_depends_on_is_stopped_early() -> None:
    needs = {"depends_on": {"app": {}}}
    found = groups([at("app"), at("front", 80, **needs)], [at("app", 80), at("front", **needs)])
    assert found == [[(["app-1", "front-1"], ["app"])], [([], ["front"])]]


def test_a_front_that_gives_its_name_to_the_app_it_depends_on_is_stopped_early() -> None:
    needs = {"depends_on": {"app": {}}}
    app, front = service("app"), service("front", container_name="entrance", **needs)
    after = [service("app", container_name="entrance", x=1), service("front", **needs)]
    assert groups([app, front], after)[0] == [(["front-1", "app-1"], ["app"])]


def test_a_chain_and_a_range_wait_only_for_those_they_need() -> None:
    found = groups([at("a", 1), at("b", 2), at("c", 3)], [at("a", 2), at("b", 3), at("c", 4)])
    assert found == [[(["a-1", "b-1", "c-1"], ["a", "b", "c"])]]
    # Of a range any free port will do, so nobody waits for the one who has the first of it.
    found = groups([at("a"), at("b", 1)], [at("a", "1-2"), at("b", 3)])
    assert found == [[(["a-1"], ["a"]), (["b-1"], ["b"])]]
    found = groups([at("a"), at("b", 1)], [at("a", "1-1"), at("b", 3)])
    assert found == [[(["a-1", "b-1"], ["a", "b"])]]


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (Port(80, 80), Port(80, 80), True),
        (Port(80, 80), Port(81, 81), False),
        (Port(80, 80), Port(79, 90), True),
        (Port(80, 80), Port(80, 80, "udp"), False),
    ],
)
def test_ports_overlap(one: Port, other: Port, overlap: bool) -> None:
    assert one.overlaps(other) is overlap
    assert other.overlaps(one) is overlap


# As an engine answers: "::" is IPv6 only there, and no address is both families.
@pytest.mark.parametrize(
    ("address", "beside"),
    [
        ("", []),
        ("0.0.0.0", ["::", "::1"]),
        ("127.0.0.1", ["127.0.0.2", "::", "::1"]),
        ("127.0.0.2", ["127.0.0.1", "::", "::1"]),
        ("::", ["0.0.0.0", "127.0.0.1", "127.0.0.2"]),
        ("::1", ["0.0.0.0", "127.0.0.1", "127.0.0.2"]),
    ],
)
def test_which_addresses_can_have_the_same_port(address: str, beside: list[str]) -> None:
    every = ["", "0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::1"]
    one = Port(80, 80, address=address)
    free = [other for other in every if not one.overlaps(Port(80, 80, address=other))]
    assert free == beside


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "port 80"),
        ("0.0.0.0", "0.0.0.0:80"),
        ("[::1]", "[::1]:80"),
        ("0:0:0:0:0:0:0:1", "[::1]:80"),
        ("::ffff:127.0.0.1", "127.0.0.1:80"),
    ],
)
def test_an_address_is_one_however_it_is_written(text: str, said: str) -> None:
    assert str(port_of("80", "", text)) == said


def test_ports_are_read_from_files_and_from_the_engine() -> None:
    spec = {"ports": [published(80), published("8000-8002", "127.0.0.1", "udp"), {"target": 1}]}
    assert wanted_ports(spec) == (Port(80, 80), Port(8000, 8002, "udp", "127.0.0.1"))
    bound = {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}], "1/udp": [{"HostPort": "5"}]}
    now = {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "49153"}], "1/udp": None}
    attributes = {"HostConfig": {"PortBindings": bound}, "NetworkSettings": {"Ports": now}}
    assert held_ports(attributes) == (
        Port(49153, 49153, address="127.0.0.1"),
        Port(5, 5, "udp"),
    )
    # What no address came to is known while it runs.
    now = {"1/udp": [{"HostIp": "0.0.0.0", "HostPort": "5"}]}
    attributes = {"HostConfig": {"PortBindings": bound}, "NetworkSettings": {"Ports": now}}
    assert held_ports(attributes) == (Port(5, 5, "udp", "0.0.0.0"),)


def test_a_range_needs_a_free_port_for_each_container() -> None:
    there = [Holder("x", (Port(1, 1), Port(2, 2)))]
    wide = Port(1, 4)
    assert blockers([wide], 2, there) == {}
    assert blockers([wide], 3, there) == {wide: there[0]}


def refused(before: State, *after: Service) -> str:
    with pytest.raises(Taken) as caught:
        plan(wanted(*after), before)
    assert caught.value.next_step
    return caught.value.message


def test_what_somebody_has_who_stays_is_refused_by_name() -> None:
    side = at("side", 80)
    kept = State({"side": [instance(side)]})
    assert refused(kept, side, at("web", 80)) == (
        "service web needs port 80 of the host, which p-side-1 has"
    )
    other = Holder("the container shop-1 of the project shop", (Port(80, 80),), "shop-1", "x")
    state = State({}, foreign=[other])
    assert "which the container shop-1 of the project shop has" in refused(state, at("web", 80))
    named = service("web", container_name="shop-1")
    assert "container_name shop-1, which the container shop-1" in refused(state, named)
    program = State({}, foreign=[Holder("another program", (Port(80, 80),))])
    assert "which another program has" in refused(program, at("web", "80-80"))
    assert "which service a has" in refused(State(), at("a", 80), at("b", 80))
    assert "for each of 2 containers" in refused(State(), at("web", 80, scale=2))


# By service: the ports before and after, and the services it depends on.
PORTS = st.lists(st.integers(1, 5), max_size=2, unique=True)


@st.composite
def moves(draw: st.DrawFn) -> tuple[list[Service], list[Service]]:
    """Two versions of a file, each of which gives a port to one service at most."""
    versions = []
    needs = {
        name: draw(st.sets(st.sampled_from(NAMES[:at_]), max_size=2)) if at_ else set()
        for at_, name in enumerate(NAMES)
    }
    for version in (1, 2):
        numbers = draw(st.permutations(range(1, 7)))
        names = draw(st.permutations(["x", "y", None, None]))
        found = []
        for name in NAMES:
            count = draw(st.integers(0, 1))
            ports, numbers = numbers[:count], numbers[count:]
            spec: dict[str, Any] = {"depends_on": {other: {} for other in sorted(needs[name])}}
            if fixed := names[NAMES.index(name)]:
                spec["container_name"] = fixed
            found.append(at(name, *ports, version=draw(st.integers(1, version)), **spec))
        versions.append(found)
    return versions[0], versions[1]


@given(moves(), st.sets(st.sampled_from(NAMES)))
def test_no_order_of_stops_and_starts_gives_a_port_to_two(
    files: tuple[list[Service], list[Service]], down: set[str]
) -> None:
    before, after = files
    want = wanted(*after)
    there: dict[str, list[Instance]] = {
        one.name: [instance(one, status="exited" if one.name in down else "running")]
        for one in before
    }
    world = World(want, there)
    started: set[str] = set()
    for step in world.run():
        if step.action == REPLACE:
            now = {name for group in step.detail["groups"] for name in group["start"]}
            for name in now:
                # What it depends on has been started in an earlier step, or was never replaced.
                waits = want.project.needs([name]) - {name} - started
                assert not any(decide(want, world.start)[other].news for other in waits)
            started |= now
    assert plan(want, world.state) == []


FOLDER = frozenset({"/srv/pg"})
KEEPS = {"database": How(RECREATE, data="the folder /srv/pg (/data)", folders=FOLDER)}


def test_a_renamed_database_does_not_start_beside_the_one_that_writes_to_its_folder() -> None:
    old, new = service("db"), service("database")
    former = replace(instance(old), folders=FOLDER)
    want = wanted(new, hows=KEEPS)
    with pytest.raises(Taken, match="p-db-1 uses it"):
        plan(want, State({"db": [former]}))
    project = with_orphans(want.project, {"db": [former]})
    want = replace(want, project=project, images={**want.images, "db": frozenset()})
    (step,) = [one for one in plan(want, State({"db": [former]})) if one.action == REPLACE]
    assert [(one["stop"], one["start"]) for one in step.detail["groups"]] == [
        (("db-1",), ("database",))
    ]


def test_who_is_in_the_files_but_not_in_the_run_may_share_a_folder() -> None:
    old, new = service("db"), service("database")
    project = wanted(old, new).project
    want = replace(wanted(new, hows=KEEPS), project=replace(project, services={"database": new}))
    former = replace(instance(old), folders=FOLDER)
    assert plan(want, State({"db": [former]}))
