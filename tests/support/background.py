# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program to run in the background, which does what its arguments say."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready-file", type=Path)
    parser.add_argument("--say", default="")
    parser.add_argument("--exit", type=int)
    parser.add_argument("--stubborn", action="store_true")
    parser.add_argument("--child", action="store_true")
    parser.add_argument("--signal", type=int)
    arguments = parser.parse_args()
    signals = {signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    if arguments.say:
        print(os.path.expandvars(arguments.say), file=sys.stderr, flush=True)
    if arguments.signal is not None:
        os.kill(os.getpid(), arguments.signal)
    if arguments.exit is not None:
        return int(arguments.exit)
    child = subprocess.Popen(["sleep", "600"]) if arguments.child else None
    if arguments.ready_file is not None:
        url = f"http://127.0.0.1:1/{child.pid if child else ''}"
        arguments.ready_file.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    while True:
        signal.sigwait(signals)
        if not arguments.stubborn:
            return 0


if __name__ == "__main__":
    sys.exit(main())
