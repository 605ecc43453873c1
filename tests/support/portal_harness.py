# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A filled stand-in portal for the tests of the portal's modules, and a look into it."""

from __future__ import annotations

import gzip
import hashlib
import io
import secrets
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.support.portal import EXPORT, EXPORT_COUNTS, KEY, Portal, start_portal

__all__ = ("KEY", "Portal")

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


def locked(portal: Portal) -> bool:
    return bool(portal.call("GET", "/health").json()["locked"])


def look(portal: Portal) -> tuple[bool, str]:
    """Return what has to stand after a failure: whether the portal is locked, and its data."""
    return locked(portal), entities(portal)


def unlock(portal: Portal) -> None:
    """Let whatever holds the lock lapse, and forget all faults."""
    portal.faults(lapse_now=True)


def wait_until(seen: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Look until it is so; fails the test after *seconds*."""
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.03)


def left_in(folder: Path) -> list[str]:
    """Return the names of everything in a folder, hidden files too."""
    return sorted(entry.name for entry in folder.iterdir())


def sealed(plain: bytes, key: str = KEY) -> bytes:
    """Encrypt as ``openssl enc -aes-256-cbc -salt -md sha256 -k KEY`` does."""
    salt = secrets.token_bytes(8)
    derived = block = b""
    while len(derived) < 48:
        block = hashlib.sha256(block + key.encode() + salt).digest()
        derived += block
    encryptor = Cipher(algorithms.AES(derived[:32]), modes.CBC(derived[32:48])).encryptor()
    padder = padding.PKCS7(128).padder()
    padded = padder.update(plain) + padder.finalize()
    return b"Salted__" + salt + encryptor.update(padded) + encryptor.finalize()


def archive_of(files: dict[str, bytes]) -> bytes:
    """Return a sealed archive of *files*, whatever their names."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as writer:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            writer.addfile(info, io.BytesIO(data))
    return sealed(gzip.compress(tar.getvalue(), compresslevel=1))
