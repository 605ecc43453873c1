# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is inside an export archive of a portal: counted and compared, never extracted.

A portal's dynamic data are JSON files: ``users/ID.json`` and ``applications/ID.json`` hold one
entity each, ``subscriptions/ID.subs.json`` the list of an application's subscriptions,
``webhooks/_listeners.json`` the list of listeners. Approvals and verifications are files of their
own, or entries of their folder's ``_index.json`` where the portal keeps them only there. All other
files are derived from these or keep folders alive.

The archive may be hostile or damaged: for any bytes at all, reading ends in a result or in an
:class:`ArchiveError`, in constant memory.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from .archive_error import ArchiveError, quoted
from .openssl_enc import CRYPTOGRAPHY_IMPORT_ERROR, KEY_DERIVATIONS, Container
from .tar_stream import Gunzip, Member, TarStream

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = (
    "CRYPTOGRAPHY_IMPORT_ERROR",
    "KINDS",
    "ArchiveError",
    "Contents",
    "Difference",
    "compare",
    "entity_digests",
    "inspect",
)

#: The kinds of entity, each the name of its folder too.
KINDS = ("users", "applications", "subscriptions", "approvals", "verifications", "webhooks")

_MIB = 1 << 20
_UNCOMPRESSED_AT_LEAST = 256 * _MIB
_UNCOMPRESSED_RATIO = 100
_MAX_JSON = 16 * _MIB
# A short text can be a large object: "[],[],[]" takes 64 bytes of memory for each 3.
_MAX_JSON_VALUES = 500_000
_LABEL = 200

# Of an entity in a list, the field that tells it from the others.
_LIST_ID = {"subscriptions": "api"}


@dataclass(frozen=True)
class Contents:
    """What an archive holds: the number of entities of each kind, and how it is packed.

    *key_derivation* is ``sha256`` or ``md5``; *files* counts all regular files;
    *uncompressed_size* is the length of the tar in bytes.
    """

    users: int
    applications: int
    subscriptions: int
    approvals: int
    verifications: int
    webhooks: int
    key_derivation: str
    files: int
    uncompressed_size: int

    def counts(self) -> dict[str, int]:
        """Return the number of entities of each kind."""
        fields = asdict(self)
        return {kind: fields[kind] for kind in KINDS}


@dataclass(frozen=True)
class Difference:
    """The names of the entities by which a newer archive differs from an older one, sorted."""

    added: list[str]
    changed: list[str]
    removed: list[str]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def inspect(
    source: BinaryIO, key: str, *, size: int, max_uncompressed: int | None = None
) -> Contents:
    """Read a whole archive and count what is in it.

    :param source: a seekable binary file; it is read from its beginning, wherever it stands.
    :param key: the deployment key.
    :param size: the archive's length in bytes.
    :param max_uncompressed: refuse archives that hold more bytes than this; by default 256 MiB
        or a hundred times *size*, whichever is more.
    :raises ArchiveError: the archive cannot be read, is unsafe, or is no portal export.
    :raises OSError: *source* cannot be read.
    """
    return _read_archive(source, key, size, max_uncompressed, _Census)


def entity_digests(source: BinaryIO, key: str) -> dict[str, str]:
    """Return the SHA-256 (hex) of each entity's JSON in canonical form, by the entity's name.

    Names are ``KIND/ID``; a subscription's is ``subscriptions/APPLICATION/API``. The canonical
    form has sorted keys and no white space, so only a change of data changes a digest.

    :raises ArchiveError: as :func:`inspect`.
    :raises OSError: *source* cannot be read.
    """
    digests: dict[str, str] = {}

    def census() -> _Census:
        digests.clear()
        return _Census(digests)

    _read_archive(source, key, source.seek(0, 2), None, census)
    return digests


def compare(older: dict[str, str], newer: dict[str, str]) -> Difference:
    """Tell which entities differ between two results of :func:`entity_digests`."""
    return Difference(
        added=sorted(newer.keys() - older.keys()),
        changed=sorted(name for name in newer.keys() & older.keys() if newer[name] != older[name]),
        removed=sorted(older.keys() - newer.keys()),
    )


