# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time for each project on a host: two would start two databases on one volume."""

from __future__ import annotations

import errno
import hashlib
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..engine.options import Connection
from ..errors import DeliveryError


class Busy(DeliveryError):
    """Another run works on the same project."""

    kind = "busy"


@contextmanager
def alone(connection: Connection, project: str) -> Iterator[None]:
    """Keep other runs on this host out, until the end of this process at the latest.

    It is done by a name that the kernel gives to one socket only, and takes back when its process
    ends. Runs on several hosts need a lock that these share.

    :raises Busy: another run has it.
    """
    if sys.platform != "linux":
        yield
        return
    told = hashlib.sha256(f"{connection.host}\n{project}".encode()).hexdigest()
    with socket.socket(socket.AF_UNIX) as held:
        try:
            held.bind(f"\0immutable.delivery.compose.{told[:32]}")
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Busy(
                    f"another run of compose_redeploy works on the project {project}",
                    state="Nothing was changed by this one.",
                    next_step="Run this again once that one has ended. To have runs wait for each "
                    "other, use deploy_lock.",
                ) from error
            # A system that knows no such names goes without.
        yield
