# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a deploy of a service takes: one ansible-playbook, beside the seed's steps by hand.

Both pull by the same registry, run the same image and the same tests against it, and register it
with the same proxy. By hand nothing is checked, drained or kept, and the old one is killed.

The start of Ansible alone may take as long as all of the steps by hand for one small service. So a
play whose only task does nothing is timed in the same run, and the bound for one service is on what
a deploy takes beyond that; for several services it is on the whole.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import harness
from tests.support.engine import APPS, build, connect, new_prefix
from tests.support.plays import run_play
from tests.support.service import SERVICE_LABEL, Shop, open_shop, push

BOUND = 1.5
BY_HAND = "by hand"
IDLE = "a play that does nothing"


class Bench:
    """Two versions of the demo service and its tests in a registry, and who deploys them."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        repository = f"{shop.registry.address}/{shop.prefix}"
        demo = shop.folder / "demo-service"
        shutil.copytree(APPS / "demo-service", demo)
        self.versions = []
        for version in ("v1", "v2"):
            # Another version is other code, and so another layer to pull.
            with (demo / "service.py").open("a") as code:
                code.write(f"# {version}\n")
            tag = build(demo, f"{repository}/demo:{version}", VERSION=version)
            self.versions.append(f"{repository}/demo@{self._pushed(tag)}")
        tag = build(demo, f"{repository}/demo-tests:v1", "Dockerfile.test")
        self.tests = f"{repository}/demo-tests@{self._pushed(tag)}"

    def _pushed(self, tag: str) -> str:
        """Push an image, and have it in the registry only."""
        digest = push(tag)
        docker("rmi", tag)
        return digest

    def forget(self) -> None:
        """Leave the engine no image that nobody runs: a new version has to be pulled."""
        for image in (*self.versions, self.tests):
            docker("rmi", image, check=False)

    def ours(self, names: list[str], number: int) -> float:
        """Deploy a version of each service by the role; return the seconds."""
        play = [
            {
                "name": "Deploy",
                "ansible.builtin.include_role": {"name": "immutable.delivery.service"},
                "vars": {
                    "service_list": [{"name": name} for name in names],
                    "service_image": self.versions[number % 2],
                    "service_container_port": 8080,
                    "service_bind_address": "127.0.0.1",
                    "service_test_image": self.tests,
                    "service_router": "registry",
                    "service_api_url": self.shop.proxy.url,
                    "service_prove_path": "/1",
                    "service_keep_releases": 0,
                },
            }
        ]
        began = time.perf_counter()
        result = run_play(play, timeout=1800).ok()
        assert result.task("Deploy").changed, result.output
        return time.perf_counter() - began

    def by_hand(self, names: list[str], number: int) -> float:
        """Deploy a version of each service by the steps of the seed; return the seconds."""
        began = time.perf_counter()
        for name in names:
            docker("pull", "--quiet", self.versions[number % 2])
            docker("pull", "--quiet", self.tests)
            label = f"{SERVICE_LABEL}={name}"
            new = docker(
                *("run", "--detach", "--label", label, "--publish", "127.0.0.1::8080"),
                self.versions[number % 2],
            )
            port = docker(
                *(
                    "inspect",
                    "--format",
                    '{{(index .NetworkSettings.Ports "8080/tcp" 0).HostPort}}',
                ),
                new,
            )
            url = f"http://127.0.0.1:{port}"
            tests = f"{name}-tests"
            # As the seed has it: "if they are still running for whatever reason".
            docker("rm", "--force", tests, check=False)
            docker(
                *("run", "--rm", "--name", tests, "--network", "host", "--env", f"URL={url}"),
                self.tests,
            )
            registration = f"{self.shop.proxy.url}/services/{name}/{quote(url, safe='')}"
            program("curl", "--silent", "--show-error", "--fail", "-XPOST", registration)
            old = docker(
                *("ps", "--quiet", "--filter", f"label={label}", "--filter", f"before={new}")
            )
            if old:
                docker("rm", "--force", *old.split())
            program("curl", "--silent", "--show-error", "--fail", f"{self.shop.proxy.url}/{name}/1")
        return time.perf_counter() - began


def idle() -> float:
    """Run a play whose only task does nothing; return the seconds."""
    began = time.perf_counter()
    run_play([{"name": "Nothing", "ansible.builtin.ping": {}}], timeout=300).ok()
    return time.perf_counter() - began


def program(*command: str, check: bool = True) -> str:
    """Run a program; return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stderr}")
    return done.stdout.strip()


def docker(*arguments: str, check: bool = True) -> str:
    """Run the engine's client."""
    return program("docker", *arguments, check=check)


def run(quick: bool) -> harness.Table:
    """Deploy one service a few times, then several at once."""
    table = harness.Table("deploy of a service on an engine, tested and registered")
    client = connect()
    prefix = new_prefix()
    with tempfile.TemporaryDirectory() as folder, open_shop(client, prefix, Path(folder)) as shop:
        bench = Bench(shop)
        try:
            for count, times in ((1, 2),) if quick else ((1, 7), (10, 3), (50, 1)):
                table.rows += _rows(bench, count, times)
        finally:
            shop.clean_up()
    table.note = "each replaces an earlier version; ours proves, drains and stops it gracefully too"
    return table


def _rows(bench: Bench, count: int, times: int) -> list[harness.Row]:
    """Take all in turn, so that what else the machine does falls on each."""
    names = [bench.shop.new_name() for _service in range(count)]
    rivals = [f"{name}-hand" for name in names]
    bench.ours(names, 0)
    bench.by_hand(rivals, 0)
    ours, hand, nothing = [], [], []
    for number in range(1, times + 1):
        nothing.append(idle())
        bench.forget()
        ours.append(bench.ours(names, number))
        bench.forget()
        hand.append(bench.by_hand(rivals, number))
    _remove(bench, [*names, *rivals])
    took, rival, start = map(statistics.median, (ours, hand, nothing))
    beside = {BY_HAND: rival, IDLE: start}
    bound = BOUND * rival
    if count > 1:
        what = f"{count} services in one play"
        return [harness.Row(what, "s", harness.LOWER, took, beside, bound=bound)]
    beyond = {BY_HAND: rival}
    return [
        harness.Row("one service", "s", harness.LOWER, took, beside),
        harness.Row(
            "one service, beyond Ansible's start", "s", harness.LOWER, took - start, beyond, bound
        ),
    ]


def _remove(bench: Bench, names: list[str]) -> None:
    for name in names:
        for container in bench.shop.containers(name):
            container.remove(force=True, v=True)


if __name__ == "__main__":
    sys.exit(harness.main(run("--quick" in sys.argv)))
