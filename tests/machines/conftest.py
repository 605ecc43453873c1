# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of whole machines share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docker import DockerClient

from tests.support import engine as support


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerClient]:
    """The engine, with the base image that everything is built on."""
    client = support.connect()
    if not client.images.list(name=support.BASE_IMAGE):
        pytest.fail(
            f"the image {support.BASE_IMAGE} is missing; `make setup-engine` makes it",
            pytrace=False,
        )
    yield client
    client.close()
