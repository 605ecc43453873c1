# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role registry, on a machine with systemd and an engine, and on one without either.

That the role docker_host has the engine know the registry is shown by Molecule's `default`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from docker import DockerClient

from tests.support.machine import Machine, machine, play_on
from tests.support.plays import PlayResult
from tests.support.waiting import eventually

SECRET = "only-the-registry-knows"
SECONDS = 30
BLOBS = "/var/lib/docker-registry/docker/registry/v2/blobs/sha256"
EVENTS = "/root/events"
# Takes the registry's events, on the machine itself, where nobody else can.
RECEIVER = """
import http.server, json

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with open("/root/events", "a") as file:
            for event in body["events"]:
                tag = event["target"].get("tag", "")
                print(event["action"], tag, self.headers["X-Secret"], file=file)
        self.send_response(200)
        self.end_headers()

http.server.HTTPServer(("127.0.0.1", 9999), Receiver).serve_forever()
"""
ROLE = [
    {
        "name": "Have registries",
        "hosts": "all:!localhost",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Registry",
                "ansible.builtin.include_role": {"name": "immutable.delivery.registry"},
            }
        ],
    },
]
COLLECT = [
    {
        "name": "Collect",
        "hosts": "cd",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Old tags",
                "ansible.builtin.include_role": {
                    "name": "immutable.delivery.registry",
                    "tasks_from": "garbage_collect",
                },
            }
        ],
    }
]


@dataclass
class Site:
    """The machines, and the folder of their authority."""

    cd: Machine
    plain: Machine
    folder: Path

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    def play(
        self, play: list[dict[str, Any]], *only: str, check: bool = False, **variables: Any
    ) -> PlayResult:
        machines = {"cd": self.cd, "without": self.plain}
        return play_on(
            {name: one for name, one in machines.items() if not only or name in only},
            play,
            self.folder,
            extra_vars={
                "registry_ca_dir": str(self.pki),
                "registry_notifications": [
                    {
                        "name": "receiver",
                        "url": "http://127.0.0.1:9999/",
                        "headers": {"X-Secret": SECRET},
                    }
                ],
                **variables,
            },
            check=check,
        )

    def ask(self, there: Machine, path: str, **options: Any) -> requests.Response:
        """Ask a registry from outside."""
        return requests.get(
            f"https://127.0.0.1:{there.port(5000)}{path}",
            verify=str(self.pki / "ca.pem"),
            headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
            timeout=SECONDS,
            **options,
        )

    def push(self, repository: str, tag: str, content: str) -> str:
        """Push an image of one file from the machine's engine; returns its digest."""
        name = f"cd:5000/{repository}:{tag}"
        self.cd.write("/root/image/content", content)
        self.cd.run("sh", "-c", f"tar --create --directory /root/image . | docker import - {name}")
        return self._pushed(name)

    def tag(self, repository: str, old: str, new: str) -> str:
        """Push an image under one more tag; returns its digest."""
        name = f"cd:5000/{repository}:{new}"
        self.cd.run("docker", "tag", f"cd:5000/{repository}:{old}", name)
        return self._pushed(name)

    def _pushed(self, name: str) -> str:
        said = self.cd.run("docker", "push", name).stdout
        return said.split("digest: ")[1].split()[0]

    def tags(self, repository: str) -> set[str]:
        return set(self.ask(self.cd, f"/v2/{repository}/tags/list").json()["tags"])


