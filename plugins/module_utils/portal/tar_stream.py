# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A gzipped tar, read once from front to back, trusting nothing in it and extracting nothing.

Formats: gzip is RFC 1952; the tar headers are POSIX ustar and pax (IEEE 1003.1, "pax Interchange
Format") and GNU's long names (GNU tar manual, "Basic Tar Format").

The standard library's tarfile is not used: it takes a damaged header after the first one for the
end of the archive, remembers every member, reads headers of any length that the archive claims and
recurses through chains of them. Here whatever is odd is refused, so that the portal's own tar
cannot see other members in the archive than were counted.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

from .archive_error import ArchiveError, quoted

MAX_MEMBERS = 1_000_000

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_INFLATED = 1 << 20
_MAX_NAME = 4096
_MAX_EXTENDED_HEADER = 1 << 20
_OCTAL = re.compile(rb" *([0-7]+)[ \0]*")
_PAX_LENGTH = re.compile(rb"([1-9][0-9]{0,6}) ")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_REFUSED_TYPES = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a named pipe",
    b"K": "a link",
    b"S": "a sparse file",
}
# Everything else could change which bytes belong to which member (size, GNU.sparse.*, linkpath).
_PAX_HARMLESS = {"atime", "comment", "ctime", "gid", "gname", "mtime", "uid", "uname"}
_PAX_HARMLESS_PREFIXES = ("SCHILY.acl.", "SCHILY.xattr.", "LIBARCHIVE.xattr.", "RHT.security.")


