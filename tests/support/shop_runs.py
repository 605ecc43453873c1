# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploys of the shop under a strategy, some of which are killed, while customers buy."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker import DockerClient

from tests.matrix.kills import CHANGES, changes
from tests.support.compose import Stage
from tests.support.engine import remove_all
from tests.support.haproxy import haproxy_server
from tests.support.service_front import engine_front
from tests.support.shop import DB_NEXT, DB_NOW, Orders, ShopCopy, copy_shop

RUN_SECONDS = 300
STRATEGIES = ("recreate", "rolling", "blue_green")


@dataclass
class ShopRuns:
    """A shop that serves, and what it is deployed with."""

    shop: ShopCopy
    stage: Stage
    changes: int = 0
    wanted: int = 0

    def change(self) -> None:
        """Want the other version and the other image of the database."""
        self.wanted += 1
        want(self.shop, self.wanted)

    def deploy(self) -> Orders:
        """Deploy both, and note how often that asks the engine for a change; count the orders."""
        self.change()
        with engine_front() as front:
            done = self.stage.redeploy(docker_host=front.url)
            self.changes = sum(1 for request in front.requests if changes(request))
        assert done["changed"]
        return self.shop.count()

    def deploy_killed(self, number: int) -> list[str]:
        """Kill a deploy at that change of the engine; return what is not as it must be then."""
        self.change()
        with (
            engine_front(CHANGES, "tell", number=number) as front,
            self.stage.start(docker_host=front.url) as run,
        ):
            front.told = run.process.kill
            run.process.wait(RUN_SECONDS)
        faults = [] if front.reached.is_set() else [f"there was no change {number}"]
        again = self.stage.run()
        if again.code:
            return [*faults, f"the next run failed: {again.result.get('msg', again.output)}"]
        third = self.stage.run()
        if third.code or third.result["changed"]:
            faults.append(f"a further run changed something: {third.result.get('steps')}")
        orders = self.shop.count()
        if orders.lost:
            faults.append(f"{orders.lost} of {orders.acknowledged} orders are lost")
        return faults

    def version(self) -> str:
        """Which version takes the orders now."""
        self.shop.count()
        return self.shop.count().versions[-1]


def want(shop: ShopCopy, number: int) -> None:
    """Want version 1 and the first image of the database, or version 2 and the next one."""
    shop.set("TAG", "12"[number % 2])
    shop.set("DB_IMAGE", shop.instead[(DB_NOW, DB_NEXT)[number % 2]])


def options(strategy: str, url: str, **haproxy: Any) -> dict[str, Any]:
    """The module's options, as ``deploy.yml`` of the example has them."""
    return {
        "strategy": strategy,
        "build": "missing",
        "remove_orphans": True,
        "router": {
            "name": "haproxy",
            "api_url": url,
            "services": [{"service": "web", "port": 8080, "name": "shop"}],
            "health_path": "/health",
            "prove_path": "/orders",
        },
        **haproxy,
    }


@contextmanager
def shop_runs(engine: DockerClient, strategy: str, name: str) -> Iterator[ShopRuns]:
    """A shop behind HAProxy, with customers; in the end no acknowledged order may be lost."""
    with (
        tempfile.TemporaryDirectory(prefix="shop-") as text,
        haproxy_server(Path(text) / "haproxy", [{"name": "shop"}]) as server,
    ):
        shop = copy_shop(Path(text), name, server.port)
        shop.make_password()
        given = options(strategy, server.url, haproxy=server.options())
        runs = ShopRuns(shop, Stage(engine, name, shop.folder, given))
        try:
            # A front of the engine is none for builds.
            for number in (1, 0):
                want(shop, number)
                build_images(shop)
            runs.stage.redeploy()
            with shop.buyers():
                yield runs
        finally:
            shop.end_buyers()
            remove_all(engine, name)


def build_images(shop: ShopCopy) -> None:
    """Build the images of the version that is wanted."""
    done = subprocess.run(
        ["docker", "compose", "build"], cwd=shop.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
