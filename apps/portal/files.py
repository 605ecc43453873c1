# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small file helpers: what one entity's file is, and how it is replaced atomically."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

# Ids become file names: no dots, no slashes, no leading underscore (`_index.json` is no entity).
SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")

Entity = dict[str, Any]


def is_safe_id(value: object) -> bool:
    """Whether value may name an entity, and thereby its file."""
    return isinstance(value, str) and SAFE_ID.fullmatch(value) is not None


def write_json(path: Path, value: object) -> None:
    """Replace path by value in one step: a reader or a crash sees the old file or the new one.

    The text is indented by two, as in a real export. Raises OSError; no temporary file remains.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_text(json.dumps(value, indent=2), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    """The JSON value in path. Raises OSError, and ValueError where it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
