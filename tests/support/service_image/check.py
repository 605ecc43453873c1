# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service's tests: exits with 0 where what answers at URL counts."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request


def main() -> None:
    url = os.environ["URL"]
    with urllib.request.urlopen(f"{url}/1", timeout=20) as answer:
        document = json.load(answer)
    print(f"{url} says {document}", flush=True)
    time.sleep(float(os.environ.get("SECONDS", "0")))
    if not isinstance(document.get("rec"), int):
        sys.exit("rec is no number")


if __name__ == "__main__":
    main()
