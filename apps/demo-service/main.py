# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start the recommendation service: `python main.py --listen HOST:PORT`."""

from __future__ import annotations

import sys

from service import build
from serving import run

if __name__ == "__main__":
    sys.exit(run("Recommend something.", "0.0.0.0:8080", build, sys.argv[1:]))