@pytest.fixture(scope="module")
def fresh(
    engine: DockerClient, prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    publish = ["127.0.0.1::5000"]
    with (
        machine(engine, f"{prefix}-cd", hostname="cd", publish=publish) as cd,
        machine(engine, f"{prefix}-plain", kind="plain", publish=publish) as plain,
    ):
        yield Site(cd, plain, tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def site(fresh: Site) -> Site:
    """The machines after the first run."""
    assert fresh.play(ROLE, "without", check=True).ok().changed
    assert fresh.plain.run("ls", "/etc/docker/registry", check=False).stdout == ""
    assert not fresh.pki.exists()

    fresh.cd.write("/root/receiver.py", RECEIVER)
    fresh.cd.container.exec_run(["python3", "/root/receiver.py"], detach=True)
    made = fresh.play(ROLE).ok()
    assert SECRET not in made.output
    known = (fresh.pki / "ca.pem").read_text()
    fresh.cd.write("/etc/docker/certs.d/cd:5000/ca.crt", known)
    return fresh


def test_a_second_run_changes_nothing(site: Site) -> None:
    # On a machine with systemd it is Molecule's `default` that shows it.
    again = site.play(ROLE, "without").ok()
    assert not again.changed, [result.task for result in again.results if result.changed]


def test_both_answer_by_tls_only(site: Site) -> None:
    for there in (site.cd, site.plain):
        assert site.ask(there, "/v2/").status_code == 200
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(f"https://127.0.0.1:{there.port(5000)}/v2/", timeout=SECONDS)
        plain = requests.get(f"http://127.0.0.1:{there.port(5000)}/v2/", timeout=SECONDS)
        assert plain.status_code == 400


def test_what_it_knows_its_receivers_by_is_private(site: Site) -> None:
    for there in (site.cd, site.plain):
        assert SECRET in there.read("/etc/docker/registry/config.yml")
        shown = there.run(
            *("stat", "-c", "%a %U %G"),
            *("/etc/docker/registry/config.yml", "/etc/docker/registry/tls/key.pem"),
        )
        assert shown.stdout.split("\n")[:2] == ["640 root docker-registry"] * 2


def test_an_image_is_pushed_told_of_and_pulled_by_its_digest(site: Site) -> None:
    digest = site.push("told", "one", "something")

    def told() -> bool:
        return f"push one {SECRET}" in site.cd.run("cat", EVENTS, check=False).stdout

    eventually(told, "the event of the push", SECONDS)
    site.cd.run("docker", "rmi", "cd:5000/told:one")
    site.cd.run("docker", "pull", f"cd:5000/told@{digest}")
    assert "pull" not in site.cd.read(EVENTS)


def test_old_tags_are_collected_and_nothing_that_a_kept_one_needs(site: Site) -> None:
    digests = {name: site.push("app", name, name) for name in ("a", "b", "c", "d", "e")}
    digests["latest"] = site.tag("app", "b", "latest")
    # The oldest build, pushed once more, is the newest tag.
    digests["again"] = site.tag("app", "a", "again")
    other = site.push("other", "only", "other")
    wanted: dict[str, Any] = {
        "registry_keep_tags": 2,
        "registry_keep_digests": [f"cd:5000/app@{digests['c']}"],
    }
    everything = site.tags("app")

    planned = site.play(COLLECT, check=True, **wanted).ok()
    assert planned.changed
    assert site.tags("app") == everything

    collected = site.play(COLLECT, **wanted).ok()
    report = json.loads(collected.task("Delete the manifests of old tags")["stdout"])
    # Kept are e and again, and so a; latest, and so b; and c by its digest.
    assert report["deleted"] == [{"repository": "app", "digest": digests["d"], "tags": ["d"]}]
    assert site.tags("app") == everything - {"d"}
    assert site.ask(site.cd, f"/v2/app/manifests/{digests['d']}").status_code == 404
    for name in everything - {"d"}:
        assert site.ask(site.cd, f"/v2/app/manifests/{name}").status_code == 200
        layers = site.ask(site.cd, f"/v2/app/manifests/{name}").json()["layers"]
        blob = layers[0]["digest"]
        assert site.ask(site.cd, f"/v2/app/blobs/{blob}").status_code == 200
    assert site.ask(site.cd, f"/v2/other/manifests/{other}").status_code == 200
    gone = digests["d"].removeprefix("sha256:")
    assert site.cd.run("ls", f"{BLOBS}/{gone[:2]}/{gone}", check=False).code != 0

    started = site.cd.run("systemctl", "show", "--property=MainPID", "docker-registry").stdout
    again = site.play(COLLECT, **wanted).ok()
    assert not again.changed
    pid = site.cd.run("systemctl", "show", "--property=MainPID", "docker-registry").stdout
    assert pid == started, "with nothing to delete, nobody is kept from pulling"
