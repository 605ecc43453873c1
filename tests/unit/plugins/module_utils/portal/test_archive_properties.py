# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever the bytes, reading an archive ends in a result or in an ArchiveError.

The changes are made at each layer (the file, the gzip stream, the tar, the JSON), because one
changed byte of the file itself never gets past the next layer.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ansible_collections.immutable.delivery.plugins.module_utils.portal import archive, tar_stream
from ansible_collections.immutable.delivery.tests.support.made_archives import (
    KEY,
    Member,
    encrypted,
    entity,
    folder,
    portal_members,
    tar_of,
)

TESTS = next(parent for parent in Path(__file__).resolve().parents if parent.name == "tests")
REAL = [
    (TESTS / "data" / name).read_bytes()
    for name in ("portal-export.tgz.enc", "portal-export-md5.tgz.enc")
]
REAL_COUNTS = {
    "users": 155,
    "applications": 150,
    "subscriptions": 113,
    "approvals": 0,
    "verifications": 0,
    "webhooks": 0,
}
TAR = tar_of([*portal_members(), entity(f"users/{'l' * 120}.json", {"id": "l"})])
HEADERS = [
    offset for offset in range(0, len(TAR), 512) if TAR[offset + 257 : offset + 262] == b"ustar"
]
# name, size, type, magic and prefix: what decides which bytes belong to which member
FIELDS = ((0, 100), (124, 136), (156, 157), (257, 265), (345, 500))
INTERESTING = b"\0\x01\x80\xff /.\\0157LKSxg\n"

bounded = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
edits = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from("xid"), st.binary(max_size=20)),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, changes: list[tuple[float, str, bytes]]) -> bytes:
    """Overwrite, insert or delete at places given as fractions of the length."""
    out = bytearray(data)
    for place, how, value in changes:
        start = int(place * len(out))
        if how == "i":
            out[start:start] = value
        else:
            out[start : start + len(value)] = value if how == "x" else b""
    return bytes(out)


def outcome(data: bytes, key: str = KEY) -> archive.Contents | str:
    """Read *data*; anything but a result or an ArchiveError fails the test."""
    try:
        contents = archive.inspect(io.BytesIO(data), key, size=len(data), max_uncompressed=16 << 20)
        digests = archive.entity_digests(io.BytesIO(data), key)
    except archive.ArchiveError as error:
        message = str(error)
        assert message
        assert message.isascii()
        assert message.isprintable()
        return message
    assert sum(contents.counts().values()) == len(digests)
    return contents


@bounded
@given(data=st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(b"Salted__".__add__)))
def test_any_bytes_at_all_are_refused(data: bytes) -> None:
    assert isinstance(outcome(data), str)


@bounded
@given(real=st.sampled_from(REAL), changes=edits)
def test_a_changed_real_archive_is_never_counted_otherwise(
    real: bytes, changes: list[tuple[float, str, bytes]]
) -> None:
    data = edited(real, changes)
    result = outcome(data)
    # A change may meet what nobody reads, such as the time stamp of gzip.
    assert isinstance(result, str) or result.counts() == REAL_COUNTS


@bounded
@given(key=st.text())
@example(key="\ud800")
@example(key=KEY + "\n")
def test_no_other_key_opens_a_real_archive(key: str) -> None:
    if key != KEY:
        assert isinstance(outcome(REAL[0], key), str)


@bounded
@given(changes=edits)
def test_a_changed_gzip_stream_ends_in_one_of_two_ways(
    changes: list[tuple[float, str, bytes]],
) -> None:
    outcome(encrypted(edited(gzip.compress(TAR, mtime=0), changes)))


@bounded
@given(changes=edits)
def test_a_changed_tar_ends_in_one_of_two_ways(changes: list[tuple[float, str, bytes]]) -> None:
    outcome(encrypted(gzip.compress(edited(TAR, changes), 1)))


header_edits = st.lists(
    st.tuples(
        st.sampled_from(HEADERS),
        st.sampled_from(FIELDS),
        st.integers(0, 154),
        st.one_of(
            st.binary(min_size=1, max_size=12),
            st.lists(st.sampled_from(INTERESTING), min_size=1, max_size=12).map(bytes),
            st.integers(0, 8 << 20).map(lambda number: b"%011o" % number),
        ),
    ),
    min_size=1,
    max_size=3,
)


@settings(bounded, max_examples=600)
@given(changes=header_edits)
def test_a_tar_that_is_accepted_has_the_members_that_another_reader_sees(
    changes: list[tuple[int, tuple[int, int], int, bytes]],
) -> None:
    tar = bytearray(TAR)
    for offset, (start, end), shift, value in changes:
        begin = offset + start + shift % (end - start)
        fitting = value[: offset + end - begin]
        tar[begin : begin + len(fitting)] = fitting
    for offset in HEADERS:
        checksum = sum(tar[offset : offset + 148]) + 8 * 32 + sum(tar[offset + 156 : offset + 512])
        tar[offset + 148 : offset + 156] = b"%06o\0 " % checksum
    stream = tar_stream.Gunzip([gzip.compress(bytes(tar), 1)], 64 << 20)
    try:
        ours = [(member.name, member.size) for member in tar_stream.TarStream(stream)]
    except archive.ArchiveError:
        return
    with tarfile.open(fileobj=io.BytesIO(bytes(tar)), mode="r:") as other:
        theirs = [(member.name.removeprefix("./"), member.size) for member in other]
    assert ours == [member for member in theirs if member[0] not in ("", ".")]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@bounded
@given(
    name=st.sampled_from(
        [
            "users/1.json",
            "subscriptions/a.subs.json",
            "webhooks/_listeners.json",
            "approvals/_index.json",
        ]
    ),
    content=st.one_of(json_values.map(json.dumps), st.text(max_size=30)),
)
@example(name="users/1.json", content="[" * 200_000)
@example(name="users/1.json", content='{"a":' * 900 + "1" + "}" * 900)
@example(name="approvals/_index.json", content='[{"id": "\\ud800"}]')
def test_any_json_ends_in_one_of_two_ways(name: str, content: str) -> None:
    member = Member(name, content.encode("utf-8", "surrogatepass"))
    outcome(encrypted(gzip.compress(tar_of([folder("users"), member]), 1)))


@bounded
@given(
    older=st.dictionaries(st.text(max_size=2), st.sampled_from("ab")),
    newer=st.dictionaries(st.text(max_size=2), st.sampled_from("ab")),
)
def test_a_difference_turns_the_older_into_the_newer(
    older: dict[str, str], newer: dict[str, str]
) -> None:
    difference = archive.compare(older, newer)
    rebuilt = {name: value for name, value in older.items() if name not in difference.removed}
    for name in (*difference.added, *difference.changed):
        assert rebuilt.get(name) != newer[name]
        rebuilt[name] = newer[name]
    assert rebuilt == newer
    assert bool(difference) == (older != newer)
    for names in (difference.added, difference.changed, difference.removed):
        assert names == sorted(set(names))
