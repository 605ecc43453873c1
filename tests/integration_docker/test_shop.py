# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The walk of docs/compose.md, as it is written there, while customers buy at the shop.

The tests stand in the order of the page's sections, and each goes on where the one before it ended.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from tests.support.compose import SERVICE
from tests.support.engine import PROJECT, ROOT, remove_all
from tests.support.router_daemon import free_port
from tests.support.shop import Orders, ShopCopy, copy_shop, read_count
from tests.support.walk import Typed, Walk

PAGE = ROOT / "docs" / "compose.md"
LINE_SECONDS = 600
# Long enough for what is healthy; what is broken takes all of it.
WAIT = ("shop_wait_timeout: 60", "shop_wait_timeout: 30")
TASK = "Bring the project to what its files say"


@dataclass
class Shopping:
    """Somebody who walks along the page, and the copy of the shop that it is about."""

    walk: Walk
    shop: ShopCopy
    engine: DockerClient

    def section(self, heading: str) -> tuple[list[Typed], Orders]:
        """Type a section, whose orders must all be there; return what was printed."""
        typed = self.walk.section(heading)
        counted = [one for one in typed if one.line == "python3 buy.py count"]
        orders = read_count(counted[-1].ok())
        assert orders.lost == 0 and orders.versions
        return typed, orders

    def containers(self, service: str) -> dict[str, str]:
        """The containers of a service that run: the images by the ids."""
        labels = [f"{PROJECT}={self.shop.name}", f"{SERVICE}={service}"]
        found = self.engine.containers.list(filters={"label": labels})
        return {str(one.id): str(one.attrs["Config"]["Image"]) for one in found}


@pytest.fixture(scope="module")
def shopping(engine: DockerClient, prefix: str) -> Iterator[Shopping]:
    # HAProxy's socket is below this folder, and its path may not be long.
    with tempfile.TemporaryDirectory(prefix="shop-") as name:
        folder = Path(name)
        shop = copy_shop(folder, f"{prefix}-shop", free_port())
        shop.change("inventory.yml", *WAIT)
        env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "ANSIBLE_NOCOLOR": "1",
        }
        try:
            with Walk(PAGE, folder, env, LINE_SECONDS, shop.instead) as walk:
                yield Shopping(walk, shop, engine)
        finally:
            shop.end_buyers()
            remove_all(engine, shop.name)


def deployed(typed: list[Typed]) -> list[bool]:
    """Whether each deploy of a section changed anything."""
    runs = [one for one in typed if one.line.startswith("ansible-playbook deploy.yml")]
    return [f"{result(one)}:".startswith("changed:") for one in runs]


def result(typed: Typed) -> str:
    """What is said of the task that deploys, from the word for its status on."""
    text = typed.output.partition(f"TASK [{TASK}]")[2].partition("\nTASK [")[0]
    said = re.search(r"^(ok|changed|fatal): .*", text, re.MULTILINE | re.DOTALL)
    assert said, typed.output
    return said[0]


def answer(typed: Typed) -> dict[str, Any]:
    """What the shop has answered."""
    found = json.loads(typed.ok())
    assert isinstance(found, dict)
    return found


def test_the_shop_opens_and_a_second_deploy_changes_nothing(shopping: Shopping) -> None:
    for typed in (*shopping.walk.section(""), *shopping.walk.section("The router")):
        typed.ok()
    typed, _orders = shopping.section("The first deploy")
    first, again, compose, asked, *_bought = typed
    first.ok()
    again.ok()
    assert deployed(typed) == [True, False]
    assert "Recreate" not in compose.ok()
    assert answer(asked)["version"] == "1"


def test_no_order_fails_at_a_new_version(shopping: Shopping) -> None:
    before = shopping.containers("db")
    typed, orders = shopping.section("A new version")
    assert "(its image changed" in typed[1].ok() and "replaced in lock-step)" in typed[1].output
    typed[2].ok()
    assert (orders.failed, set(orders.versions)) == (0, {"1", "2"})
    assert shopping.containers("db") == before


def test_a_broken_version_leaves_who_serves(shopping: Shopping) -> None:
    before = shopping.containers("web") | shopping.containers("worker")
    typed, orders = shopping.section("A broken version")
    assert typed[2].code == 2 and "No module named" in typed[2].output
    assert shopping.containers("web") | shopping.containers("worker") == before
    assert (orders.failed, orders.versions) == (0, ("2",))


def test_the_former_version_comes_back(shopping: Shopping) -> None:
    typed, orders = shopping.section("Back")
    assert deployed(typed) == [True, False]
    went_back = read_count(typed[1].ok())
    assert (went_back.failed, set(went_back.versions)) == (0, {"1", "2"})
    assert (orders.failed, orders.versions) == (0, ("1",))


def test_a_second_web_container_comes_beside_the_first(shopping: Shopping) -> None:
    before = shopping.containers("web")
    typed, orders = shopping.section("Two web containers")
    typed[1].ok()
    after = shopping.containers("web")
    assert (len(before), len(after), before.keys() < after.keys()) == (1, 2, True)
    assert orders.failed == 0


def test_a_changed_variable_arrives(shopping: Shopping) -> None:
    typed, orders = shopping.section("A changed variable")
    typed[1].ok()
    assert answer(typed[2])["currency"] == "CHF"
    assert orders.failed == 0


def test_a_changed_file_arrives(shopping: Shopping) -> None:
    worker = shopping.containers("worker")
    typed, orders = shopping.section("A changed file")
    typed[1].ok()
    assert answer(typed[2])["prices"]["tea"] == 5
    assert orders.failed == 0
    assert shopping.containers("worker") == worker


def test_a_renamed_service_takes_the_place_of_the_former(shopping: Shopping) -> None:
    typed, orders = shopping.section("A renamed service")
    typed[1].ok()
    assert (len(shopping.containers("mailer")), shopping.containers("worker")) == (1, {})
    assert orders.failed == 0


def test_a_new_database_loses_no_order(shopping: Shopping) -> None:
    (before,) = shopping.containers("db")
    web = shopping.containers("web")
    typed, orders = shopping.section("A new database")
    typed[1].ok()
    ((after, image),) = shopping.containers("db").items()
    assert after != before and image.endswith("postgres:next")
    assert shopping.containers("web") == web
    assert orders.failed == 0


def test_what_is_taken_away_is_gone(shopping: Shopping) -> None:
    stopped, *rest = shopping.walk.section("Away with it")
    assert read_count(stopped.ok()).lost == 0
    for typed in rest:
        typed.ok()
    engine, name = shopping.engine, shopping.shop.name
    containers = engine.containers.list(all=True, ignore_removed=True)
    left = [str(one.name) for one in (*containers, *engine.volumes.list(), *engine.networks.list())]
    assert [one for one in left if one.startswith(name)] == []
