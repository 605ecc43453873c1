# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of routers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.apps import AppProcess
from tests.support.router_daemon import start_version


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, AppProcess]]:
    """Three versions of a service, by their names."""
    folder = tmp_path_factory.mktemp("versions")
    apps = {name: start_version(folder, name) for name in ("blue", "green", "red")}
    yield apps
    for app in apps.values():
        app.kill()
