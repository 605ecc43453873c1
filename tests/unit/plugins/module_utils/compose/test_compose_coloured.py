# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The second project of ``blue_green``: what is its own, and what it uses of the first one."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.compose.coloured import (
    LABEL,
    Joint,
    coloured,
    only,
)
from ansible_collections.immutable.delivery.plugins.module_utils.compose.project import Project
from ansible_collections.immutable.delivery.plugins.module_utils.compose.service import Service
from ansible_collections.immutable.delivery.plugins.module_utils.compose.suitable import (
    Unsuitable,
)

from .world import service

DATA = {"type": "volume", "source": "data", "target": "/data"}
FILES = {"type": "volume", "source": "files", "target": "/files"}


def project(*services: Service, **more: Any) -> Project:
    named = {one.name: one for one in services}
    model = {
        "name": "p",
        "services": {name: one.spec for name, one in named.items()},
        "networks": {
            "default": {"name": "p_default", "ipam": {}},
            "back": {"name": "p_back", "internal": True},
            "named": {"name": "shop", "ipam": {"config": [{"subnet": "10.9.0.0/24"}]}},
            "outside": {"name": "edge", "external": True},
        },
        "volumes": {"data": {"name": "p_data"}, "files": {"name": "p_files"}},
        **more,
    }
    return Project("p", model, named)


def colour(*services: Service, doubled: set[str]) -> tuple[dict[str, Any], Joint]:
    made, joint = coloured(project(*services), doubled, "p-green")
    assert (made.name, set(made.services)) == ("p-green", doubled)
    assert {name: one.spec for name, one in made.services.items()} == made.model["services"]
    return dict(made.model), joint


DB = service("db", networks={"back": None}, volumes=[DATA])


def test_networks_are_doubled_and_those_of_the_project_joined() -> None:
    web = service("web", networks={"default": None, "back": {"aliases": ["www"]}, "outside": None})
    model, joint = colour(DB, web, doubled={"web"})
    assert model["networks"] == {
        "default": {"name": "p-green_default"},
        "back": {"name": "p-green_back", "internal": True},
        "outside": {"name": "edge", "external": True},
    }
    # In default there is nobody else, and whoever is outside is reached in the same network.
    assert joint == Joint({"web": ("p_back",)}, {})


def test_a_network_with_a_name_of_its_own_has_another_one_for_each_colour() -> None:
    model, _joint = colour(service("web", networks={"named": None}), doubled={"web"})
    assert model["networks"] == {"named": {"name": "shop-green"}}


def test_a_fixed_address_is_refused() -> None:
    web = service("web", networks={"named": {"ipv4_address": "10.9.0.5"}})
    with pytest.raises(Unsuitable, match="service web has a fixed address in the network named"):
        colour(web, doubled={"web"})


def test_volumes_are_those_of_the_project_unless_an_image_fills_them() -> None:
    web = service("web", volumes=[{**DATA, "read_only": True}, FILES])
    static = service("static", static=True, volumes=[FILES])
    model, joint = colour(DB, web, static, doubled={"web", "static"})
    assert model["volumes"] == {
        "data": {"name": "p_data", "external": True},
        "files": {"name": "p-green_files"},
    }
    assert joint.volumes == {"p_data": "data"}


def test_what_is_not_doubled_is_left_out_and_not_waited_for() -> None:
    ready = {"condition": "service_healthy"}
    web = service(
        "web", build={"context": "."}, depends_on={"db": ready, "api": ready}, links=["db", "api:a"]
    )
    model, _joint = colour(DB, web, service("api"), doubled={"web", "api"})
    spec = model["services"]["web"]
    assert (spec["depends_on"], spec["links"]) == ({"api": ready}, ["api:a"])
    assert "build" not in spec
    assert (spec["image"], spec["labels"]) == ("web", {LABEL: "p"})


def test_another_name_for_what_is_not_doubled_is_refused() -> None:
    with pytest.raises(Unsuitable, match="service web has the link db:sql"):
        colour(DB, service("web", links=["db:sql"]), doubled={"web"})


def test_a_part_of_a_project_has_the_whole_model() -> None:
    base = project(DB, service("web"))
    part = only(base, {"web"})
    assert (set(part.services), part.model) == ({"web"}, base.model)
