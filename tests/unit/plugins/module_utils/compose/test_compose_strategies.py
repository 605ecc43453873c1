# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How each service is replaced: what keeps data, what is doubled, and what is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.compose.cli import Compose
from ansible_collections.immutable.delivery.plugins.module_utils.compose.engine_state import Image
from ansible_collections.immutable.delivery.plugins.module_utils.compose.extension import (
    BadExtension,
    Extensions,
    read_extensions,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.project import Project
from ansible_collections.immutable.delivery.plugins.module_utils.compose.service import Service
from ansible_collections.immutable.delivery.plugins.module_utils.compose.session import is_sqlite
from ansible_collections.immutable.delivery.plugins.module_utils.compose.strategies import (
    BLUE_GREEN,
    RECREATE,
    ROLLING,
    Given,
    hows,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.suitable import (
    Unsuitable,
)
from ansible_collections.immutable.delivery.plugins.module_utils.engine.options import Connection
from ansible_collections.immutable.delivery.plugins.module_utils.errors import BadOption

from .world import service

NAMED = {"type": "volume", "source": "data", "target": "/data"}
ANONYMOUS = {"type": "volume", "target": "/data"}
FOLDER = {"type": "bind", "source": "/srv/data", "target": "/data"}
SOCKET = {"type": "bind", "source": "/var/run/docker.sock", "target": "/var/run/docker.sock"}
FILE = {"type": "bind", "source": "/srv/file", "target": "/etc/app.conf"}
DECLARES = Image("sha256:x", volumes=("/data/",))
PLAIN = Image("sha256:x")
WAIT = {"condition": "service_completed_successfully"}


def project(*services: Service) -> Project:
    named = {one.name: one for one in services}
    model = {"services": {name: one.spec for name, one in named.items()}, "volumes": {"data": {}}}
    return Project("p", model, named)


def given(strategy: str = ROLLING, **more: Any) -> Given:
    return Given(strategy, is_folder=lambda path: path != "/srv/file", **more)


def how(one: Service, image: Image = PLAIN, **more: Any) -> tuple[str, str]:
    found = hows(project(one), given(**more), {one.name: image})[one.name]
    return found.strategy, found.why


@pytest.mark.parametrize(
    ("spec", "image", "why"),
    [
        ({}, PLAIN, ""),
        ({"volumes": [NAMED]}, PLAIN, "it keeps data in the volume data (/data)"),
        ({"volumes": [{**NAMED, "read_only": True}]}, PLAIN, ""),
        ({"volumes": [ANONYMOUS]}, PLAIN, "it keeps data in a volume at /data"),
        ({"volumes": [FOLDER]}, PLAIN, "it keeps data in the folder /srv/data (/data)"),
        ({"volumes": [{**FOLDER, "read_only": True}]}, PLAIN, ""),
        ({"volumes": [SOCKET, FILE]}, PLAIN, ""),
        ({"volumes": [{**FOLDER, "source": "/proc"}]}, PLAIN, ""),
        ({"volumes": [{"type": "tmpfs", "target": "/data"}]}, PLAIN, ""),
        ({}, DECLARES, "it keeps data in the volume that its image declares (/data)"),
        ({"tmpfs": ["/data:size=1m"]}, DECLARES, ""),
        ({"volumes": [{"type": "tmpfs", "target": "/data"}]}, DECLARES, ""),
        ({"volumes": [{**NAMED, "read_only": True}]}, DECLARES, ""),
        (
            {"volumes_from": ["container:other"]},
            PLAIN,
            "it keeps data in the volumes of container:",
        ),
        ({"volumes_from": ["container:other:ro"]}, PLAIN, ""),
    ],
)
def test_what_keeps_data(spec: dict[str, Any], image: Image, why: str) -> None:
    strategy, said = how(service("web", **spec), image)
    assert strategy == (RECREATE if why else ROLLING)
    assert said.startswith(why) and bool(said) == bool(why)
    # Under recreate everything is replaced in turn, and nothing needs saying.
    assert how(service("web", **spec), image, strategy=RECREATE) == (RECREATE, "")
    # Several containers share what they write to already, but for volumes without a name.
    alone = "a volume at" in why or "its image declares" in why
    several = how(service("web", scale=2, **spec), image)
    assert several == ((RECREATE, said) if alone else (ROLLING, ""))


@pytest.mark.parametrize("name", ["db", "data"])
def test_what_several_may_write_to_is_doubled(name: str) -> None:
    db = service("db", volumes=[NAMED])
    assert how(db, shared=frozenset({name})) == (ROLLING, "")


def test_a_service_has_a_strategy_of_its_own() -> None:
    assert how(service("web"), strategies={"web": RECREATE}) == (
        RECREATE,
        "its own strategy says so",
    )
    assert how(service("web"), strategy=RECREATE, strategies={"web": ROLLING})[0] == ROLLING


def test_a_service_that_keeps_data_is_not_doubled_because_it_is_told_so() -> None:
    db = service("db", volumes=[NAMED])
    with pytest.raises(Unsuitable) as refused:
        how(db, strategies={"db": ROLLING})
    assert "service db keeps data in the volume data (/data)" in refused.value.message
    assert "x-delivery: {shared: true}" in refused.value.next_step
    assert how(db, strategies={"db": ROLLING}, shared=frozenset({"data"}))[0] == ROLLING


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"strategies": {"web": "canary"}}, "the strategy of service web is canary"),
        ({"strategies": {"web": BLUE_GREEN}}, "and that of the run rolling"),
        ({"strategies": {"wbe": RECREATE}}, "strategies names wbe"),
        ({"shared": frozenset({"dta"})}, "shared names dta"),
    ],
)
def test_what_is_misspelt_is_told(more: dict[str, Any], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        how(service("web"), **more)


def test_what_a_static_service_fills_is_no_data_of_those_that_read_it() -> None:
    static = service("static", static=True, volumes=[NAMED])
    api = service("api", volumes_from=["static"])
    web = service("web", volumes=[NAMED])
    found = hows(project(static, api, web), given(), {})
    assert {one.strategy for one in found.values()} == {ROLLING}


def test_a_database_in_a_file_of_the_host_is_data(tmp_path: Path) -> None:
    app, empty = tmp_path / "app.db", tmp_path / "empty"
    with closing(sqlite3.connect(app)) as database:
        database.execute("create table orders (number)")
    empty.touch()
    assert [is_sqlite(str(p)) for p in (app, empty, tmp_path)] == [True, False, False]
    for path, strategy in ((app, RECREATE), (empty, ROLLING)):
        web = service("web", volumes=[{**FILE, "source": str(path)}])
        given_ = Given(ROLLING, is_folder=lambda path: False, is_database=is_sqlite)
        found = hows(project(web), given_, {"web": PLAIN})["web"]
        assert found.strategy == strategy
        assert found.why == (f"it keeps data in the database {app} (/etc/app.conf)" * (path == app))
        assert found.folders == ({str(app)} if path == app else frozenset())


def test_who_has_the_volumes_of_another_has_those_that_its_image_declares() -> None:
    data, db = service("data"), service("db", volumes_from=["data"])
    found = hows(project(data, db), given(), {"data": DECLARES, "db": PLAIN})
    assert {one.strategy for one in found.values()} == {RECREATE}
    assert "the volume that its image declares (/data)" in found["db"].why


def strategies(*services: Service) -> dict[str, str]:
    found = hows(project(*services), given(BLUE_GREEN), {})
    return {name: one.strategy for name, one in found.items()}


def test_beside_the_live_one_only_what_keeps_no_data_is_doubled() -> None:
    db = service("db", volumes=[NAMED])
    job = replace(service("migrate", depends_on={"db": {}}), ends=True)
    web = service("web", depends_on={"db": {}, "migrate": WAIT})
    side = service("side", network_mode="service:db")
    assert strategies(db, job, web, side) == {
        "db": RECREATE,
        "migrate": RECREATE,
        "web": BLUE_GREEN,
        "side": RECREATE,
    }


def test_a_job_that_waits_for_what_is_doubled_is_done_beside_it() -> None:
    first = replace(service("first"), ends=True)
    web = service("web", depends_on={"first": WAIT})
    last = replace(service("last", depends_on={"web": {}, "first": WAIT}), ends=True)
    assert strategies(first, web, last) == {
        "first": RECREATE,
        "web": BLUE_GREEN,
        "last": BLUE_GREEN,
    }


def test_who_keeps_data_cannot_need_one_of_two() -> None:
    front = service("front", volumes=[NAMED], depends_on={"web": {}})
    with pytest.raises(Unsuitable) as refused:
        strategies(front, service("web"))
    assert "service front is not doubled" in refused.value.message
    assert "x-delivery: {strategy: recreate}` below web" in refused.value.next_step


class Rendered(Compose):
    """Renders a text."""

    text = ""

    def read(self, *arguments: str) -> tuple[str, tuple[str, ...]]:
        return self.text, ()


def rendered(text: str) -> Extensions:
    compose = Rendered(Connection(), Path("/"))
    object.__setattr__(compose, "text", text)
    return read_extensions(compose)


def test_extensions_are_read_of_services_and_volumes() -> None:
    found = rendered(
        "services:\n  db:\n    x-delivery: {strategy: recreate}\n  web: {}\n"
        "volumes:\n  data:\n    x-delivery: {shared: true}\n  other:\n"
    )
    assert (found.strategies, found.shared) == ({"db": "recreate"}, {"data"})
    assert rendered("services: {}\n") == Extensions()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("yes", "x-delivery of service db is not a mapping"),
        ("{strategie: rolling}", "x-delivery of service db has strategie"),
        ("{shared: 'no'}", "shared in x-delivery of service db is not true or false"),
        ("{strategy: 1}", "strategy in x-delivery of service db is not a word"),
    ],
)
def test_an_extension_that_cannot_be_used_is_told(said: str, words: str) -> None:
    with pytest.raises(BadExtension, match=words):
        rendered(f"services:\n  db:\n    x-delivery: {said}\n")


def test_an_extension_at_a_place_where_nobody_reads_it_is_told() -> None:
    said = "x-delivery: {strategy: recreate}"
    with pytest.raises(BadExtension, match="x-delivery in db is at a place"):
        rendered(f"services:\n  db:\n    deploy:\n      {said}\n")
    with pytest.raises(BadExtension, match="at the top of the file"):
        rendered(f"services:\n  db: {{}}\n{said}\n")
    # There it is what a service refers to.
    assert rendered(f"services:\n  db:\n    {said}\n{said}\n").strategies == {"db": "recreate"}
    assert rendered("services:\n  db:\n    labels: {x-delivery: a}\n") == Extensions()
