# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make export archives as a portal does, and such as no portal would.

The writing side is written apart from the reading side in plugins/, with the standard library's
tarfile, so that one cannot be wrong in the same way as the other.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import secrets
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

KEY = "ThisIsUsedInDeploy"
FOLDERS = ("applications", "approvals", "subscriptions", "users", "verifications", "webhooks")
CHUNK = 1 << 20


@dataclass(frozen=True)
class Member:
    """A member of a tar: ``data``, or ``zeros`` bytes of nothing for a bomb."""

    name: str
    data: bytes = b""
    type: bytes = tarfile.REGTYPE
    linkname: str = ""
    zeros: int = 0


def text(name: str, value: str) -> Member:
    return Member(name, value.encode())


def entity(name: str, value: Any) -> Member:
    return Member(name, json.dumps(value, indent=2).encode())


def folder(name: str) -> Member:
    return Member(name, type=tarfile.DIRTYPE)


def symlink(name: str, target: str) -> Member:
    return Member(name, type=tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str) -> Member:
    return Member(name, type=tarfile.LNKTYPE, linkname=target)


def bomb(name: str = "tmp/bomb", size: int = 512 << 20) -> Member:
    """A member of *size* bytes that compresses a thousandfold."""
    return Member(name, zeros=size)


def _cipher(key: str, salt: bytes, digest: str) -> Cipher[modes.CBC]:
    derived = block = b""
    while len(derived) < 48:
        block = hashlib.new(digest, block + key.encode() + salt).digest()
        derived += block
    return Cipher(algorithms.AES(derived[:32]), modes.CBC(derived[32:48]))


def encrypt(plain: BinaryIO, out: BinaryIO, key: str, digest: str = "sha256") -> None:
    """Do what ``openssl enc -aes-256-cbc -salt -k KEY -md DIGEST`` does."""
    salt = secrets.token_bytes(8)
    encryptor = _cipher(key, salt, digest).encryptor()
    padder = padding.PKCS7(128).padder()
    out.write(b"Salted__" + salt)
    while chunk := plain.read(CHUNK):
        out.write(encryptor.update(padder.update(chunk)))
    out.write(encryptor.update(padder.finalize()) + encryptor.finalize())


def encrypted(plain: bytes, key: str = KEY, digest: str = "sha256") -> bytes:
    """Encrypt *plain*, which need not be a gzipped tar."""
    out = io.BytesIO()
    encrypt(io.BytesIO(plain), out, key, digest)
    return out.getvalue()


def decrypted(archive: bytes, key: str = KEY, digest: str = "sha256") -> bytes:
    """Undo :func:`encrypted`."""
    assert archive[:8] == b"Salted__"
    plain = _cipher(key, archive[8:16], digest).decryptor().update(archive[16:])
    assert plain.endswith(plain[-1:] * plain[-1]), "the padding is wrong"
    return plain[: -plain[-1]]


def portal_members(
    users: int = 3,
    subs: Mapping[str, Sequence[tuple[str, str]]] | None = None,
) -> Iterator[Member]:
    """Yield a portal's files: users ``user-0``..., and *subs* as application -> (API, plan)."""
    subs = {"app-0": [("brilliant", "basic")]} if subs is None else subs
    for name in FOLDERS:
        yield folder(name)
    yield folder("tmp")
    yield text("global.lock", "")
    yield text("subscriptions/dummy", "")
    for number in range(users):
        user = {"id": f"user-{number}", "firstName": "First", "lastName": f"Last{number}"}
        user["email"] = f"user{number}@example.org"
        yield entity(f"users/user-{number}.json", user)
    yield entity("users/_index.json", [{"id": f"user-{number}"} for number in range(users)])
    for application, plans in subs.items():
        yield entity(
            f"applications/{application}.json", {"id": application, "name": application.title()}
        )
        subscriptions = [
            {
                "id": hashlib.sha1(f"{application}/{api}".encode()).hexdigest(),
                "application": application,
                "api": api,
                "plan": plan,
                "approved": True,
            }
            for api, plan in plans
        ]
        yield entity(f"subscriptions/{application}.subs.json", subscriptions)
    yield entity("applications/_index.json", [{"id": application} for application in subs])
    for name in ("approvals/_index.json", "verifications/_index.json", "webhooks/_listeners.json"):
        yield entity(name, [])


def write_tar(out: BinaryIO | gzip.GzipFile, members: Iterator[Member] | Sequence[Member]) -> None:
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.type = member.type
            info.linkname = member.linkname
            info.size = member.zeros or len(member.data)
            info.mode = 0o755 if member.type == tarfile.DIRTYPE else 0o644
            content: io.BytesIO | _Zeros = io.BytesIO(member.data)
            if member.zeros:
                content = _Zeros(member.zeros)
            tar.addfile(info, content if member.type == tarfile.REGTYPE else None)


def tar_of(members: Iterator[Member] | Sequence[Member]) -> bytes:
    """Return the plain tar of *members*, neither compressed nor encrypted."""
    out = io.BytesIO()
    write_tar(out, members)
    return out.getvalue()


def make_archive(
    path: Path,
    key: str = KEY,
    *,
    users: int = 3,
    subs: Mapping[str, Sequence[tuple[str, str]]] | None = None,
    members: Sequence[Member] = (),
    digest: str = "sha256",
) -> str:
    """Write an export archive to *path*; return its SHA-256 in hex.

    :param members: more of them, after the portal's own; hostile ones too.
    """
    with tempfile.TemporaryFile() as plain:
        with gzip.GzipFile(fileobj=plain, mode="wb", compresslevel=1) as zipped:
            write_tar(zipped, [*portal_members(users, subs), *members])
        plain.seek(0)
        with path.open("wb") as out:
            encrypt(plain, out, key, digest)
    with path.open("rb") as written:
        return hashlib.file_digest(written, "sha256").hexdigest()


class _Zeros(io.RawIOBase):
    """So many zero bytes, without holding them."""

    def __init__(self, count: int) -> None:
        self._left = count

    def read(self, size: int = -1) -> bytes:
        count = self._left if size < 0 else min(size, self._left)
        self._left -= count
        return bytes(count)
