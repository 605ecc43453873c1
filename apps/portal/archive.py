# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The export archive: pack the data folder into it, and unpack it into a staging folder.

Both run in a thread, in constant memory, and stop soon after `cancelled()` turns true.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from crypto import CHUNK, DecryptingReader, EncryptingWriter, WrongKey
from index import FOLDERS, Abandoned, Cancelled

LOCK_FILE = "global.lock"
# Entities are small JSON, random ids for the most part: higher levels cost time and gain nothing,
# and the portal is read-only meanwhile.
COMPRESSION = 1
# JSON compresses by about ten; an archive that grows more than this is not one of a portal.
MAX_GROWTH = 100
ALWAYS_ALLOWED = 256 << 20
MAX_MEMBERS = 4_000_000
REQUIRED = ("applications", "subscriptions", "users")


class BadArchive(Exception):
    """The archive is refused; the message says why, as the end of a sentence."""


@dataclass(frozen=True)
class Packed:
    """An archive on disk: its size in bytes and its SHA-256 in hex."""

    path: Path
    size: int
    sha256: str


class _HashingFile:
    """A file that remembers the hash of what was written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._sha256.update(data)
        self.size += len(data)
        self._file.write(data)

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


def _members(root: Path) -> Iterator[tuple[str, Path | None]]:
    """Names and files (None: a folder) of what a portal's `tar` of its data would hold."""
    for folder in FOLDERS:
        yield folder, None
        for entry in os.scandir(root / folder):
            # A leading dot marks a file that is being written.
            if entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
                yield f"{folder}/{entry.name}", Path(entry.path)
    if (root / LOCK_FILE).exists():
        yield LOCK_FILE, root / LOCK_FILE
    yield "tmp", None


def pack(root: Path, target: Path, key: str, digest: str, cancelled: Cancelled) -> Packed:
    """Write the encrypted archive of root to target, mode 0600. Raises OSError and Abandoned."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb", CHUNK) as file:
        hashing = _HashingFile(file)
        encrypting = EncryptingWriter(hashing, key, digest)
        compressed = gzip.GzipFile(
            filename="",
            mode="wb",
            compresslevel=COMPRESSION,
            fileobj=encrypting,
        )
        buffered = io.BufferedWriter(compressed, CHUNK)
        with tarfile.open(fileobj=buffered, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for name, path in _members(root):
                if cancelled():
                    raise Abandoned
                _add(tar, name, path)
        buffered.close()
        encrypting.close()
    return Packed(path=target, size=hashing.size, sha256=hashing.hexdigest())


def _add(tar: tarfile.TarFile, name: str, path: Path | None) -> None:
    info = tarfile.TarInfo(name)
    if path is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(info)
        return
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        info.size, info.mtime, info.mode = status.st_size, int(status.st_mtime), 0o644
        tar.addfile(info, file)


class _Bounded(io.RawIOBase):
    """Hands out at most limit bytes of a gzip file: a decompression bomb ends here."""

    def __init__(self, file: gzip.GzipFile, limit: int) -> None:
        super().__init__()
        self._file = file
        self._left = limit

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(CHUNK if size < 0 else size)
        self._left -= len(data)
        if self._left < 0:
            raise BadArchive("it unpacks to far more than a portal's data")
        return data


def unpack(source: Path, staging: Path, key: str, cancelled: Cancelled) -> None:
    """Unpack source into staging, which is created and then has all FOLDERS.

    Raises BadArchive (with staging half filled), Abandoned and OSError.
    """
    staging.mkdir()
    for folder in FOLDERS:
        (staging / folder).mkdir()
    limit = max(ALWAYS_ALLOWED, MAX_GROWTH * source.stat().st_size)
    try:
        with source.open("rb") as file:
            plain = io.BufferedReader(DecryptingReader(file, key), CHUNK)
            bounded = _Bounded(gzip.GzipFile(fileobj=plain, mode="rb"), limit)
            with tarfile.open(fileobj=bounded, mode="r|") as tar:
                _extract(tar, staging, cancelled)
            # To the end, past what the tar needs: only there stand gzip's checksum and the padding.
            while bounded.read(CHUNK):
                pass
    except WrongKey as exc:
        raise BadArchive(str(exc)) from None
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error):
        raise BadArchive("it is cut off or damaged: not a gzipped tar") from None


def _extract(tar: tarfile.TarFile, staging: Path, cancelled: Cancelled) -> None:
    seen: set[str] = set()
    for count, member in enumerate(tar):
        if cancelled():
            raise Abandoned
        if count > MAX_MEMBERS:
            raise BadArchive("it has more members than a portal has files")
        parts = PurePosixPath(member.name).parts
        if not parts:  # `.`, as some write first
            continue
        _refuse_unsafe(member, parts)
        if member.isdir():
            seen.add(parts[0])
        elif parts[0] in FOLDERS:
            seen.add(parts[0])
            content = tar.extractfile(member)
            with (staging / parts[0] / parts[1]).open("wb") as file:
                if content is not None:  # never None for a file; only the type says so
                    shutil.copyfileobj(content, file, CHUNK)
    missing = [folder for folder in REQUIRED if folder not in seen]
    if missing:
        raise BadArchive(f"it is not a portal's data: it has no {missing[0]}/")


def _refuse_unsafe(member: tarfile.TarInfo, parts: tuple[str, ...]) -> None:
    """Raise BadArchive for whatever a portal would not have written."""
    name = member.name[:200]
    if member.name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise BadArchive(f"the name of its member {name!r} is unsafe")
    # A sparse file unpacks to more than it takes in the tar, past what bounds the unpacking.
    if member.issparse() or not (member.isreg() or member.isdir()):
        raise BadArchive(f"its member {name!r} is neither a file nor a folder")
    if parts[0] == "tmp" or parts == (LOCK_FILE,):
        return
    if parts[0] not in FOLDERS:
        raise BadArchive(f"it has {name!r}, which this version of the portal does not know")
    if len(parts) != (1 if member.isdir() else 2):
        raise BadArchive(f"its member {name!r} lies where a portal keeps nothing")
