# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for all unit tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.routers import routing


@pytest.fixture(autouse=True, scope="session")
def _routers_that_stay_away() -> Iterator[None]:
    """Ask a router that is away once only: none of these tests restarts it meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(routing, "BACK_SECONDS", 0.0)
        yield
