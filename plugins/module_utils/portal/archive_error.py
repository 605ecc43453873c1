# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The failure that reading an export archive ends in, and how it quotes what it read."""

from __future__ import annotations

from ..errors import DeliveryError

_QUOTED = 120


class ArchiveError(DeliveryError):
    """An export archive that cannot be read, cannot be trusted or is no export archive."""


def quoted(text: str) -> str:
    """Return *text* fit for a message: ASCII, one line, not longer than a line can be read.

    What stands in an archive was chosen by whoever wrote it; a terminal must not obey it.
    """
    if len(text) > _QUOTED:
        text = f"{text[:_QUOTED]}..."
    return ascii(text)
