# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of all tests; makes the collection importable by its full name, and plays find it.

ansible-test brings its own collection loader and its own place for the checkout; then this
leaves everything as it is.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.support.shipped import Shipped

# No deadline: a slow machine is no bug. The same examples every time: a red run is the change's.
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")

COLLECTIONS = Path(__file__).resolve().parent.parent / ".build" / "collections"
# Files of the first two kinds wait most of the time, for an engine or for routers under load; the
# others compute.
TAKE_TURNS = ("integration_docker/", "integration_local/test_router_", "integration_local/")


def _known() -> bool:
    try:
        return importlib.util.find_spec("ansible_collections.immutable.delivery") is not None
    except ModuleNotFoundError:
        return False


if not _known():
    link = COLLECTIONS / "ansible_collections" / "immutable" / "delivery"
    if not link.exists():
        raise RuntimeError(f"{link} is missing: run `make setup-test` first, which makes it.")
    sys.path.insert(0, str(COLLECTIONS))
    os.environ.setdefault("ANSIBLE_COLLECTIONS_PATH", str(COLLECTIONS))


def pytest_configure(config: pytest.Config) -> None:
    """Run the tests of one process in it, as plain pytest does.

    ansible-test forks for each of them, by which they take more than twice as long.
    """
    forking = config.pluginmanager.get_plugin("ansible_forked")
    if forking is not None:
        config.pluginmanager.unregister(forking)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread files of each kind evenly, so that what waits runs beside what computes.

    Side by side, files begin in this order. What is of no kind stays before or after them.
    """
    kinds: dict[str, list[Path]] = {}
    for path in dict.fromkeys(item.path for item in items):
        name = f"{path.parent.name}/{path.name}"
        kind = next((kind for kind in TAKE_TURNS if name.startswith(kind)), None)
        if kind is not None:
            kinds.setdefault(kind, []).append(path)
    place = {
        path: (number + 0.5) / len(paths)
        for paths in kinds.values()
        for number, path in enumerate(paths)
    }
    spread = iter(
        sorted((item for item in items if item.path in place), key=lambda item: place[item.path])
    )
    items[:] = [next(spread) if item.path in place else item for item in items]


@pytest.fixture(scope="session")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """The collection as its tarball installs it."""
    from tests.support.shipped import install

    return install(tmp_path_factory.mktemp("tarball"))


@pytest.fixture(scope="session", autouse=True)
def shared_by_plays(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A folder for what each play would else make anew; it is of one run, so nothing is stale."""
    os.environ["DELIVERY_TEST_SHARED"] = str(tmp_path_factory.mktemp("shared"))