class Gunzip:
    """The bytes of one gzip stream, as many at a time as are asked for.

    :param pieces: the compressed bytes; each piece is used up before the next is asked for.
    :param limit: the number of bytes at which decompression stops with an error.
    :raises ArchiveError: from every method; no other error whatever the bytes.
    """

    def __init__(self, pieces: Iterable[bytes | memoryview], limit: int) -> None:
        self.produced = 0
        self._inflated = self._inflate(pieces)
        self._limit = limit
        self._buffer = b""
        self._position = 0

    def take(self, count: int) -> bytes:
        """Return exactly *count* bytes."""
        end = self._position + count
        if end <= len(self._buffer):
            taken = self._buffer[self._position : end]
            self._position = end
            return taken
        parts = []
        while count > (available := len(self._buffer) - self._position):
            parts.append(self._buffer[self._position :])
            count -= available
            if not self._refill():
                raise _cut_off()
        parts.append(self._buffer[:count])
        self._position = count
        return b"".join(parts)

    def skip(self, count: int) -> None:
        """Pass over exactly *count* bytes."""
        while count > (available := len(self._buffer) - self._position):
            count -= available
            if not self._refill():
                raise _cut_off()
        self._position += count

    def rest_is_zeros(self) -> bool:
        """Read to the end, through gzip's own checksum, and tell whether only zeros came."""
        only_zeros = True
        while True:
            only_zeros &= self._buffer.count(0, self._position) == (
                len(self._buffer) - self._position
            )
            if not self._refill():
                return only_zeros

    def _refill(self) -> bool:
        self._buffer = next(self._inflated, b"")
        self._position = 0
        return bool(self._buffer)

    def _inflate(self, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
        inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        for piece in pieces:
            if inflater.eof and len(piece):
                raise _trailing()
            pending: bytes | memoryview = piece
            while not inflater.eof:
                try:
                    inflated = inflater.decompress(pending, _INFLATED)
                except zlib.error:
                    raise ArchiveError(
                        "the archive is damaged: its compressed data cannot be read"
                    ) from None
                pending = inflater.unconsumed_tail
                self.produced += len(inflated)
                if self.produced > self._limit:
                    raise ArchiveError(
                        f"the archive is refused: it decompresses to more than {self._limit} bytes"
                    )
                if inflated:
                    yield inflated
                elif not pending:
                    break
            if inflater.unused_data:
                raise _trailing()
        if not inflater.eof:
            raise _cut_off()


@dataclass(frozen=True, slots=True)
class Member:
    """A file or folder of the archive; *name* has no trailing slash, *size* is in bytes."""

    name: str
    size: int
    is_file: bool


class TarStream:
    """The members of a tar, one after the other; the bytes of one can be read while it is at hand.

    :raises ArchiveError: from every method; no other error whatever the bytes.
    """

    def __init__(self, stream: Gunzip, max_members: int = MAX_MEMBERS) -> None:
        self._stream = stream
        self._max_members = max_members
        self._unread = 0
        self._seen: set[bytes] = set()

    def __iter__(self) -> Iterator[Member]:
        extended: dict[bytes, str | None] = {}
        headers = 0
        while True:
            self._skip_unread()
            block = self._stream.take(_BLOCK)
            if block == _ZEROS:
                break
            headers += 1
            # A header before a header counts too: a member has two of them at most.
            if headers > 3 * self._max_members or len(self._seen) > self._max_members:
                raise ArchiveError(
                    f"the archive is refused: it has more than {self._max_members} members"
                )
            kind, size = _kind_and_size(block)
            if kind in (b"L", b"x"):
                if kind in extended:
                    raise ArchiveError(
                        "the archive is refused: it announces the name of a member twice"
                    )
                extended[kind] = self._extended(kind, size)
                continue
            if kind == b"g":
                if _pax_path(self._payload(size)) is not None:
                    raise ArchiveError("the archive is refused: it gives all members one name")
                continue
            member = _member(block, kind, size, [name for name in extended.values() if name])
            extended = {}
            self._unread = -(-size // _BLOCK) * _BLOCK
            if member.name:
                self._see(member.name)
                yield member
        if extended or self._stream.take(_BLOCK) != _ZEROS or not self._stream.rest_is_zeros():
            raise ArchiveError("the archive is damaged: something follows the end of its tar")

    def read(self, member: Member) -> bytes:
        """Return the bytes of the member that was yielded last; once for each member."""
        data = self._stream.take(member.size)
        self._unread -= member.size
        return data

    def _skip_unread(self) -> None:
        self._stream.skip(self._unread)
        self._unread = 0

    def _payload(self, size: int) -> bytes:
        if size > _MAX_EXTENDED_HEADER:
            raise ArchiveError(
                f"the archive is refused: a member's extended header claims {size} bytes"
            )
        data = self._stream.take(size)
        self._stream.skip(-size % _BLOCK)
        return data

    def _extended(self, kind: bytes, size: int) -> str | None:
        data = self._payload(size)
        if kind == b"x":
            return _pax_path(data)
        return _announced(data.removesuffix(b"\0"))

    def _see(self, name: str) -> None:
        # Only a digest is kept: a name is as long as the archive likes, and there are many.
        digest = blake2b(name.encode(), digest_size=12).digest()
        if digest in self._seen:
            raise ArchiveError(f"the archive is refused: it has two members called {quoted(name)}")
        self._seen.add(digest)


def _kind_and_size(block: bytes) -> tuple[bytes, int]:
    claimed = _number(block[148:156])
    if claimed != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        raise ArchiveError("the archive is damaged: the checksum of a tar header is wrong")
    if block[257:263] != b"ustar\0":
        if block[257:265] != b"ustar  \0":
            raise ArchiveError("the archive is damaged: a tar header is neither POSIX's nor GNU's")
        if any(block[345:500]):
            # GNU's tar finds times here, and other readers the beginning of the name.
            raise ArchiveError("the archive is refused: readers differ on one of its tar headers")
    return block[156:157], _number(block[124:136])


def _number(field: bytes) -> int:
    if field[0] == 0x80:  # GNU: binary, for what octal digits cannot hold
        return int.from_bytes(field[1:], "big")
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise ArchiveError("the archive is damaged: a number in a tar header cannot be read")
    return int(match[1], 8)


def _member(block: bytes, kind: bytes, size: int, names: list[str]) -> Member:
    if len(names) > 1:
        raise ArchiveError("the archive is refused: it announces the name of a member twice")
    name = names[0] if names else _header_name(block)
    if kind in (b"0", b"\0"):
        return Member(_safe(name), size, is_file=True)
    if kind == b"5":
        if size:
            raise ArchiveError(f"the archive is refused: the folder {quoted(name)} has content")
        return Member(_safe(name.removesuffix("/"), folder=True), 0, is_file=False)
    what = _REFUSED_TYPES.get(kind, "neither a file nor a folder")
    raise ArchiveError(f"the archive is refused: its member {quoted(name)} is {what}")


def _header_name(block: bytes) -> str:
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0" and (prefix := block[345:500].split(b"\0", 1)[0]):
        name = prefix + b"/" + name
    return _text(name)


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ArchiveError("the archive is refused: the name of a member is not UTF-8") from None


def _announced(raw: bytes) -> str:
    if not raw:
        # Some readers would fall back on the name in the header that follows.
        raise ArchiveError("the archive is refused: it has a member without a name")
    return _text(raw)


def _safe(name: str, *, folder: bool = False) -> str:
    """Return *name* as a plain relative path; empty for the folder that was archived itself."""
    if folder and name == ".":
        return ""
    plain = name.removeprefix("./")
    if not plain:
        reason = "has no name"
    elif len(plain) > _MAX_NAME:
        reason = f"has a name of more than {_MAX_NAME} characters"
    elif plain.startswith("/"):
        reason = "has an absolute name"
    elif "\\" in plain:
        reason = "has a backslash in its name"
    elif _CONTROL.search(plain):
        reason = "has a control character in its name"
    elif ".." in (parts := plain.split("/")):
        reason = "has '..' in its name"
    elif "" in parts or "." in parts:
        reason = "has an empty part in its name"
    else:
        return plain
    raise ArchiveError(f"the archive is refused: its member {quoted(name)} {reason}")


def _pax_path(data: bytes) -> str | None:
    """Return the path that a pax header (``LENGTH KEY=VALUE`` lines) gives, if it gives one."""
    path = None
    position = 0
    while position < len(data):
        match = _PAX_LENGTH.match(data, position)
        end = position + int(match[1]) if match else 0
        if match is None or match.end() >= end or data[end - 1 : end] != b"\n":
            raise ArchiveError("the archive is damaged: an extended header cannot be read")
        key, _equals, value = data[match.end() : end - 1].partition(b"=")
        position = end
        name = key.decode("utf-8", "replace")
        if name == "path" and path is None:
            path = _announced(value)
        elif name not in _PAX_HARMLESS and not name.startswith(_PAX_HARMLESS_PREFIXES):
            raise ArchiveError(f"the archive is refused: an extended header carries {quoted(name)}")
    return path


def _cut_off() -> ArchiveError:
    return ArchiveError("the archive is cut off: what is inside ends too early")


def _trailing() -> ArchiveError:
    return ArchiveError("the archive is damaged: something follows the end of its gzip stream")
