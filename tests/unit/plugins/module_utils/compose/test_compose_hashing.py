# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What compose is asked, how its answers are read, and what is made once more: tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.compose import (
    model as model_module,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.cli import (
    Compose,
    ComposeError,
    Limit,
    warnings_in,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.copies import copy_created
from ansible_collections.immutable.delivery.plugins.module_utils.compose.engine_state import (
    Instance,
    Mount,
    instance_of,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.hashing import (
    ask_compose,
    with_due,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.model import (
    as_written,
    check_text,
    parse_model,
    repair,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.naming import (
    aside,
    due_links,
    due_name,
    name_for,
    slots,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.superseded import (
    kept_volumes,
)
from ansible_collections.immutable.delivery.plugins.module_utils.engine.options import Connection

from .world import instance, service, told

VOLUME = "a" * 64
OTHER = "b" * 64
ID = "0123456789abcdef"


class Recording(Compose):
    """Answers in place of the program."""

    answer = ""
    asked: tuple[Mapping[str, Any], tuple[str, ...]]

    def run(self, model: Mapping[str, Any], *arguments: str, doing: str, limit: Limit) -> str:
        object.__setattr__(self, "asked", (model, arguments))
        return self.answer


def recording(answer: str) -> Recording:
    compose = Recording(Connection(), Path("/"))
    object.__setattr__(compose, "answer", answer)
    return compose


def test_compose_is_asked_for_several_configurations_at_once() -> None:
    compose = recording("s1 two\ns0 one\n")
    model = {"name": "p", "services": {"web": {}}, "networks": {"default": None}}
    assert ask_compose(compose, model, [{"image": "a"}, {"image": "b"}]) == ["one", "two"]
    asked, arguments = compose.asked
    assert asked["services"] == {"s0": {"image": "a"}, "s1": {"image": "b"}}
    assert asked["networks"] == {"default": None}
    assert arguments[:1] == ("config",)
    assert ask_compose(recording(""), model, []) == []
    with pytest.raises(ComposeError, match="1 configuration hashes of 2"):
        ask_compose(recording("s0 one\n"), model, [{}, {}])


def test_who_refers_to_others_has_the_hash_with_their_ids() -> None:
    data, api = (
        service("data"),
        service("api", volumes_from=["data:ro"], network_mode="service:data"),
    )
    asked: list[Sequence[Mapping[str, Any]]] = []

    def ask(specs: Sequence[Mapping[str, Any]]) -> list[str]:
        asked.append(specs)
        return told(specs)

    ones = {
        "data": [instance(data)],
        "api": [instance(api, number, refers={"data": f"data-{number}"}) for number in (1, 2)],
        "gone": [instance(service("gone"))],
    }
    blank = {n: [replace(one, due="") for one in found] for n, found in ones.items()}
    found = with_due(ask, {"data": data, "api": api}, blank)
    # Compose drops the mode before it takes the hash.
    assert asked == [
        [
            {"image": "api", "volumes_from": [id_], "network_mode": f"container:{id_}"}
            for id_ in ("data-1", "data-2")
        ]
    ]
    assert [one.due for one in found["api"]] == [one.hash for one in ones["api"]]
    assert (found["data"][0].due, found["gone"][0].due) == (data.hash, "")
    # One that refers to nothing has no hash that would do.
    lost = replace(ones["api"][0], volumes_from=())
    assert with_due(ask, {"api": api}, {"api": [lost]})["api"][0].due == ""
    with_due(ask, {"data": data}, {"data": ones["data"]})
    assert len(asked) == 1


def test_the_model_is_read_as_json_and_as_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {"name": "p", "services": {"web": {"image": "x", "init": True}}}
    assert (
        parse_model('{"name": "p", "services": {"web": {"image": "x", "init": true}}}') == expected
    )
    written = "name: p\nservices:\n  web:\n    image: x\n    init: true\n"
    assert parse_model(written) == expected
    for text in ("", "- a\n", "a: [\n"):
        with pytest.raises(ComposeError, match="neither JSON nor YAML"):
            parse_model(text)
    monkeypatch.setattr(model_module, "HAS_YAML", False)
    with pytest.raises(ComposeError, match=r"2\.25\.0"):
        parse_model(written)


def test_a_model_is_repaired_so_that_compose_reads_what_it_rendered() -> None:
    assert as_written({"l$$$$x": "v$$1", "deep": [{"a$$b": ["$$"]}]}) == {
        "l$$x": "v$$1",
        "deep": [{"a$b": ["$$"]}],
    }
    spec = {
        "ulimits": {"core": {}, "nofile": {"hard": 5}, "nproc": 7},
        "build": {"context": "/b", "ssh": ["default", "mine: /key"]},
        "blkio_config": {"weight": 5, "device_read_bps": [{"Path": "/dev/sda", "Rate": "1m"}]},
        "depends_on": {"gone": {"required": False}, "db": {"required": True}},
    }
    repair(spec, {"db": {}})
    assert spec == {
        "ulimits": {"core": {"soft": 0, "hard": 0}, "nofile": {"soft": 0, "hard": 5}, "nproc": 7},
        "build": {"context": "/b", "ssh": ["default", "mine=/key"]},
        "blkio_config": {"weight": 5, "device_read_bps": [{"path": "/dev/sda", "rate": "1m"}]},
        "depends_on": {"db": {"required": True}},
    }
    alone: dict[str, Any] = {"depends_on": {"gone": {"required": False}}}
    repair(alone, {})
    assert alone == {}


def test_text_that_is_not_utf8_is_refused_by_name_and_never_shown() -> None:
    bad = {"services": {"web": {"environment": {"PASSWORD": "caf\ufffd"}}}}
    with pytest.raises(ComposeError) as caught:
        check_text(bad)
    assert caught.value.message.startswith("services.web.environment.PASSWORD holds bytes")
    assert "caf" not in str(caught.value)
    check_text({"services": {"web": {"environment": {"WINK": "\U0001f609"}}}})


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (
            'time="2026" level=warning msg="The \\"TAG\\" variable is not set. '
            'Defaulting to a blank string."\n' * 2,
            ('The "TAG" variable is not set. Defaulting to a blank string.',),
        ),
        ('level=warning msg="a"\nlevel=warning msg="b\\\\"\n', ("a", "b\\")),
        ('time="2026" level=error msg="no"\nsomething else\n', ()),
        ("", ()),
    ],
)
def test_warnings_of_compose_are_read(said: str, found: tuple[str, ...]) -> None:
    assert warnings_in(said) == found


WEB = service("web", scale=3)


@pytest.mark.parametrize(
    ("keep", "olds", "count", "numbers", "follow"),
    [
        ([], [], 2, [1, 2], [None, None]),
        ([1], [], 2, [2, 3], [None, None]),
        ([], [(1, "running")], 1, [1], [1]),
        ([], [(1, "running"), (2, "running")], 3, [1, 2, 3], [1, 2, None]),
        ([2], [(1, "exited")], 1, [1], [1]),
        # One that runs goes before those that a killed run left, whatever their numbers.
        ([], [(1, "created"), (2, "running")], 1, [2], [2]),
        ([], [(1, "running"), (1, "created")], 1, [1], [1]),
        ([], [(1, "created"), (1, "exited")], 1, [1], [1]),
        # Its number has been taken by the one that is kept.
        ([1], [(1, "exited")], 1, [2], [None]),
    ],
)
def test_new_containers_take_the_numbers_of_those_that_they_follow(
    keep: list[int],
    olds: list[tuple[int, str]],
    count: int,
    numbers: list[int],
    follow: list[int | None],
) -> None:
    kept = [instance(WEB, number) for number in keep]
    former = [instance(WEB, number, status=status, hash_="old") for number, status in olds]
    found = slots(kept, former, count)
    assert [slot.number for slot in found] == numbers
    assert [slot.follows and slot.follows.number for slot in found] == follow
    for slot in found:
        # What never ran holds no data.
        if slot.follows and any(status != "created" for _number, status in olds):
            assert slot.follows.container.status != "created"


def test_names_are_those_of_compose_whatever_separates_their_parts() -> None:
    assert name_for(WEB, 1, "p-web-3") == "p-web-1"
    assert name_for(WEB, 12, "p_web_3") == "p_web_12"
    named = service("named", container_name="fixed")
    assert name_for(named, 1, "p-named-2") == "fixed"
    assert aside("p-web-1", ID) == "p-web-1_0123456789ab"
    assert aside(aside("p-web-1", ID), "f" * 64) == "p-web-1_ffffffffffff"


def test_links_lead_to_those_that_stay_by_the_names_that_they_have_then() -> None:
    web = service("web", links=["db:database", "db-2", "cache:v2"], external_links=["other:x-2"])
    made = [
        *("p-db-1:database", "p-db-1:db-2", "p-db-1:p-db-2", "p-db-3:database"),
        *("p-db-1_0123456789ab:database", "p-db-2-1:db-2", "p-db-2-1:db-2-2", "p-cache-1:v2"),
        *("p-cache-1:cache-2", "other:x-2"),
    ]
    assert due_links(web, made, 2, 1, {"p-db-3"}) == [
        *("p-db-1:database", "p-db-1:db-2", "p-db-1:p-db-1"),
        *("p-db-2-1:db-2", "p-db-2-1:db-2-1", "p-cache-1:v2"),
        *("p-cache-1:cache-1", "other:x-2"),
    ]


@pytest.mark.parametrize(
    ("name", "number", "due"),
    [
        ("p-web-1", 1, "p-web-1"),
        ("p-web-1_0123456789ab", 1, "p-web-1"),
        # Somebody else's choice.
        ("p-web-1_0123456789ab", 2, "p-web-1_0123456789ab"),
        ("mine", 1, "mine"),
        ("p-web-11_0123456789ab", 1, "p-web-11_0123456789ab"),
    ],
)
def test_a_name_that_a_killed_run_left_is_known(name: str, number: int, due: str) -> None:
    assert due_name(WEB, instance(WEB, number, name=name)) == due


class Engine:
    """Notes what it is asked to create."""

    def __init__(self, api_version: str = "1.41") -> None:
        self.api = self
        self.api_version = api_version
        self.created: list[tuple[dict[str, Any], str, str | None]] = []
        self.connected: list[tuple[str, dict[str, Any]]] = []

    def create_container_from_config(
        self, config: dict[str, Any], name: str, platform: str | None = None
    ) -> dict[str, str]:
        self.created.append((config, name, platform))
        return {"Id": "new"}

    def connect_container_to_network(self, _id: str, network: str, **values: Any) -> None:
        self.connected.append((network, {n: one for n, one in values.items() if one}))


def made(**host: Any) -> dict[str, Any]:
    return {
        "Id": ID,
        "Name": "/p-web-2",
        "Config": {"Hostname": ID[:12], "Image": "web", "Labels": {"number": "2", "mine": "yes"}},
        "HostConfig": {"NetworkMode": "p_default", "Mounts": None, **host},
        "NetworkSettings": {
            "Networks": {
                "p_default": {
                    "Aliases": ["p-web-2", "web", ID[:12]],
                    "IPAddress": "",
                    "Links": None,
                },
                "p_other": {"Aliases": ["p-web-2", "x"], "IPAMConfig": {"IPv4Address": "10.0.0.9"}},
            }
        },
    }


def test_a_created_container_is_made_once_more_with_its_name_labels_and_volumes() -> None:
    engine = Engine()
    anonymous = {"Type": "volume", "Target": "/data/", "VolumeOptions": {}}
    bind = {"Type": "bind", "Source": "/srv", "Target": "/srv"}
    copied = copy_created(
        engine,  # type: ignore[arg-type]
        made(Mounts=[anonymous, bind]),
        "p-web-1_0123456789ab",
        final_name="p-web-1",
        labels={"number": "1"},
        volumes=[Mount(VOLUME, "/data", anonymous=True)],
        platform="linux/amd64",
    )
    ((config, name, platform),) = engine.created
    assert (copied, name, platform) == ("new", "p-web-1_0123456789ab", "linux/amd64")
    assert config["Labels"] == {"number": "1", "mine": "yes"}
    # The engine had made that name up of the other's id.
    assert config["Hostname"] == ""
    assert config["HostConfig"]["Mounts"] == [
        bind,
        {"Type": "volume", "Source": VOLUME, "Target": "/data", "ReadOnly": False},
    ]
    assert config["NetworkingConfig"] == {
        "EndpointsConfig": {"p_default": {"Aliases": ["p-web-1", "web"]}}
    }
    assert engine.connected == [
        ("p_other", {"ipv4_address": "10.0.0.9", "aliases": ["p-web-1", "x"]})
    ]


def test_a_newer_engine_takes_all_networks_at_creation() -> None:
    engine = Engine("1.44")
    copy_created(engine, made(), "a", final_name="a", labels={})  # type: ignore[arg-type]
    endpoints = engine.created[0][0]["NetworkingConfig"]["EndpointsConfig"]
    assert (set(endpoints), engine.connected) == ({"p_default", "p_other"}, [])


@pytest.mark.parametrize("mode", ["host", "none", "container:abc"])
def test_a_container_without_a_network_of_its_own_gets_none(mode: str) -> None:
    engine = Engine()
    seen = made(NetworkMode=mode)
    seen["NetworkSettings"]["Networks"] = {} if ":" in mode else {mode: {"Aliases": None}}
    copy_created(engine, seen, "a", final_name="a", labels={})  # type: ignore[arg-type]
    assert "NetworkingConfig" not in engine.created[0][0]
    assert engine.connected == []


def test_where_a_service_has_anonymous_volumes() -> None:
    spec = {
        "volumes": [
            {"type": "volume", "target": "/own/"},
            {"type": "volume", "source": "named", "target": "/named"},
            {"type": "tmpfs", "target": "/memory"},
            {"type": "bind", "source": "/srv", "target": "/bound"},
        ],
        "tmpfs": ["/run/:size=1m"],
    }
    declared = ["/image", "/named", "/memory", "/bound", "/run"]
    assert service("db", **spec).anonymous_places(declared) == {"/image", "/own"}


def test_places_of_volumes_are_compared_as_the_engine_reads_them() -> None:
    seen = {
        "Id": ID,
        "Name": "/p-web-1",
        "Mounts": [
            {"Type": "volume", "Name": VOLUME, "Destination": "/data/", "RW": False},
            {"Type": "bind", "Source": "/srv", "Destination": "/srv"},
        ],
    }
    assert instance_of(seen).mounts == (Mount(VOLUME, "/data", anonymous=True, read_only=True),)


def with_mounts(name: str, status: str, *mounts: str, **more: Any) -> Instance:
    one = instance(service(name), status=status)
    volumes = tuple(Mount(m, "/data", anonymous=len(m) == 64) for m in mounts)
    return replace(one, mounts=volumes, **more)


@pytest.mark.parametrize(
    ("olds", "kept"),
    [
        # Whether a successor uses the named one is asked afterwards.
        ([with_mounts("db", "exited", VOLUME, "named")], [(VOLUME, "db"), ("named", "db")]),
        # It never ran.
        ([with_mounts("db", "created", VOLUME, "named")], []),
        # Its content is its image's, also if another has mounted it.
        (
            [
                with_mounts("static", "exited", VOLUME),
                with_mounts("api", "exited", VOLUME, OTHER, volumes_from=("static-1",)),
            ],
            [(OTHER, "api")],
        ),
        (
            [
                with_mounts("api", "exited", VOLUME, volumes_from=("db-1",)),
                with_mounts("db", "exited", VOLUME),
            ],
            [(VOLUME, "db")],
        ),
    ],
)
def test_which_volumes_are_kept(olds: list[Instance], kept: list[tuple[str, str]]) -> None:
    assert [(one.name, one.service) for one in kept_volumes(olds, {"static"})] == kept
