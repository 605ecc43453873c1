# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded lab in a folder of a test's own: up, deploys, what stands, down."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.support.plays import PlayResult, RunningPlay, eventually
from tests.support.shipped import CHECKOUT, Shipped

HOST = "portal.example.org"
KEY = "ThisIsUsedInDeploy"
ENTITIES = ("users", "applications", "subscriptions")


@dataclass
class Lab:
    """One lab. ``settings`` are extra variables of every play."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, Any]:
        return {
            "portal_lab_dir": str(self.folder),
            "portal_lab_proxy_port": 0,
            "portal_blue_green_probe": False,
            **self.settings,
        }

    def play(
        self,
        name: str,
        *,
        check: bool = False,
        diff: bool = False,
        shipped: Shipped = CHECKOUT,
        **more: Any,
    ) -> PlayResult:
        """Run one of the project's playbooks in this lab."""
        return shipped.play(
            name,
            extra_vars={**self.variables, **more},
            check=check,
            diff=diff,
            timeout=600,
            args=shipped.inventory("local"),
        )

    def deploy(self, version: str, **more: Any) -> PlayResult:
        """Deploy *version*, successfully or not."""
        return self.play("deploy.yml", portal_version=version, **more)

    def start_deploy(self, version: str, **more: Any) -> RunningPlay:
        """Start a deploy, for :func:`kill_at`."""
        return CHECKOUT.start(
            "deploy.yml",
            extra_vars={**self.variables, "portal_version": version, **more},
            args=CHECKOUT.inventory("local"),
        )

    @property
    def proxy(self) -> str:
        return str(json.loads((self.folder / "proxy" / "ready.json").read_text())["url"])

    @property
    def portal(self) -> str:
        """The portal through the proxy."""
        return f"{self.proxy}/portal"

    @property
    def live_url(self) -> str:
        answer = requests.get(f"{self.proxy}/services/portal", timeout=10)
        return str(answer.json()["url"]["url"])

    def health(self, url: str | None = None) -> dict[str, Any]:
        """What a portal (the live one, through the proxy, by default) says of itself."""
        answer = requests.get(f"{url or self.portal}/health", headers={"Host": HOST}, timeout=10)
        answer.raise_for_status()
        return dict(answer.json())

    def is_locked(self, url: str) -> bool:
        """Tell whether a portal is read-only, without a call of its deploy API."""
        return bool(self.health(url)["locked"])

    def faults(self, url: str, **faults: Any) -> None:
        """Set the stand-in portal's faults."""
        answer = requests.put(f"{url}/faults", json=faults, headers={"Host": HOST}, timeout=10)
        answer.raise_for_status()

    @property
    def running(self) -> list[str]:
        """The names of the portal instances whose process lives."""
        names = []
        for record in sorted((self.folder / "instances").glob("*/process.json")):
            if is_alive(int(json.loads(record.read_text())["process"]["pid"])):
                names.append(record.parent.name)
        return names

    @property
    def instances(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "instances").iterdir())

    @property
    def archives(self) -> list[Path]:
        """The files outside of its instances that hold users' data, or say whose it is."""
        return sorted(path for path in self.folder.iterdir() if "portal.tgz.enc" in path.name)

    def instance_of(self, url: str) -> Path:
        """The folder of the instance that answers at *url*."""
        for ready in (self.folder / "instances").glob("*/ready.json"):
            if json.loads(ready.read_text())["url"] == url:
                return ready.parent
        raise AssertionError(f"no instance reports {url}")

    def data_digest(self, url: str) -> str:
        """A digest of every entity that an instance has on its disk."""
        digest = hashlib.sha256()
        data = self.instance_of(url) / "data"
        for kind in ENTITIES:
            for file in sorted((data / kind).glob("*.json")):
                if file.name != "_index.json":
                    digest.update(file.name.encode() + b"\0" + file.read_bytes())
        return digest.hexdigest()


def is_alive(pid: int) -> bool:
    """Tell whether a process lives; one that has ended and is not yet reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


@contextmanager
def lab_at(folder: Path, shipped: Shipped = CHECKOUT, **settings: Any) -> Iterator[Lab]:
    """A running lab with v23 live; ended and deleted afterwards, whatever happened."""
    lab = Lab(folder / "lab", settings)
    try:
        lab.play("playbooks/lab_up.yml", shipped=shipped).ok()
        yield lab
    finally:
        lab.play("playbooks/lab_down.yml", shipped=shipped).ok()


def stdout_of(play: RunningPlay) -> str:
    """What a running play has printed so far."""
    return (play.folder / "stdout").read_text(errors="replace")


def begun(play: RunningPlay, task: str) -> bool:
    """Tell whether a play has begun the task of that name; fails where it ended before."""
    if f": {task}]" in stdout_of(play):
        return True
    assert play.process.poll() is None, f"the play ended before {task!r}:\n{stdout_of(play)}"
    return False


def kill_at(play: RunningPlay, task: str, when: Callable[[], bool] = lambda: True) -> None:
    """SIGKILL the play and its children in the task of that name, as soon as it is so."""
    eventually(lambda: begun(play, task), f"the task {task!r}", 400)
    eventually(lambda: when() or play.process.poll() is not None, "the moment to kill", 400)
    assert play.process.poll() is None, f"the play ended before it was killed:\n{stdout_of(play)}"
    tree = [play.process.pid, *descendants(play.process.pid)]
    for pid in tree:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    play.process.wait()


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, directly or not, and that still belong to it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for parent in level for child in children.get(parent, [])]
        found += level
    return found


class Writer:
    """Signs up users through the proxy, ten a second, and remembers what was acknowledged."""

    def __init__(self, lab: Lab) -> None:
        self.portal = lab.portal
        # Several writers sign up at one lab, one after the other, and each email counts once.
        self.name = uuid.uuid4().hex
        self.acknowledged: dict[str, str] = {}
        self.refused = 0
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        session = requests.Session()
        number = 0
        while not self._stop.wait(0.1):
            number += 1
            email = f"writer-{self.name}-{number}@example.org"
            body = {"firstName": "Wanda", "lastName": f"Writer {number}", "email": email}
            try:
                answer = session.post(
                    f"{self.portal}/users", json=body, headers={"Host": HOST}, timeout=30
                )
            except requests.RequestException as error:
                self.failed.append(repr(error))
                continue
            if answer.status_code == 201:
                self.acknowledged[answer.json()["id"]] = email
            elif answer.status_code == 423:
                self.refused += 1
            else:
                self.failed.append(f"{answer.status_code} {answer.text[:200]}")

    @property
    def lost(self) -> list[str]:
        """The acknowledged users that the live portal does not have."""
        session = requests.Session()
        lost = []
        for user, email in self.acknowledged.items():
            answer = session.get(f"{self.portal}/users/{user}", headers={"Host": HOST}, timeout=30)
            if answer.status_code != 200 or answer.json().get("email") != email:
                lost.append(f"{email}: {answer.status_code}")
        return lost
