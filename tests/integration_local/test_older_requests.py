# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP with the requests of Debian 12, on which modules run where a router is a host's.

Its urllib3 is of before 2.0, which neither notices that a body ended early nor gives what there is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.engine import ROOT

# As Debian 12 has them.
OLDER = ("requests==2.28.1", "urllib3==1.26.12")
UNITS = ROOT / "tests" / "unit" / "plugins" / "module_utils"
SECONDS = 600


def run(*command: str | Path, **options: str) -> None:
    done = subprocess.run(
        command,
        env={**os.environ, **options},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_it_keeps_its_word_with_them(tmp_path: Path) -> None:
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    # With them go those that they need in an earlier version.
    theirs = ("requests==", "urllib3==", "charset-normalizer==", "chardet==", "idna==")
    kept = [line for line in pinned if not line.startswith(theirs)]
    (tmp_path / "constraints.txt").write_text("\n".join(kept))
    python = tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    run(
        *(sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"),
        # Little of it is imported, and so little has to be compiled.
        *("install", "--quiet", "--no-compile", "--constraint", tmp_path / "constraints.txt"),
        *(*OLDER, "ansible-core", "cryptography", "hypothesis", "pytest"),
    )
    tests = (UNITS / name for name in ("test_http.py", "test_http_tls.py", "test_probe.py"))
    collections = str(ROOT / ".build" / "collections")
    run(python, "-m", "pytest", "-q", *tests, PYTHONPATH=f"{collections}{os.pathsep}{ROOT}")
