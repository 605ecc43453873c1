# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a folder to production and again, by the plays that a person starts."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from docker import DockerClient

from tests.support.engine import APPS
from tests.support.plays import ROOT, PlayResult, run_play
from tests.support.registry import Registry, start_registry
from tests.support.service import Traffic, traffic

PATIENCE = 60.0
BUILD, PROXY, SERVICE = (
    ROOT / "playbooks" / f"{name}.yml" for name in ("build", "proxy", "service")
)


@dataclass
class Pipeline:
    """The checkout of a service, a registry, and the proxy of production at its port.

    The proxy is a container, so services must be reached at the address of the engine's bridge.
    """

    checkout: Path
    registry: Registry
    prefix: str
    port: int
    bridge: str

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def commit(self, message: str) -> str:
        """Commit all that is there; return the version that this becomes."""
        identity = {
            f"GIT_{who}_{what}": "t@example.org"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "-qm", message]):
            subprocess.run(
                ["git", *arguments],
                cwd=self.checkout,
                env={**os.environ, **identity, "GIT_CONFIG_GLOBAL": os.devnull},
                check=True,
                timeout=60,
            )
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12"],
            cwd=self.checkout,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return described.stdout.strip()

    def run(self, folder: Path, *plays: Path, **options: Any) -> PlayResult:
        """Run *plays* one after the other, as one run: facts go from one to the next."""
        book = folder / "pipeline.yml"
        book.write_text("".join(f"- import_playbook: {play}\n" for play in plays))
        inventory = folder / "hosts.yml"
        inventory.write_text("cd: {hosts: {builder: }}\nprod: {hosts: {engine: }}\n")
        return run_play(
            book,
            extra_vars={
                "ansible_connection": "local",
                "build_name": f"{self.prefix}/demo",
                "build_src": str(self.checkout / "demo-service"),
                "build_registry": self.registry.address,
                "proxy_name": f"{self.prefix}-proxy",
                "proxy_port": self.port,
                "proxy_bind_address": "127.0.0.1",
                "proxy_volume": f"{self.prefix}-proxy-data",
                "service_name": f"{self.prefix}-demo",
                "service_route": "demo",
                "service_container_port": 8080,
                "service_bind_address": self.bridge,
                "service_address": self.bridge,
                "service_api_url": self.proxy,
                "service_router": "registry",
                "service_prove_path": "/1",
                **options,
            },
            args=["--inventory", str(inventory)],
            timeout=600,
        )

    def live(self) -> tuple[str, str]:
        """The address that the proxy sends traffic to, and the version that answers."""
        registered = requests.get(f"{self.proxy}/services/demo", timeout=PATIENCE).json()
        answer = requests.get(f"{self.proxy}/demo/1", timeout=PATIENCE)
        assert answer.ok and isinstance(answer.json()["rec"], int), answer.text
        return registered["url"]["url"], answer.headers["X-Version"]


def clients(pipeline: Pipeline) -> AbstractContextManager[Traffic]:
    """People who ask for recommendations until the block ends."""
    url = f"{pipeline.proxy}/demo/1"
    return traffic(url, method="GET", version=lambda answer: answer.headers["X-Version"])


@pytest.fixture(scope="module")
def pipeline(
    engine: DockerClient, prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    folder = tmp_path_factory.mktemp("pipeline")
    checkout = folder / "checkout"
    for app in ("demo-service", "proxy-service"):
        shutil.copytree(
            APPS / app, checkout / app, ignore=shutil.ignore_patterns("__pycache__", ".mypy_cache")
        )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with start_registry(folder) as registry:
        bridge = engine.networks.get("bridge").attrs["IPAM"]["Config"][0]
        yield Pipeline(checkout, registry, prefix, port, bridge.get("Gateway", "172.17.0.1"))
        for image in engine.api.images():
            for name in image.get("RepoDigests") or []:
                if f"/{prefix}/" in name:
                    engine.images.remove(name, force=True)


def running(engine: DockerClient, pipeline: Pipeline) -> list[str]:
    """The containers of the service that run."""
    filters = {"label": f"immutable.delivery.service={pipeline.prefix}-demo"}
    return [str(one.id) for one in engine.containers.list(filters=filters, ignore_removed=True)]


def test_from_a_commit_to_production_and_again(
    engine: DockerClient, pipeline: Pipeline, tmp_path: Path
) -> None:
    first = pipeline.commit("First")
    proxy = pipeline.run(
        tmp_path,
        BUILD,
        PROXY,
        build_name=f"{pipeline.prefix}/proxy",
        build_src=str(pipeline.checkout / "proxy-service"),
        image_test_dockerfile="",
        proxy_image="{{ hostvars.builder.image_reference }}",
    ).ok()
    assert proxy.task("Deploy").changed
    assert requests.get(f"{pipeline.proxy}/services/demo", timeout=PATIENCE).json() == {}

    assert pipeline.run(tmp_path, BUILD, SERVICE).ok().task("Deploy").changed
    where, version = pipeline.live()
    assert version == first
    (one,) = running(engine, pipeline)

    again = pipeline.run(tmp_path, BUILD, SERVICE).ok()
    assert not again.changed, [task.task for task in again.results if task.changed]
    assert (pipeline.live(), running(engine, pipeline)) == ((where, first), [one])

    (pipeline.checkout / "demo-service" / "NEWS").write_text("More of it.\n")
    second = pipeline.commit("Second")
    with clients(pipeline) as seen:
        pipeline.run(tmp_path, BUILD, SERVICE).ok()
    assert seen.lost == []
    assert set(seen.versions) == {first, second}
    elsewhere, version = pipeline.live()
    assert version == second and elsewhere != where
    (other,) = running(engine, pipeline)
    assert other != one

    # Its own tests are passed, since they start the service without the fault; those against the
    # address that it was deployed to are not.
    with clients(pipeline) as seen:
        bad = pipeline.run(
            tmp_path,
            BUILD,
            SERVICE,
            build_name=f"{pipeline.prefix}/bad",
            image_build_args={"FAULT": "wrong"},
        )
    assert bad.rc != 0
    (failure,) = bad.failures
    assert failure.task == "Deploy" and "tests" in failure.msg, failure.msg
    assert (seen.lost, seen.versions) == ([], [second])
    assert (pipeline.live(), running(engine, pipeline)) == ((elsewhere, second), [other])
