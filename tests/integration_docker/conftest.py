# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests on the engine share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker import DockerClient

from tests.support import engine as support
from tests.support.compose import Stage


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerClient]:
    """The engine, with the base image that everything is built on."""
    client = support.connect()
    if not client.images.list(name=support.BASE_IMAGE):
        pytest.fail(
            f"the image {support.BASE_IMAGE} is missing; `make setup-engine` makes it",
            pytrace=False,
        )
    with support.one_at_a_time("engine-clean-up"):
        support.remove_left(client)
    yield client
    client.close()


@pytest.fixture(scope="module")
def prefix(engine: DockerClient) -> Iterator[str]:
    """What every name begins with that this file's tests give; all of it is removed at the end."""
    name = support.new_prefix()
    yield name
    support.remove_all(engine, name)


@pytest.fixture
def stage(
    engine: DockerClient, prefix: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Stage]:
    """A compose project without a router, of a test's own."""
    folder = tmp_path / "project"
    folder.mkdir()
    staged = Stage(engine, f"{prefix}-{abs(hash(request.node.name)) % 10**6}", folder)
    yield staged
    support.remove_all(engine, staged.name)


@pytest.fixture(scope="session")
def app_image(engine: DockerClient) -> Callable[[str], str]:
    """Builds ``apps/NAME`` once and returns its tag."""
    return support.app_image
