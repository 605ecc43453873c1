# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``openssl enc -aes-256-cbc -salt -k KEY`` writes, read as a stream.

The container, after openssl-enc(1): ``Salted__``, 8 bytes of salt, then AES-256-CBC ciphertext
with PKCS#7 padding (RFC 5652, 6.3). Key and IV come from EVP_BytesToKey(3) with one iteration of a
digest, SHA-256 from OpenSSL 1.1.0 on and MD5 before. Neither the digest nor anything to recognize
the right key by is in the file: a caller looks at the first block and tells.
"""

from __future__ import annotations

import hashlib
import traceback
from typing import TYPE_CHECKING, BinaryIO

from .archive_error import ArchiveError

CRYPTOGRAPHY_IMPORT_ERROR: str | None
try:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
except ImportError:
    CRYPTOGRAPHY_IMPORT_ERROR = traceback.format_exc()
else:
    CRYPTOGRAPHY_IMPORT_ERROR = None

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.ciphers import CipherContext

#: In the order in which they are tried: the portals of today first.
KEY_DERIVATIONS = ("sha256", "md5")

_MAGIC = b"Salted__"
_HEADER = 16
_BLOCK = 16
_CHUNK = 1 << 20
_KEY_BYTES = 32

# What a download that went wrong begins with, so that the message can say what came instead.
_LOOKS_LIKE = (
    (b"\x1f\x8b", "an unencrypted gzip file"),
    (b"U2FsdGVkX1", "an encrypted file in base64"),
    (b"PK\x03\x04", "a zip file"),
    (b"<", "an HTML or XML page"),
    (b"{", "JSON, perhaps an error message of the portal"),
    (b"[", "JSON"),
)


class Container:
    """An encrypted file, opened.

    :param source: seekable; read again from its beginning for each derivation.
    :param key: the pass phrase. It is kept in bytes here and shown nowhere.
    :param size: the file's length in bytes, as the caller knows it.
    :raises ArchiveError: it is no such container, it is cut off, or ``cryptography`` is missing.
    """

    def __init__(self, source: BinaryIO, key: str, *, size: int) -> None:
        if CRYPTOGRAPHY_IMPORT_ERROR is not None:
            raise ArchiveError("the Python library cryptography is needed to read an archive")
        self._source = source
        self._size = size
        self._pass_phrase = _key_bytes(key)
        source.seek(0)
        head = _read(source, _HEADER)
        if not head.startswith(_MAGIC):
            raise ArchiveError(_foreign(head + _read(source, 256)))
        actual = source.seek(0, 2)
        if actual != size:
            raise ArchiveError(f"the archive has {actual} bytes where {size} were expected")
        if size <= _HEADER or (size - _HEADER) % _BLOCK:
            raise ArchiveError(f"the archive is cut off: it ends inside a block, at {size} bytes")
        self._salt = head[len(_MAGIC) :]

    def first_block(self, derivation: str) -> bytes:
        """Return the first 16 bytes of what *derivation* decrypts to, right or wrong."""
        self._source.seek(_HEADER)
        return self._decryptor(derivation).update(_read(self._source, _BLOCK))

    def plaintext(self, derivation: str) -> Iterator[memoryview]:
        """Yield the plaintext in pieces of at most 1 MiB.

        Each piece is overwritten by the next one: use it before going on.

        :raises ArchiveError: the file ends early or the final padding is wrong.
        """
        self._source.seek(_HEADER)
        decryptor = self._decryptor(derivation)
        remaining = self._size - _HEADER
        # update_into asks for a block more than it can ever write.
        buffer = memoryview(bytearray(_CHUNK + _BLOCK - 1))
        while remaining:
            wanted = min(_CHUNK, remaining)
            piece = _read(self._source, wanted)
            if len(piece) < wanted:
                raise ArchiveError("the archive became shorter while it was read")
            length = decryptor.update_into(piece, buffer)
            remaining -= wanted
            if not remaining:
                length -= _padding(bytes(buffer[length - _BLOCK : length]))
            yield buffer[:length]

    def _decryptor(self, derivation: str) -> CipherContext:
        key, vector = bytes_to_key(derivation, self._pass_phrase, self._salt)
        return Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()


def bytes_to_key(derivation: str, pass_phrase: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """Derive an AES-256 key and its IV as EVP_BytesToKey does with an iteration count of 1."""
    derived = block = b""
    while len(derived) < _KEY_BYTES + _BLOCK:
        # Not a choice of ours: this is how the file was made.
        block = hashlib.new(derivation, block + pass_phrase + salt, usedforsecurity=False).digest()
        derived += block
    return derived[:_KEY_BYTES], derived[_KEY_BYTES : _KEY_BYTES + _BLOCK]


def _key_bytes(key: str) -> bytes:
    try:
        # Ansible hands on bytes that are no UTF-8 as surrogates; openssl was given the bytes.
        return key.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # The cause carries the key.
        raise ArchiveError("the deployment key is not valid text") from None


def _read(source: BinaryIO, wanted: int) -> bytes:
    """Read *wanted* bytes, fewer only at the end: a raw file may return less at a time."""
    piece = source.read(wanted)
    if len(piece) == wanted or not piece:
        return piece
    pieces = [piece]
    missing = wanted - len(piece)
    while missing and (piece := source.read(missing)):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def _padding(block: bytes) -> int:
    """Return how many bytes of the last *block* are padding."""
    count = block[-1]
    if not 1 <= count <= _BLOCK or block[-count:] != bytes([count]) * count:
        raise ArchiveError("the archive is damaged: its last block does not decrypt to an end")
    return count


def _foreign(head: bytes) -> str:
    if not head:
        return "the archive is empty"
    if _MAGIC.startswith(head):
        return f"the archive is cut off: it ends after {len(head)} bytes"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, name in _LOOKS_LIKE:
        if text.startswith(start):
            return f"this is not an export archive: it looks like {name}"
    return "this is not an export archive: it does not begin as openssl's encrypted files do"
