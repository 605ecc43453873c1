# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A filled stand-in portal for the tests of the portal's modules, and a look into it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.portal import EXPORT, EXPORT_COUNTS, Portal, start_portal

HOST = "api.portal.example"
COUNTS = {**EXPORT_COUNTS, "approvals": 0, "verifications": 0, "webhooks": 0}


@contextmanager
def running_portal(folder: Path, *, filled: bool = True, **options: Any) -> Iterator[Portal]:
    """Run a portal that answers to HOST only, with the real archive in it.

    :param options: those of tests.support.portal.start_portal.
    """
    folder.mkdir()
    with start_portal(folder, host=HOST, **options) as portal:
        portal.session.headers["Host"] = HOST
        if filled:
            assert portal.import_archive(EXPORT.read_bytes()).status_code == 200
        yield portal


def entities(portal: Portal) -> str:
    """Return a hash over all entities as they lie on the disk; derived files are left out."""
    digest = hashlib.sha256()
    for kind in COUNTS:
        for file in sorted((portal.data / kind).glob("[!_]*.json")):
            digest.update(f"{kind}/{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def look(portal: Portal) -> tuple[bool, str]:
    """Return what has to stand after a failure: whether the portal is locked, and its data."""
    return portal.locked(), entities(portal)


def unlock(portal: Portal) -> None:
    """Let whatever holds the lock lapse, and forget all faults."""
    portal.faults(lapse_now=True)


def left_in(folder: Path) -> list[str]:
    """Return the names of everything in a folder, hidden files too."""
    return sorted(entry.name for entry in folder.iterdir())
