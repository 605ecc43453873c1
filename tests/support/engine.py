# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real Docker engine that tests use, and what they leave on it: nothing.

Everything that a test makes has a name (a tag, a project) that begins with its prefix; whatever
begins with it is removed when the tests of a file are over, and what an earlier run that was killed
left is removed when the first test begins.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
import pytest
from docker import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound

ROOT = Path(__file__).resolve().parents[2]
APPS = ROOT / "apps"
BASE_IMAGE = "immutable-base:bookworm"
IMAGES = "immutable-test"
PREFIX = "idt-"
PROJECT = "com.docker.compose.project"
BUILD_SECONDS = 600
# A volume's name that the engine made up.
UNNAMED = re.compile("[0-9a-f]{64}")


def connect() -> DockerClient:
    """Return a client of the engine; fails the test where none answers, for it is no option."""
    try:
        client = docker.from_env(timeout=120)
        client.ping()
    except DockerException as error:
        pytest.fail(
            f"no Docker engine answers ({error}); `make setup-engine` installs and starts one,"
            " and `make test-fast` runs what needs none",
            pytrace=False,
        )
    return client


def new_prefix() -> str:
    """Return what the names of one test file begin with.

    The process's id tells a later run whether anybody still uses them.
    """
    return f"{PREFIX}{os.getpid()}-{secrets.token_hex(2)}"


def remove_all(client: DockerClient, prefix: str) -> None:
    """Remove containers, networks, volumes and images whose names begin with *prefix*."""
    unnamed: set[str] = set()
    for container in client.containers.list(all=True, ignore_removed=True):
        project = container.labels.get(PROJECT, "")
        if str(container.name).startswith(prefix) or project.startswith(prefix):
            # One that was handed over has no name, but goes with no container by itself.
            volumes = (mount.get("Name", "") for mount in container.attrs["Mounts"])
            unnamed.update(name for name in volumes if UNNAMED.fullmatch(name))
            with suppress(APIError):
                container.remove(force=True, v=True)
    for network in client.networks.list():
        if str(network.name).startswith(prefix):
            with suppress(APIError):
                network.remove()
    for volume in client.volumes.list():
        if volume.name.startswith(prefix) or volume.name in unnamed:
            with suppress(APIError):
                volume.remove(force=True)
    # Not images.list(): it asks for each, and fails where another test removes one meanwhile.
    for image in client.api.images():
        names = [*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())]
        found = [name for name in names if any(p.startswith(prefix) for p in name.split("/"))]
        # One that a later build took the name of.
        if (image["Labels"] or {}).get(PROJECT, "").startswith(prefix):
            found.append(image["Id"])
        for name in found:
            with suppress(APIError, ImageNotFound):
                client.images.remove(name)


def remove_left(client: DockerClient) -> None:
    """Remove what tests left whose process is gone."""
    containers = client.containers.list(all=True, ignore_removed=True)
    names = [str(container.name) for container in containers]
    names += [str(network.name) for network in client.networks.list()]
    names += [str(volume.name) for volume in client.volumes.list()]
    owners = {name.split("-")[1] for name in names if name.startswith(PREFIX)}
    for owner in owners:
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            remove_all(client, f"{PREFIX}{owner}-")


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Keep the other test processes of this checkout from doing the same."""
    folder = ROOT / ".build"
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def build(folder: Path, tag: str, dockerfile: str = "Dockerfile", **arguments: str) -> str:
    """Build an image with the engine's cache and return its tag."""
    command = ["docker", "build", "--tag", tag, "--file", str(folder / dockerfile)]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    done = subprocess.run(
        [*command, str(folder)],
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{tag} was not built:\n{done.stdout}\n{done.stderr}"[-4000:]
    return tag


def app_image(name: str) -> str:
    """Build ``apps/NAME`` where it changed, and return its tag."""
    with one_at_a_time(f"image-{name}"):
        return build(APPS / name, f"{IMAGES}/{name}:latest")
