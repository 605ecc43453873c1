# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a Python module as a program, and note at its end the most memory that it had, in KiB.

    run_noting_peak.py FILE MODULE [ARGUMENT ...]

What the system reports of a child that has ended counts its parent's memory, too: between fork and
exec the child has all of it.
"""

from __future__ import annotations

import atexit
import runpy
import sys
from pathlib import Path


def note(file: Path) -> None:
    """Write the high-water mark of this process's own memory."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            file.write_text(line.split()[1], encoding="ascii")


if __name__ == "__main__":
    atexit.register(note, Path(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
