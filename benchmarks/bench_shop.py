# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What customers of ``examples/shop`` see of a deploy: our strategies beside what people use else.

Each brings the shop to another version and another image of its database, while customers buy.
Ours are behind HAProxy; the others have the web service at a fixed port, as is usual with them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import harness
from benchmarks.bench_compose import OURS, THEIRS, run_module
from tests.support.engine import connect, remove_all
from tests.support.haproxy import haproxy_server
from tests.support.router_daemon import free_port
from tests.support.shop import ShopCopy, copy_shop
from tests.support.shop_runs import STRATEGIES, build_images, options, want

PREFIX = f"idt-{os.getpid()}-bench-shop"
UP, BY_HAND, MODULE = "compose up -d", "stop and start", "docker_compose_v2"
NAMES = {UP: "up", BY_HAND: "by-hand", MODULE: "module"}
# What of a deploy comes after the program has ended, as a service that is not ready yet.
AFTER_SECONDS = 5


@dataclass(frozen=True)
class Seen:
    """What customers saw of all deploys of one kind: the sums, and the longest wait."""

    failed: int
    lost: int
    longest: float
    seconds: float


FAILED = "orders failed"
# The rows of each strategy: name, unit, value and bound.
WHAT: tuple[tuple[str, str, Callable[[Seen], float], float | None], ...] = (
    (FAILED, "", lambda seen: seen.failed, 0),
    ("acknowledged and lost", "", lambda seen: seen.lost, 0),
    ("longest wait", "s", lambda seen: seen.longest, None),
    ("deploy", "s", lambda seen: seen.seconds, None),
)


def measure(shop: ShopCopy, deploy: Callable[[], object], rounds: int) -> Seen:
    """Deploy the shop again and again, while customers buy."""
    for number in (1, 0):
        want(shop, number)
        build_images(shop)
    deploy()
    failed, longest, seconds = 0, 0.0, []
    shop.buy("start")
    try:
        for number in range(1, rounds + 1):
            want(shop, number)
            began = time.monotonic()
            deploy()
            seconds.append(time.monotonic() - began)
            time.sleep(AFTER_SECONDS)
            orders = shop.count(whole=False)
            failed += orders.failed
            longest = max(longest, orders.longest)
    finally:
        shop.end_buyers()
    return Seen(failed, shop.count(whole=False).lost, longest, min(seconds))


def compose(shop: ShopCopy, *arguments: str) -> None:
    """Run compose itself on the shop."""
    command = ["docker", "compose", *arguments]
    subprocess.run(command, cwd=shop.folder, capture_output=True, check=True)


def by_hand(shop: ShopCopy) -> None:
    """What a careful person types."""
    compose(shop, "stop")
    compose(shop, "up", "--detach", "--wait", "db")
    compose(shop, "up", "--detach", "--wait", "web", "worker")


@contextmanager
def ours(folder: Path, strategy: str) -> Iterator[tuple[ShopCopy, Callable[[], object]]]:
    """The shop behind HAProxy, and how it is deployed."""
    with haproxy_server(folder / "haproxy", [{"name": "shop"}]) as server:
        shop = copy_shop(folder, f"{PREFIX}-{strategy.replace('_', '-')}", server.port)
        given: dict[str, Any] = {
            "project_src": str(shop.folder),
            "releases_dir": str(folder / "releases"),
            # The others do not watch what they have started.
            "soak": 0,
            **options(strategy, server.url, haproxy=server.options()),
        }
        yield shop, lambda: run_module(folder, OURS, given)


@contextmanager
def others(folder: Path, what: str) -> Iterator[tuple[ShopCopy, Callable[[], object]]]:
    """The shop at a fixed port, and how it is deployed."""
    port = free_port()
    shop = copy_shop(folder, f"{PREFIX}-{NAMES[what]}", port)
    shop.change("compose.yaml", '"127.0.0.1::8080"', f'"127.0.0.1:{port}:8080"')
    given = {"project_src": str(shop.folder), "build": "policy", "wait": True}
    deploys: dict[str, Callable[[], object]] = {
        UP: lambda: compose(shop, "up", "--detach"),
        MODULE: lambda: run_module(folder, THEIRS, given),
        BY_HAND: lambda: by_hand(shop),
    }
    yield shop, deploys[what]


def run(quick: bool) -> harness.Table:
    """Compare what customers see of a deploy."""
    rounds = 1 if quick else 3
    engine = connect()
    seen: dict[str, Seen] = {}
    kinds = [(ours, one) for one in STRATEGIES] + [(others, one) for one in (UP, MODULE, BY_HAND)]
    for kind, what in kinds:
        with ExitStack() as stack:
            stack.callback(remove_all, engine, PREFIX)
            # Of HAProxy's socket, whose path may not be long.
            text = stack.enter_context(tempfile.TemporaryDirectory(prefix="shop-"))
            shop, deploy = stack.enter_context(kind(Path(text), what))
            shop.make_password()
            seen[what] = measure(shop, deploy, rounds)
    table = harness.Table("The shop: a new version and a new image of its database")
    rivals = {what: one for what, one in seen.items() if what not in STRATEGIES}
    for strategy in STRATEGIES:
        one = seen[strategy]
        for what, unit, value, bound in WHAT:
            beside = {name: value(rival) for name, rival in rivals.items()}
            # The one strategy that stops what serves before the next one does.
            kept = None if what == FAILED and strategy == "recreate" else bound
            table.rows.append(
                harness.Row(
                    f"{strategy}: {what}", unit, harness.LOWER, value(one), beside, bound=kept
                )
            )
    table.note = (
        f"Sums of {rounds} deploys each; the deploy is the best of them. A customer who gets no "
        "answer asks again after 0.05 s, so failed orders tell for how long there was none."
    )
    return table


if __name__ == "__main__":
    sys.exit(harness.main(run("--quick" in sys.argv)))
