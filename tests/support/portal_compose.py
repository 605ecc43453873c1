# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A portal's compose project on the engine: deploys and what stands."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import yaml
from docker import DockerClient

from tests.support.engine import PROJECT
from tests.support.plays import ROOT, PlayResult, RunningPlay, run_play
from tests.support.shipped import CHECKOUT, Shipped

API_HOST = "api.example.org"
PORTAL_HOST = "portal.example.org"
KEY = "ThisIsUsedInDeploy"
PASSWORD = "only-in-this-lab"
APPS = ("portal", "portal-web", "webhook-listener", "gateway", "haproxy", "postgres")
STATIC = ROOT / "apps" / "portal"
ARCHIVE = ROOT / "tests" / "data" / "portal-export.tgz.enc"
PLAY_SECONDS = 900
# Each is a program in a container, of which there are nine for each project; how long the first
# one waits counts once for each of the three links of their chain.
HEALTH_SECONDS = 3
FAILED = "Note that this one failed"
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
            "portal_compose_health_interval": HEALTH_SECONDS,
            # Tests of the soak are those of compose_redeploy.
            "portal_compose_soak": 0.5,
            "portal_blue_green_service": self.prefix,
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
        """Run one of the project's playbooks."""
        result = shipped.play(
            name,
            extra_vars={**self.variables, **more},
            check=check,
            diff=diff,
            timeout=PLAY_SECONDS,
            args=shipped.inventory("docker"),
        )
        self.outputs.append(result.output)
        return result

    def plays(
        self, *steps: tuple[str, Mapping[str, Any]], check: bool = False, diff: bool = False
    ) -> list[PlayResult]:
        """Run several of the project's playbooks, with variables for each, in one go.

        Each has a host of its own in the portal's group, with facts of its own, and one that fails
        keeps no other from its turn. What is the same for all of them is given as on the command
        line.
        """
        hosts = [f"turn-{number}" for number, _step in enumerate(steps)]
        own = {name for _playbook, more in steps for name in more}
        book = []
        for host, (playbook, more) in zip(hosts, steps, strict=True):
            # The one before it makes sure that the inventory has hosts.
            play = yaml.safe_load((ROOT / playbook).read_text())[-1]
            tasks = {
                "name": "Take a turn",
                "block": play["tasks"],
                "rescue": [{"name": FAILED, "ansible.builtin.debug": {"msg": host}}],
            }
            variables = {name: self.variables[name] for name in own if name in self.variables}
            book.append({**play, "hosts": host, "vars": {**variables, **more}, "tasks": [tasks]})
        inventory = self.folder.with_name("turns.json")
        there = {"ansible_connection": "local", "portal_docker_checkout": str(ROOT)}
        inventory.write_text(json.dumps({"portal": {"hosts": dict.fromkeys(hosts, there)}}))
        whole = run_play(
            book,
            extra_vars={name: one for name, one in self.variables.items() if name not in own},
            check=check,
            diff=diff,
            timeout=PLAY_SECONDS,
            args=[*CHECKOUT.inventory("docker"), "--inventory", str(inventory)],
        ).ok()
        self.outputs.append(whole.output)
        parts = [[one for one in whole.results if one.host == host] for host in hosts]
        assert all(parts), whole.output
        return [
            PlayResult(
                int(any(one.task == FAILED for one in part)), whole.stdout, whole.stderr, part
            )
            for part in parts
        ]

    def start(self, name: str, **more: Any) -> RunningPlay:
        """Start one of the project's playbooks."""
        variables = {**self.variables, **more}
        return CHECKOUT.start(name, extra_vars=variables, args=CHECKOUT.inventory("docker"))

    def containers(self, project: str | None = None) -> dict[str, Any]:
        """The containers of a project by service, running or not."""
        label = f"com.docker.compose.project={project or self.prefix}"
        found = self.engine.containers.list(all=True, ignore_removed=True, filters={"label": label})
        return {one.labels["com.docker.compose.service"]: one for one in found}

    def ids(self, project: str | None = None) -> dict[str, str]:
        """Which container each service of a project has."""
        return {name: one.id for name, one in self.containers(project).items()}

    @property
    def running(self) -> list[str]:
        """The projects whose HAProxy runs."""
        found = [(name, self.containers(name).get("haproxy")) for name in self.projects]
        return [name for name, haproxy in found if haproxy and haproxy.status == "running"]

    @property
    def projects(self) -> list[str]:
        """All projects of this test that have a container."""
        # Others have very many, of which each would be asked for by itself.
        found = self.engine.containers.list(all=True, sparse=True)
        names = {(one.attrs["Labels"] or {}).get(PROJECT, "") for one in found}
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
