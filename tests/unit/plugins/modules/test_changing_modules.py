# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each module that changes something works under the locks of its play."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[4]
# They change nothing that is deployed.
READING = {"deploy_lock", "health_probe", "portal_plan", "traffic_probe"}
MODULES = {file.stem for file in (ROOT / "plugins/modules").glob("*.py")}
ROUTING = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["plugin_routing"]["modules"]


def test_those_that_change_nothing_are_known() -> None:
    assert READING < MODULES


@pytest.mark.parametrize("name", sorted(MODULES - READING))
def test_a_module_that_changes_something_holds_the_locks(name: str) -> None:
    assert ROUTING.get(name) == {"action_plugin": "immutable.delivery.deploy_lock"}
    source = (ROOT / "plugins/modules" / f"{name}.py").read_text()
    assert "  - immutable.delivery.deploy_locks\n" in source
    assert source.count("= changing_module(") == 1


@pytest.mark.parametrize("name", sorted(READING))
def test_a_module_that_changes_nothing_does_not(name: str) -> None:
    assert name not in ROUTING
