# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start the portal's web page: `python main.py --listen HOST:PORT`."""

from __future__ import annotations

import sys

from serving import run
from web_ui import build

if __name__ == "__main__":
    sys.exit(run("Show the portal's web page.", "127.0.0.1:3000", build, sys.argv[1:]))
