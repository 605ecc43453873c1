# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base image: pulled where a registry answers, built from a Debian mirror where none does."""

from __future__ import annotations

import io
import re
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.errors import ImageNotFound

from tests.support.plays import PlayResult, run_play
from tests.support.registry import start_registry
from tests.support.shipped import CHECKOUT, Shipped

PLAYBOOK = "playbooks/base_image.yml"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry on the loopback, where an engine takes one without TLS; its HOST:PORT."""
    with start_registry(tmp_path_factory.mktemp("registry")) as started:
        yield started.address


@pytest.fixture
def silent() -> Iterator[str]:
    """A registry that takes connections and says nothing; its HOST:PORT."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def play(
    name: str, *, check: bool = False, shipped: Shipped = CHECKOUT, **variables: Any
) -> PlayResult:
    given = {f"base_image_{key}": value for key, value in variables.items()}
    return shipped.play(
        PLAYBOOK, extra_vars={"base_image_name": name, **given}, check=check, timeout=600
    )


def test_it_is_pulled_where_a_registry_answers(
    engine: DockerClient, prefix: str, registry: str, tarball: Shipped
) -> None:
    name, source = f"{prefix}-pulled:one", f"{registry}/{prefix}-source:one"
    # One file is an image for a registry, and is pushed in no time.
    with io.BytesIO() as files, tarfile.open(fileobj=files, mode="w") as archive:
        archive.add(__file__, "file")
        archive.close()
        engine.api.import_image_from_data(files.getvalue(), *source.rsplit(":", 1))
    original = engine.images.get(source)
    engine.images.push(source)
    engine.images.remove(source)

    planned = play(name, check=True, source=source).ok()
    assert planned.changed
    with pytest.raises(ImageNotFound):
        engine.images.get(name)

    made = play(name, shipped=tarball, source=source).ok()
    assert made.changed
    assert engine.images.get(name).id == original.id

    again = play(name, source=source).ok()
    assert not again.changed


def test_it_is_built_where_no_registry_answers(
    engine: DockerClient, prefix: str, silent: str
) -> None:
    name = f"{prefix}-built:one"
    # A pull that nobody answers is given up; the image is made all the same.
    made = play(name, source=f"{silent}/none:one", pull_timeout=2).ok()
    assert made.changed
    image = engine.images.get(name)
    assert image.labels["immutable.delivery.suite"] == "bookworm"
    digest = image.labels["immutable.delivery.packages-digest"]
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
    listed = engine.containers.run(
        name,
        [
            *("sh", "-c"),
            r"dpkg-query -W -f '${Package} ${Version} ${Architecture}\n' | sha256sum;"
            " apt-config dump Acquire::Languages; apt-config dump Acquire::GzipIndexes",
        ],
        name=f"{prefix}-list",
        remove=True,
    ).decode()
    assert f"sha256:{listed.split()[0]}" == digest
    assert 'Acquire::Languages:: "none"' in listed
    assert 'Acquire::GzipIndexes "true"' in listed

    again = play(name, source=f"{silent}/none:one").ok()
    assert not again.changed
    assert engine.images.get(name).id == image.id

    other = play(name, check=True, packages=["ca-certificates"]).ok()
    assert other.changed, "what it was built for is on its label"
    assert engine.images.get(name).id == image.id


def test_it_says_why_where_there_is_no_way(
    engine: DockerClient, prefix: str, silent: str, tmp_path: Path
) -> None:
    name = f"{prefix}-none:one"
    failed = run_play(
        PLAYBOOK,
        extra_vars={
            "base_image_name": name,
            "base_image_source": f"{silent}/none:one",
            "base_image_pull_timeout": 2,
            "base_image_mirror": "http://127.0.0.1:9/debian",
        },
        env={"TMPDIR": str(tmp_path)},
        timeout=300,
    )
    assert failed.rc != 0
    said = failed.failures[-1].msg
    assert f"{name} is neither to be pulled nor to be built" in said
    assert "Timed out after 2 second" in said
    assert "Build them with mmdebstrap" in said
    assert "base_image_mirror" in said
    with pytest.raises(ImageNotFound):
        engine.images.get(name)
    assert not list(tmp_path.glob("*base_image")), "the folder of the build is left"
