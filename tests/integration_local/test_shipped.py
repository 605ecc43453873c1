# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded lab from the installed tarball: up, a deploy under load, the same again, down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.lab import lab_at
from tests.support.shipped import CHECKOUT, Shipped


@pytest.mark.parametrize("place", ["checkout", "tarball"])
def test_a_playbook_without_hosts_fails_and_says_what_to_write(
    tarball: Shipped, place: str, tmp_path: Path
) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("web: {hosts: {one: {ansible_connection: local}}}\n")
    shipped = CHECKOUT if place == "checkout" else tarball
    given = ["--inventory", str(inventory)]
    failed = shipped.play("playbooks/service.yml", args=given)
    assert failed.rc != 0
    assert failed.failures[-1].msg == (
        "No host in the inventory matches prod. Nothing was changed. Add the group to your "
        "inventory, such as 'prod: {hosts: {NAME: {}}}' in inventories/production/hosts.yml, and "
        "name that with -i inventories/production, or name another group with "
        "-e service_hosts=GROUP."
    )
    # Of several groups one is enough, whichever is imported.
    failed = shipped.play("deploy.yml", args=given)
    assert "No host in the inventory matches portal or cd or prod. " in failed.failures[-1].msg
    assert failed.failures[-1].task == "Look for a host"


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
