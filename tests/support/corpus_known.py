# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The projects of the corpus that do not work yet, with the reason. It has to become empty."""

from __future__ import annotations

KNOWN_FAILURES: dict[str, str] = {
    "depends-on-restart": "what depends is replaced, where compose starts it again",
    "links": "what links is replaced with what it links to, where compose leaves it",
    "restart-until-ready": "a container that ends until another is there has no wait_timeout",
}
