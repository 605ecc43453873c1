# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deploy that was killed between its switch and its record, and then one of another version."""

from __future__ import annotations

from pathlib import Path

from tests.support.lab import Writer, lab_at


def test_the_live_instance_is_known_without_its_record(tmp_path: Path) -> None:
    """Else it would be taken for a candidate that was never live, and be removed at once."""
    with lab_at(tmp_path, portal_lab_extra_args=["--rate=0"]) as lab:
        (lab.instance_of(lab.live_url) / "released.json").unlink()
        with Writer(lab) as writer:
            lab.deploy("v24").ok()
        assert lab.health()["version"] == "v24"
        assert (writer.failed, writer.lost) == ([], [])
        assert writer.acknowledged
