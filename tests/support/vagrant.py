# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three machines of the Vagrantfile: what they are called, and their end."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from tests.support.engine import ROOT

STATE = Path.home() / ".immutable-delivery" / "vagrant"
CHECKOUT = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
DESTROY_SECONDS = 300


def vagrant_env() -> dict[str, str]:
    """This process's environment, with a place of the checkout's own for what Vagrant keeps."""
    return {
        **os.environ,
        "VAGRANT_HOME": str(ROOT / ".build" / "vagrant"),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
    }


def destroy() -> None:
    """Destroy the machines, those of a run that was killed too; fine where there are none."""
    done = subprocess.run(
        ["vagrant", "destroy", "-f"],
        cwd=ROOT,
        env=vagrant_env(),
        capture_output=True,
        text=True,
        timeout=DESTROY_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"vagrant destroy failed:\n{done.stdout}\n{done.stderr}"
