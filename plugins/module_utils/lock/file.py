# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock file, and the one beside it by which those at work are seen."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path

from ..errors import DeliveryError
from .model import Held, Lock

MODE = 0o644  # so that everybody can see who deploys
LIMIT = 64 * 1024


def work_file(path: Path, token: str) -> Path:
    """Return the file that those share who work under an acquisition of the lock at *path*."""
    return path.with_name(f".{path.name}.{token}")


def read(path: Path) -> Lock | None:
    """Return the lock in the file; None if the file is empty.

    :raises FileNotFoundError: there is no file.
    :raises ValueError: the file holds something else.
    :raises DeliveryError: it cannot be read.
    """
    try:
        # Asked once: it may be made while this looks.
        if not stat.S_ISREG(path.lstat().st_mode):
            raise DeliveryError(f"{path} is not a file", next_step="Give another path.")
        content = path.read_bytes() if path.stat().st_size <= LIMIT else b"{"
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DeliveryError(f"{path} cannot be read: {error.strerror}") from error
    if not content.strip():
        return None
    try:
        values = json.loads(content)
    except RecursionError as error:
        raise ValueError("it nests too deep") from error
    if not isinstance(values, dict):
        raise ValueError("it is not a lock")
    return Lock.from_dict(values)


def write(path: Path, lock: Lock, *, new: bool) -> None:
    """Write the lock, so that a reader sees one whole lock or another.

    :param new: whether there must be no file yet, even one by somebody who does not know of flock.
    :raises Held: there is one.
    :raises DeliveryError: it cannot be written.
    """
    part = work_file(path, f"{lock.token}.part")
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(lock.as_dict(), file, indent=2)
            file.write("\n")
            file.flush()
            os.fchmod(file.fileno(), MODE)
            os.fsync(file.fileno())
        if new:
            os.link(part, path)
        else:
            part.replace(path)
    except FileExistsError as error:
        raise Held(f"the lock of {lock.name} was taken meanwhile") from error
    except OSError as error:
        raise DeliveryError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        drop(part)


def make_work_file(path: Path, token: str) -> None:
    """Make what those will share who work under the lock.

    :raises DeliveryError: it cannot be made.
    """
    file = work_file(path, token)
    try:
        file.touch(MODE)
        file.chmod(MODE)
    except OSError as error:
        raise DeliveryError(f"{file} cannot be written: {error.strerror}") from error


def remove(path: Path, token: str | None) -> None:
    """Remove the lock, and what those shared that worked under it.

    :raises DeliveryError: the lock cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise DeliveryError(f"{path} cannot be removed: {error.strerror}") from error
    if token is not None:
        drop(work_file(path, token))


def drop(path: Path) -> None:
    """Remove a file that means nothing without its lock; one that stays does no harm."""
    # A read-only file system refuses to remove even what is not there.
    with suppress(OSError):
        path.unlink(missing_ok=True)
