# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A portal's compose project on the engine: deploys and what stands."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from docker import DockerClient

from tests.support.plays import ROOT, PlayResult, RunningPlay, run_play, start_play

API_HOST = "api.example.org"
PORTAL_HOST = "portal.example.org"
KEY = "ThisIsUsedInDeploy"
PASSWORD = "only-in-this-lab"
APPS = ("portal", "portal-web", "webhook-listener", "gateway", "haproxy", "postgres")
STATIC = ROOT / "apps" / "portal"
ARCHIVE = ROOT / "tests" / "data" / "portal-export.tgz.enc"
PLAY_SECONDS = 900
# What the engine does by itself all the time.
IDLE = ("exec_", "health_status")


@dataclass
class Stack:
    """What is deployed with the inventory for Docker, in a folder and by names of a test's own."""

    engine: DockerClient
    folder: Path
    prefix: str
    settings: dict[str, Any] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)

    @property
    def variables(self) -> dict[str, Any]:
        return {
            "portal_docker_dir": str(self.folder),
            "portal_docker_images": "immutable-test",
            "portal_docker_build": [],
            # The tests ask more often than a portal likes.
            "portal_docker_portal_args": ["--rate=0"],
            "portal_compose_project": self.prefix,
            "portal_compose_health_interval": 1,
            "portal_blue_green_service": self.prefix,
            "portal_blue_green_probe": False,
            **self.settings,
        }

    @property
    def _arguments(self) -> list[str]:
        return ["--inventory", str(ROOT / "inventories" / "docker")]

    def play(
        self, name: str, *, check: bool = False, diff: bool = False, **more: Any
    ) -> PlayResult:
        """Run one of the project's playbooks."""
        result = run_play(
            ROOT / name,
            extra_vars={**self.variables, **more},
            check=check,
            diff=diff,
            timeout=PLAY_SECONDS,
            args=self._arguments,
        )
        self.outputs.append(result.output)
        return result

    def start(self, name: str, **more: Any) -> RunningPlay:
        """Start one of the project's playbooks."""
        variables = {**self.variables, **more}
        return start_play(ROOT / name, extra_vars=variables, args=self._arguments)

    def containers(self, project: str | None = None) -> dict[str, Any]:
        """The containers of a project by service, running or not."""
        label = f"com.docker.compose.project={project or self.prefix}"
        found = self.engine.containers.list(all=True, ignore_removed=True, filters={"label": label})
        return {one.labels["com.docker.compose.service"]: one for one in found}

    def ids(self, project: str | None = None) -> dict[str, str]:
        """Which container each service of a project has."""
        return {name: one.id for name, one in self.containers(project).items()}

    @property
    def projects(self) -> list[str]:
        """All projects of this test that have a container."""
        found = self.engine.containers.list(all=True, ignore_removed=True)
        names = {one.labels.get("com.docker.compose.project", "") for one in found}
        return sorted(name for name in names if name.startswith(self.prefix))

    def url(self, project: str | None = None) -> str:
        """Where a project's HAProxy is published."""
        haproxy = self.containers(project)["haproxy"]
        return f"http://127.0.0.1:{haproxy.ports['8080/tcp'][0]['HostPort']}"

    def ask(self, path: str, host: str = API_HOST, url: str | None = None) -> requests.Response:
        """Ask HAProxy for a path, as a client that knows a host name."""
        return requests.get(f"{url or self.url()}{path}", headers={"Host": host}, timeout=20)

    def apis(self) -> list[str]:
        """The APIs of the static configuration that is served."""
        return [api["id"] for api in self.ask("/apis").json()["apis"]]

    def sign_up(self, name: str) -> str:
        """Create a user and return its id."""
        body = {"firstName": name, "lastName": "Test", "email": f"{name}@example.org"}
        answer = requests.post(
            f"{self.url()}/users", json=body, headers={"Host": API_HOST}, timeout=20
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def has_user(self, user: str) -> bool:
        status = self.ask(f"/users/{user}").status_code
        assert status in (200, 404), status
        return status == 200

    def events(self, since: float, until: float, project: str | None = None) -> list[str]:
        """What happened to a project's containers between two moments of the engine's clock."""
        seen = self.engine.events(  # type: ignore[call-overload]  # parts of seconds count
            since=since,
            until=until,
            decode=True,
            filters={"label": f"com.docker.compose.project={project or self.prefix}"},
        )
        return [event["Action"] for event in seen if not event["Action"].startswith(IDLE)]


def now() -> float:
    """The engine's clock is this machine's."""
    return time.time()


def static_with(folder: Path, *apis: str) -> Path:
    """Make a static configuration in *folder* that has *apis* besides the usual ones."""
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(STATIC / "static", folder)
    file = folder / "apis.json"
    content = json.loads(file.read_text())
    content["apis"] += [{"id": api, "name": api, "plans": ["basic"]} for api in apis]
    file.write_text(json.dumps(content))
    return folder
