# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Being the only one who changes what lies in a folder, among all that ask here first."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .deadline import Deadline, Pace, wait_for
from .errors import DeliveryError

BUSY_SECONDS = 20.0
PACE = Pace(interval=0.05, first=0.0, jitter=1.0)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep the others out; by flock(2) of the folder, which the kernel gives back at our end.

    :raises DeliveryError: the folder cannot be opened, or somebody else has it for longer than some
        seconds.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise DeliveryError(f"{folder} cannot be opened: {error.strerror}") from error

    def look() -> bool | None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        return True

    try:
        wait_for(look, deadline=Deadline(BUSY_SECONDS), pace=PACE, what=f"access to {folder}")
        yield
    finally:
        os.close(handle)
