# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded lab from the installed tarball: up, a deploy under load, the same again, down."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.lab import lab_at
from tests.support.shipped import Shipped


def test_the_embedded_lab_from_the_installed_collection(tarball: Shipped, tmp_path: Path) -> None:
    with lab_at(tmp_path, tarball) as lab:
        record = lab.folder / "instances" / "v23-first" / "process.json"
        assert str(tarball.folder) in json.dumps(json.loads(record.read_text()))
        result = lab.play(
            "playbooks/deploy.yml",
            shipped=tarball,
            portal_version="v24",
            portal_blue_green_probe=True,
        ).ok()
        report = result.task("End the load and read back every acknowledged write")["report"]
        assert (report["failed"], report["writes"]["lost"]) == (0, 0), report
        assert lab.health()["version"] == "v24"
        # The one of the folder above, which runs what the inventory has hosts for.
        assert not lab.play("deploy.yml", shipped=tarball, portal_version="v24").ok().changed
    assert not lab.folder.exists()
