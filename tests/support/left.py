# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove what is left where tests were interrupted, as a program.

The tests clean up after themselves then too, but are given a few seconds for it only.
"""

from __future__ import annotations

import subprocess
import sys

import docker
from docker.errors import DockerException

from tests.support.engine import remove_left
from tests.support.vagrant import CHECKOUT, STATE, destroy


def main() -> int:
    """Remove it; returns 1, having said why, where something stays."""
    try:
        client = docker.from_env(timeout=120)
    except DockerException:
        # They had not come to what needs an engine.
        return 0
    try:
        remove_left(client)
        if (STATE / CHECKOUT).exists():
            print("Removing the machines that the tests brought up ...", flush=True)
            destroy()
    except (AssertionError, OSError, subprocess.SubprocessError, DockerException) as error:
        print(f"Not all that the tests made was removed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
