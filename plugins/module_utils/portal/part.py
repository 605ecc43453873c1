# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file that is written beside the one whose place it takes when it is whole.

While it is in use its process holds flock(2) on it. The kernel gives that back however the process
ends, so a part that can be locked was left by a killed one, and nobody needs it.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

# Nobody else's files end with it.
SUFFIX = ".portal-part"
# Somebody who sweeps may take a new part for an old one in the moment before it is locked.
ATTEMPTS = 10


@dataclass(frozen=True)
class Part:
    """A part file in use, open for writing."""

    path: Path
    file: FileIO

    def place(self, dest: Path) -> None:
        """Put it in the place of *dest*, for good.

        :raises OSError: it stays where it is.
        """
        os.fsync(self.file.fileno())
        self.path.replace(dest)
        folder = os.open(dest.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self.file.close()

    def discard(self) -> None:
        """Remove it; harmless where it has been placed."""
        with closing(self.file):
            self.path.unlink(missing_ok=True)


def make_part(dest: Path) -> Part:
    """Make a part for *dest*.

    :raises OSError: there cannot be a file in its folder.
    """
    for _attempt in range(ATTEMPTS):
        handle, name = tempfile.mkstemp(prefix=_prefix(dest), suffix=SUFFIX, dir=dest.parent)
        part = Part(Path(name), FileIO(handle, "wb"))
        if _claim(handle) and _is_at(part.path, handle):
            return part
        part.discard()
    raise OSError(f"somebody else removes the new files in {dest.parent}")


def sweep(folder: Path) -> None:
    """Remove the parts that killed processes left in *folder*; what cannot be removed stays.

    Those for other files as well: each backup has a name of its own.
    """
    pattern = re.compile(r"\..+\.[a-z0-9_]{8}" + re.escape(SUFFIX), re.DOTALL)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                _remove_left(Path(entry.path))


def _remove_left(path: Path) -> None:
    with suppress(OSError), _opened(path) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(path, handle):
            path.unlink()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    # To write, although nothing is written: some network file systems want that for a lock.
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _claim(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A file system without locks: then nobody can sweep there either.
        return True
    return True


def _is_at(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _prefix(dest: Path) -> str:
    # A file's name has 255 bytes at most, and a character up to four.
    return f".{dest.name[:50]}."