def _read_archive(
    source: BinaryIO,
    key: str,
    size: int,
    max_uncompressed: int | None,
    new_census: Callable[[], _Census],
) -> Contents:
    if max_uncompressed is None:
        max_uncompressed = max(_UNCOMPRESSED_AT_LEAST, _UNCOMPRESSED_RATIO * size)
    container = Container(source, key, size=size)
    failure: ArchiveError | None = None
    for derivation in KEY_DERIVATIONS:
        if not _begins_gzip(container.first_block(derivation)):
            continue
        stream = Gunzip(container.plaintext(derivation), max_uncompressed)
        census = new_census()
        try:
            files = census.take(TarStream(stream))
        except ArchiveError as error:
            # The first bytes look right by chance once in 2^27, and then the other is to be tried.
            failure = failure or error
            continue
        return Contents(
            **census.counts,
            key_derivation=derivation,
            files=files,
            uncompressed_size=stream.produced,
        )
    raise failure or ArchiveError(
        "the archive cannot be decrypted with this deployment key"
        " (tried SHA-256 and MD5 derivation)"
    )


def _begins_gzip(block: bytes) -> bool:
    # RFC 1952: two fixed bytes, deflate as the only method, three flags that must be zero.
    return block[:3] == b"\x1f\x8b\x08" and not block[3] & 0xE0


class _Census:
    """Counts the entities of an archive and, given a dict, notes the digest of each."""

    def __init__(self, digests: dict[str, str] | None = None) -> None:
        self.counts = dict.fromkeys(KINDS, 0)
        self._digests = digests
        self._indexed: dict[str, list[Any]] = {}

    def take(self, tar: TarStream) -> int:
        """Read the whole tar; return the number of its files."""
        files = 0
        is_export = False
        for member in tar:
            files += member.is_file
            kind, _slash, file = member.name.partition("/")
            if kind not in self.counts:
                continue
            is_export = is_export or bool(file) or not member.is_file
            if member.is_file and "/" not in file:
                self._file(tar, member, kind, file)
        if not is_export:
            raise ArchiveError("this is not a portal's export: it has none of an export's folders")
        for kind, entries in self._indexed.items():
            if not self.counts[kind]:
                self._entries(kind, kind, entries)
        return files

    def _file(self, tar: TarStream, member: Member, kind: str, file: str) -> None:
        if kind == "subscriptions":
            if file.endswith(".subs.json"):
                application = file.removesuffix(".subs.json")
                self._entries(kind, f"{kind}/{application}", _entity_list(tar, member))
        elif kind == "webhooks":
            if file == "_listeners.json":
                self._entries(kind, kind, _entity_list(tar, member))
        elif file == "_index.json":
            if kind in ("approvals", "verifications"):
                self._indexed[kind] = _entity_list(tar, member)
        elif file.endswith(".json"):
            entity = _json(tar, member)
            if not isinstance(entity, dict):
                raise _damaged(member, "is not a JSON object")
            self._entity(kind, f"{kind}/{file.removesuffix('.json')}", entity)

    def _entries(self, kind: str, prefix: str, entries: list[Any]) -> None:
        for number, entry in enumerate(entries):
            label = entry.get(_LIST_ID.get(kind, "id"))
            if not isinstance(label, str) or not label.isprintable() or len(label) > _LABEL:
                label = f"#{number + 1}"
            self._entity(kind, f"{prefix}/{label}", entry)

    def _entity(self, kind: str, name: str, entity: dict[str, Any]) -> None:
        self.counts[kind] += 1
        if self._digests is None:
            return
        # A list can name two entries alike; both are told apart by their order.
        unique, copy = name, 1
        while unique in self._digests:
            copy += 1
            unique = f"{name} ({copy})"
        try:
            canonical = json.dumps(entity, sort_keys=True, separators=(",", ":"))
        except RecursionError:
            # Reading and writing JSON do not always share one limit.
            raise ArchiveError(
                f"the archive is damaged: its entity {quoted(name)} is nested too deeply"
            ) from None
        self._digests[unique] = hashlib.sha256(canonical.encode()).hexdigest()


def _entity_list(tar: TarStream, member: Member) -> list[Any]:
    entries = _json(tar, member)
    if not isinstance(entries, list):
        raise _damaged(member, "is not a JSON list")
    if not all(isinstance(entry, dict) for entry in entries):
        raise _damaged(member, "lists something else than JSON objects")
    return entries


def _json(tar: TarStream, member: Member) -> Any:
    if member.size > _MAX_JSON:
        raise _damaged(member, f"is larger than {_MAX_JSON // _MIB} MiB")
    data = tar.read(member)
    if sum(map(data.count, (b",", b"[", b"{"))) > _MAX_JSON_VALUES:
        raise _damaged(member, f"holds more than {_MAX_JSON_VALUES} values")
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError:
        raise _damaged(member, "is nested too deeply") from None
    except ValueError:
        raise _damaged(member, "is not JSON") from None


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _damaged(member: Member, what: str) -> ArchiveError:
    return ArchiveError(f"the archive is damaged: its member {quoted(member.name)} {what}")
