# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile each source in a module's zip file once a test run: a module has some 70 of them.

Python keeps what it compiled of files, and keeps nothing of what it reads from a zip file. The
key is the source itself, so nothing stale is ever taken. Machines have this in their image, each
with a folder of its own. It costs every start of Python, so it imports next to nothing.
"""

from __future__ import annotations

import marshal
import os
import zipimport
from _frozen_importlib_external import MAGIC_NUMBER
from _imp import source_hash

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types

MAGIC = int.from_bytes(MAGIC_NUMBER, "little")
FOLDER = os.environ.get("DELIVERY_TEST_SHARED", "")


def _compile_once(pathname: str, source: bytes) -> types.CodeType:
    file = f"{FOLDER}/{source_hash(MAGIC, source).hex()}.code"
    code: types.CodeType
    try:
        with open(file, "rb") as kept:
            code = marshal.load(kept)
        return code
    except OSError:
        code = _compile(pathname, source)
    own = f"{file}.{os.getpid()}"
    try:
        with open(own, "wb") as made:
            marshal.dump(code, made)
        os.replace(own, file)
    except OSError:
        # The test run is over, and this process outlived it.
        pass
    return code


if FOLDER:
    _compile = zipimport._compile_source  # type: ignore[attr-defined]
    zipimport._compile_source = _compile_once  # type: ignore[attr-defined]
