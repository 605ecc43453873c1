# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile each source in a module's zip file once a test run: a module has some 70 of them.

Python keeps what it compiled of files, and keeps nothing of what it reads from a zip file. The
key is the source itself, so nothing stale is ever taken.
"""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import types
import zipimport
from pathlib import Path

FOLDER = os.environ.get("DELIVERY_TEST_SHARED", "")


def _compile_once(pathname: str, source: bytes) -> types.CodeType:
    key = hashlib.sha256(importlib.util.MAGIC_NUMBER + source).hexdigest()
    file = Path(FOLDER) / f"{key}.code"
    try:
        kept: types.CodeType = marshal.loads(file.read_bytes())
        return kept
    except OSError:
        code: types.CodeType = _compile(pathname, source)
    own = file.with_suffix(f".{os.getpid()}")
    try:
        own.write_bytes(marshal.dumps(code))
        own.replace(file)
    except OSError:
        # The test run is over, and this process outlived it.
        pass
    return code


if FOLDER:
    _compile = zipimport._compile_source  # type: ignore[attr-defined]
    zipimport._compile_source = _compile_once  # type: ignore[attr-defined]
