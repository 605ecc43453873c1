# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in portal for the tests of the portal modules: filled, looked into, and told to fail."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.support.apps import AppProcess, start_app
from tests.support.plays import ROOT

KEY = "ThisIsUsedInDeploy"
HOST = "api.portal.example"
ARCHIVE = ROOT / "tests" / "data" / "portal-export.tgz.enc"
ARCHIVE_SHA256 = "41ed52908e835d032e02c16ab5c81619a3f6a8d444d6d239441e276ab84ec67d"
COUNTS = {
    "users": 155,
    "applications": 150,
    "subscriptions": 113,
    "approvals": 0,
    "verifications": 0,
    "webhooks": 0,
}


@dataclass
class Portal:
    """A running portal that answers to HOST only."""

    app: AppProcess
    data: Path

    @property
    def url(self) -> str:
        return self.app.url

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Call it by the right name and with the key, past whatever is before it."""
        headers = {"Host": HOST, "Authorization": KEY, **options.pop("headers", {})}
        return requests.request(method, self.url + path, headers=headers, timeout=60, **options)

    @property
    def locked(self) -> bool:
        return bool(self.call("GET", "/health").json()["locked"])

    def entities(self) -> str:
        """A hash over all entities as they lie on the disk; derived files are left out."""
        digest = hashlib.sha256()
        for kind in COUNTS:
            for file in sorted((self.data / kind).glob("[!_]*.json")):
                digest.update(f"{kind}/{file.name}\n".encode() + file.read_bytes())
        return digest.hexdigest()

    def look(self) -> tuple[bool, str]:
        """What has to stand after a failure: whether it is locked, and its data."""
        return self.locked, self.entities()

    def faults(self, **faults: Any) -> None:
        """Replace all of its faults."""
        assert self.call("PUT", "/faults", json=faults).status_code == 200

    def lock(self) -> str:
        """Take its lock as somebody else would."""
        return str(self.call("POST", "/deploy/v1/export").json()["exportId"])

    def unlock(self) -> None:
        """Let whatever holds the lock lapse, and forget all faults."""
        self.faults(lapse_now=True)

    def fill(self) -> None:
        """Import the real archive, not through any code of ours."""
        body = ARCHIVE.read_bytes()
        headers = {"X-SHA256-Hash": ARCHIVE_SHA256}
        answer = self.call("POST", "/deploy/v1/import", data=body, headers=headers)
        path = f"/deploy/v1/import/{answer.json()['importId']}/status"
        wait_until(lambda: self.call("GET", path).status_code != 204, "the import to end")
        assert self.call("GET", path).status_code == 200


@contextmanager
def running_portal(
    folder: Path, *args: str, filled: bool = True, static: str = "static"
) -> Iterator[Portal]:
    """Run a portal with its data in *folder*; without a limit of calls where *args* set none."""
    data = folder / "data"
    data.mkdir(parents=True)
    apps = ROOT / "apps" / "portal"
    ready = folder / "ready.json"
    argv = [
        *(sys.executable, str(apps / "main.py"), "--listen", "127.0.0.1:0", "--version", "v24"),
        *("--data", str(data), "--static", str(apps / static), "--ready-file", str(ready)),
        *("--host", HOST, "--allow-faults", "--rate", "0", *args),
    ]
    app = start_app(argv, {"PORTAL_DEPLOYMENT_KEY": KEY}, ready)
    try:
        portal = Portal(app, data)
        if filled:
            portal.fill()
        yield portal
    finally:
        app.kill()


def wait_until(look: Any, what: str, seconds: float = 60) -> None:
    """Look until it is so; fails the test after *seconds*."""
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.03)


def left_in(folder: Path) -> list[str]:
    """The names of everything in a folder, hidden files too."""
    return sorted(entry.name for entry in folder.iterdir())
