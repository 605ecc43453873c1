# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``examples/shop`` for tests and benchmarks: a copy with names, ports and images of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from tests.support.engine import BASE_IMAGE, ROOT, app_image
from tests.support.walk import replace_all

EXAMPLE = ROOT / "examples" / "shop"
DB_NOW, DB_NEXT = "postgres:16.8", "postgres:16.9"
COUNT_SECONDS = 120
COUNTED = re.compile(r"^(\d+) orders acknowledged, (\d+) of them lost$", re.MULTILINE)
SINCE = re.compile(r"^since the last count: (.*); (\d+) failed$", re.MULTILINE)
WAIT = re.compile(r"^longest wait: ([\d.]+) s$", re.MULTILINE)


@dataclass(frozen=True)
class Orders:
    """What ``buy.py`` has counted: all that were acknowledged, and the rest since the last time."""

    acknowledged: int
    lost: int
    versions: tuple[str, ...]
    failed: int
    longest: float


def read_count(text: str) -> Orders:
    """Read what ``buy.py count`` prints."""
    total, since, wait = COUNTED.search(text), SINCE.search(text), WAIT.search(text)
    assert total and since and wait, text
    versions = tuple(re.findall(r"by version (\S+?)(?=,|$)", since[1]))
    return Orders(int(total[1]), int(total[2]), versions, int(since[2]), float(wait[1]))


@dataclass
class ShopCopy:
    """A copy of the example.

    :param instead: text of the example and its page, and what the copy has in its place.
    """

    folder: Path
    name: str
    url: str
    instead: dict[str, str] = field(default_factory=dict)

    def change(self, file: str, old: str, new: str) -> None:
        """Replace text in a file, as an editor does: by another file."""
        path = self.folder / file
        text = path.read_text()
        assert old in text, f"{file} has no {old!r}"
        beside = path.with_name(f"{path.name}.new")
        beside.write_text(text.replace(old, new))
        beside.replace(path)

    def set(self, name: str, value: str) -> None:
        """Set a variable in ``.env``."""
        path = self.folder / ".env"
        text, count = re.subn(rf"(?m)^{name}=.*$", f"{name}={value}", path.read_text())
        assert count == 1, f".env has no {name}"
        path.write_text(text)

    def make_password(self) -> None:
        """Make up the password of its database."""
        folder = self.folder / "secrets"
        folder.mkdir(mode=0o700)
        (folder / "db_password").write_text(token_hex())

    def buy(self, command: str, *, whole: bool = True) -> str:
        """Type a command of ``buy.py``; fails the test if it failed.

        :param whole: whether lost orders are a failure.
        """
        done = subprocess.run(
            [sys.executable, "buy.py", command],
            cwd=self.folder,
            env={**os.environ, "SHOP_URL": self.url},
            capture_output=True,
            text=True,
            timeout=COUNT_SECONDS,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0 or not whole, f"buy.py {command}: {said}"
        return said

    def end_buyers(self) -> None:
        """End the customers, if there still are any."""
        pid = self.folder / ".buyer" / "pid"
        if pid.exists():
            with suppress(ProcessLookupError):
                os.kill(int(pid.read_text()), signal.SIGKILL)

    def count(self, *, whole: bool = True) -> Orders:
        """Count the orders while others are made; see :meth:`buy`."""
        return read_count(self.buy("count", whole=whole))

    @contextmanager
    def buyers(self) -> Iterator[None]:
        """Buy all the while; in the end no acknowledged order may be lost."""
        self.buy("start")
        try:
            yield
        finally:
            said = self.buy("stop")
        assert read_count(said).lost == 0, said


def copy_shop(folder: Path, name: str, port: int) -> ShopCopy:
    """Copy the example below *folder*, as a project *name*; its images are those at hand.

    The next image of the database is another one with the same PostgreSQL.
    """
    database = app_image("postgres")
    following = f"{name}-postgres:next"
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", following, "-"],
        input=f"FROM {database}\nLABEL next=yes\n",
        capture_output=True,
        text=True,
        check=True,
    )
    instead = {
        "COMPOSE_PROJECT_NAME=shop": f"COMPOSE_PROJECT_NAME={name}",
        "image: shop:": f"image: {name}:",
        "shop-haproxy": f"{name}-haproxy",
        "shop_data": f"{name}_data",
        "router_image: haproxy:3.0": f"router_image: {app_image('haproxy')}",
        "shop_port: 8000": f"shop_port: {port}",
        "127.0.0.1:8000": f"127.0.0.1:{port}",
        "debian:bookworm-slim": BASE_IMAGE,
        DB_NOW: database,
        DB_NEXT: following,
    }
    target = folder / "examples" / "shop"
    left = shutil.ignore_patterns(".buyer", ".delivery", "secrets", "__pycache__")
    shutil.copytree(EXAMPLE, target, ignore=left)
    for file in (".env", "compose.yaml", "inventory.yml", "buy.py", "app/Dockerfile"):
        path = target / file
        path.write_text(replace_all(path.read_text(), instead))
    return ShopCopy(target, name, f"http://127.0.0.1:{port}", instead)
