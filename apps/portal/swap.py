# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replace all dynamic data in one step that survives a crash.

The new data is complete in `tmp/staging-*` first. Renaming that folder to `tmp/ready` decides:
before it, a crash leaves the old data; after it, finish() completes the exchange, now or at the
next start. Whatever finish() does can be cut off anywhere and done again.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from archive import LOCK_FILE
from index import FOLDERS

TEMPORARY = "tmp"
CLAIM = "in-use"  # the file in it whose lock says that a portal runs here
_READY = "ready"
_OLD = "old"


def decide(root: Path, staging: Path) -> None:
    """Make staging (on root's file system) the data that finish() puts in place."""
    staging.rename(root / TEMPORARY / _READY)


def finish(root: Path) -> None:
    """Put decided data in place, if there is any; the old data lies aside then. Raises OSError."""
    ready, old = root / TEMPORARY / _READY, root / TEMPORARY / _OLD
    if not ready.exists():
        return
    old.mkdir(exist_ok=True)
    for folder in FOLDERS:
        if not (ready / folder).exists():
            continue  # exchanged before a crash
        if (root / folder).exists():
            (root / folder).rename(old / folder)
        (ready / folder).rename(root / folder)
    ready.rmdir()
    # Out of the way of the next exchange, which may come before this one's leavings are deleted.
    old.rename(root / TEMPORARY / f"{_OLD}-{secrets.token_hex(4)}")


def discard_old(root: Path) -> None:
    """Delete what finish() put aside; may take long with many files."""
    for leavings in (root / TEMPORARY).glob(f"{_OLD}-*"):
        shutil.rmtree(leavings, ignore_errors=True)


def prepare(root: Path) -> None:
    """Bring root into order at start: finish an exchange, drop leavings. Raises OSError."""
    finish(root)
    for entry in os.scandir(root / TEMPORARY):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif entry.name != CLAIM:
            Path(entry.path).unlink()
    for folder in FOLDERS:
        (root / folder).mkdir(exist_ok=True)
        for cut_off in (root / folder).glob(".*.new"):
            cut_off.unlink()
    # A lock is for the process that took it.
    (root / LOCK_FILE).unlink(missing_ok=True)
