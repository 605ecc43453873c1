# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two ciphers of a portal: the archive's container and the secrets inside entities.

The archive is what `openssl enc -aes-256-cbc -salt -k KEY` writes: `Salted__`, 8 bytes of salt, the
ciphertext; key and IV come from EVP_BytesToKey with one round of SHA-256 (OpenSSL 1.1.0 on) or MD5.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAGIC = b"Salted__"
SALT_SIZE = 8
BLOCK = 16
CHUNK = 1 << 18
DIGESTS = ("sha256", "md5")
GZIP_START = b"\x1f\x8b\x08"
ID_LENGTH = 40


class WrongKey(Exception):
    """The container is not one that the deployment key opens."""


class ByteSink(Protocol):
    """Whatever takes bytes in order (a file, a hash)."""

    def write(self, data: bytes, /) -> object: ...


def derive(key: str, salt: bytes, digest: str) -> tuple[bytes, bytes]:
    """EVP_BytesToKey, one round: the AES-256 key and the IV."""
    material = previous = b""
    while len(material) < 32 + BLOCK:
        previous = hashlib.new(digest, previous + key.encode() + salt).digest()
        material += previous
    return material[:32], material[32 : 32 + BLOCK]


def _cbc(key: str, salt: bytes, digest: str) -> Cipher[modes.CBC]:
    secret, iv = derive(key, salt, digest)
    return Cipher(algorithms.AES(secret), modes.CBC(iv))


class EncryptingWriter:
    """A write-only file that encrypts what it is given; close() writes the padding."""

    def __init__(self, sink: ByteSink, key: str, digest: str) -> None:
        salt = os.urandom(SALT_SIZE)
        self._sink = sink
        self._encryptor: CipherContext = _cbc(key, salt, digest).encryptor()
        self._padder = PKCS7(BLOCK * 8).padder()
        sink.write(MAGIC + salt)

    def write(self, data: bytes) -> int:
        self._sink.write(self._encryptor.update(self._padder.update(data)))
        return len(data)

    def flush(self) -> None:
        """For gzip, which wants one; a block cipher has nothing to hand on early."""

    def close(self) -> None:
        self._sink.write(self._encryptor.update(self._padder.finalize()))
        self._sink.write(self._encryptor.finalize())


class DecryptingReader(io.RawIOBase):
    """A read-only raw file over the plaintext of a container, in constant memory.

    Which digest made the key is not in the container: the first block tells, as the plaintext is a
    gzip file. Raises WrongKey where neither digest fits, and at the end where the padding is wrong.
    """

    def __init__(self, source: BinaryIO, key: str) -> None:
        super().__init__()
        self._source = source
        head = source.read(len(MAGIC) + SALT_SIZE + BLOCK)
        if len(head) < len(MAGIC) + SALT_SIZE + BLOCK or not head.startswith(MAGIC):
            raise WrongKey("it is not an archive that a portal encrypted")
        salt, first = head[len(MAGIC) : len(MAGIC) + SALT_SIZE], head[-BLOCK:]
        for digest in DIGESTS:
            decryptor = _cbc(key, salt, digest).decryptor()
            plain = decryptor.update(first)
            if plain.startswith(GZIP_START):
                break
        else:
            raise WrongKey("it was not encrypted with this portal's deployment key")
        self._chunks = self._plaintext(decryptor, plain)
        self._rest = memoryview(b"")

    def _plaintext(self, decryptor: CipherContext, first: bytes) -> Iterator[bytes]:
        unpadder = PKCS7(BLOCK * 8).unpadder()
        yield unpadder.update(first)
        while data := self._source.read(CHUNK):
            yield unpadder.update(decryptor.update(data))
        try:
            yield unpadder.update(decryptor.finalize()) + unpadder.finalize()
        except ValueError:
            raise WrongKey("it is cut off, or was not encrypted with this portal's key") from None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        target = memoryview(buffer).cast("B")
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def new_id() -> str:
    """A random id of 40 hex digits, the form of all ids a portal makes itself."""
    return secrets.token_hex(ID_LENGTH // 2)


def _ctr(key: str) -> Cipher[modes.CTR]:
    secret, iv = derive(key, b"", "md5")
    return Cipher(algorithms.AES(secret), modes.CTR(iv))


def seal(text: str, key: str) -> str:
    """text as it stands in an entity: `!`, then hex of AES-256-CTR over 40 random digits and it."""
    encryptor = _ctr(key).encryptor()
    return "!" + (encryptor.update((new_id() + text).encode()) + encryptor.finalize()).hex()


def unseal(sealed: str, key: str) -> str | None:
    """The text of seal(), or None where it is not one that this key made."""
    try:
        decryptor = _ctr(key).decryptor()
        plain = decryptor.update(bytes.fromhex(sealed.removeprefix("!"))) + decryptor.finalize()
        return plain.decode("ascii")[ID_LENGTH:]
    except ValueError:
        return None
