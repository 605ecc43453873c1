# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The actor's tests: pass if URL answers the path /test."""

from __future__ import annotations

import os
import urllib.request

with urllib.request.urlopen(f"{os.environ['URL']}/test", timeout=20) as answer:
    print(f"{os.environ['URL']} answered {answer.read()!r}", flush=True)
