# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tools print, with a stub for ansible-playbook."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUB = """#!/bin/sh
[ "$1" = deploy.yml ] || exit 0
case "$*" in *portal_blue_green_show_summary=false*) ;; *) echo "the summary" ;; esac
mkdir .lab && echo "the summary" >.lab/last-deploy.txt
exit CODE
"""


@pytest.mark.parametrize("code", [0, 2])
def test_the_demo_shows_its_summary_once_at_the_end(tmp_path: Path, code: int) -> None:
    (tmp_path / "tools").mkdir()
    demo = shutil.copy(ROOT / "tools" / "demo", tmp_path / "tools")
    stub = tmp_path / ".venv" / "bin" / "ansible-playbook"
    stub.parent.mkdir(parents=True)
    stub.write_text(STUB.replace("CODE", str(code)))
    stub.chmod(0o755)
    ended = subprocess.run([demo], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout) == (code, "\nthe summary\n"), ended.stderr
