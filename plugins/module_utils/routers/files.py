# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files that a router reads when it starts, replaced whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .base import RouterError

MODE = 0o644  # a router may read them as another user; there is nothing secret in them


class Prepared:
    """New contents of files, written beside them; ``commit`` renames them into place, in order.

    Whatever can be told of a full disk or a missing right is told here, before the router is
    changed.

    :raises RouterError: a file cannot be written; then none is changed.
    """

    def __init__(self, contents: Mapping[Path, str], mode: int = MODE) -> None:
        self._parts: list[tuple[Path, Path]] = []
        try:
            for path, text in contents.items():
                part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
                self._parts.append((part, path))
                _write(part, text, mode)
        except OSError as error:
            self.discard()
            raise RouterError(
                f"{path} cannot be written: {error.strerror}",
                next_step="Run this with the right to write there, and see whether the disk is "
                "full.",
            ) from error
        except BaseException:
            self.discard()
            raise

    def commit(self) -> None:
        """Put the new contents in place, on the disk too.

        :raises RouterError: the file system refused.
        """
        folders = {path.parent for _part, path in self._parts}
        try:
            for part, path in self._parts:
                part.replace(path)
            for folder in folders:
                handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
        except OSError as error:
            raise RouterError(f"{path} cannot be replaced: {error.strerror}") from error

    def discard(self) -> None:
        """Leave no trace of what was not committed."""
        for part, _path in self._parts:
            with suppress(OSError):
                part.unlink()


def replace_file(path: Path, text: str, mode: int = MODE) -> None:
    """Replace one file, whole or not at all.

    :raises RouterError: it cannot be.
    """
    prepared = Prepared({path: text}, mode)
    try:
        prepared.commit()
    finally:
        prepared.discard()


def _write(part: Path, text: str, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    handle = os.open(part, flags, mode)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        os.fchmod(handle, mode)
        file.write(text)
        file.flush()
        os.fsync(handle)
