# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading export archives: the real ones, small ones made here, and everything that is wrong."""

from __future__ import annotations

import gzip
import io
import itertools
import re
import tarfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.portal import (
    archive,
    openssl_enc,
    tar_stream,
)
from ansible_collections.immutable.delivery.tests.support.made_archives import (
    KEY,
    Member,
    bomb,
    encrypted,
    entity,
    folder,
    hardlink,
    make_archive,
    portal_members,
    symlink,
    tar_of,
    text,
)

TESTS = next(parent for parent in Path(__file__).resolve().parents if parent.name == "tests")
REAL = TESTS / "data" / "portal-export.tgz.enc"
REAL_MD5 = TESTS / "data" / "portal-export-md5.tgz.enc"


def inspect(data: bytes, key: str = KEY, limit: int | None = None) -> archive.Contents:
    return archive.inspect(io.BytesIO(data), key, size=len(data), max_uncompressed=limit)


def sealed(members: Sequence[Member]) -> bytes:
    return encrypted(gzip.compress(tar_of(members)))


def refusal(data: bytes, key: str = KEY, limit: int | None = None) -> str:
    """Return the message with which *data* is refused, which is one line in one sentence."""
    with pytest.raises(archive.ArchiveError) as caught:
        inspect(data, key, limit)
    message = str(caught.value)
    assert message.isascii()
    assert message.isprintable()
    assert key not in message
    return message


def with_extra(*extra: Member) -> bytes:
    return sealed([*portal_members(), *extra])


# What is inside


@pytest.mark.parametrize(("path", "derivation"), [(REAL, "sha256"), (REAL_MD5, "md5")])
def test_a_real_export_is_counted(path: Path, derivation: str) -> None:
    with path.open("rb") as source:
        contents = archive.inspect(source, KEY, size=path.stat().st_size)
    assert contents == archive.Contents(
        users=155,
        applications=150,
        subscriptions=113,
        approvals=0,
        verifications=0,
        webhooks=0,
        key_derivation=derivation,
        files=509,
        uncompressed_size=778240,
    )
    assert contents.counts() == {
        "users": 155,
        "applications": 150,
        "subscriptions": 113,
        "approvals": 0,
        "verifications": 0,
        "webhooks": 0,
    }


def test_real_exports_differ_by_nothing_whatever_the_derivation() -> None:
    with REAL.open("rb") as source, REAL_MD5.open("rb") as other:
        older = archive.entity_digests(source, KEY)
        newer = archive.entity_digests(other, KEY)
    assert len(older) == 155 + 150 + 113
    assert not archive.compare(older, newer)


def test_a_real_export_is_refused_with_another_key() -> None:
    assert "cannot be decrypted with this deployment key" in refusal(REAL.read_bytes(), "another")


@pytest.mark.parametrize("derivation", ["sha256", "md5"])
def test_a_made_archive_is_counted(tmp_path: Path, derivation: str) -> None:
    path = tmp_path / "export.enc"
    subs = {"one": [("a", "basic"), ("b", "basic")], "two": [], "three": [("a", "free")]}
    make_archive(path, users=7, subs=subs, digest=derivation)
    contents = inspect(path.read_bytes())
    assert (contents.users, contents.applications, contents.subscriptions) == (7, 3, 3)
    assert contents.key_derivation == derivation


def test_entities_are_counted_and_not_files() -> None:
    contents = inspect(
        sealed(
            [
                folder("users"),
                entity("users/_index.json", [{"id": "ghost"}]),
                text("users/dummy", "not JSON"),
                text("users/deeper/x.json", "not JSON"),
                entity("approvals/_index.json", [{"id": "a"}, {"id": "b"}]),
                entity("verifications/_index.json", [{"id": "indexed"}]),
                entity("verifications/1.json", {"id": "1"}),
                entity("verifications/2.json", {"id": "2"}),
                entity("webhooks/_listeners.json", [{"id": "l", "url": "http://l"}]),
                text("webhooks/l.json", "events, not listeners"),
                entity("subscription_index/key.json", {"application": "a"}),
                text("subscriptions/dummy", "[]"),
                text("other/x.json", "not JSON"),
            ]
        )
    )
    assert contents.counts() == {
        "users": 0,
        "applications": 0,
        "subscriptions": 0,
        "approvals": 2,
        "verifications": 2,
        "webhooks": 1,
    }
    assert contents.files == 12


def test_an_application_may_have_a_name_like_an_index() -> None:
    members = [entity("applications/_mine.json", {}), entity("applications/_index.json", [])]
    assert inspect(sealed(members)).applications == 1


@pytest.mark.parametrize("user", ["u" * 140, "ü" * 70], ids=["ascii", "utf-8"])
@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_long_name_is_read_in_either_format(user: str, tar_format: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tar_format) as tar:
        info = tarfile.TarInfo(f"users/{user}.json")
        info.mtime = 1.5  # pax writes the fraction to a header
        info.size = 2
        tar.addfile(info, io.BytesIO(b"{}"))
        tar.addfile(tarfile.TarInfo("users/short.json.not"))
    data = encrypted(gzip.compress(out.getvalue()))
    assert list(archive.entity_digests(io.BytesIO(data), KEY)) == [f"users/{user}"]


def test_a_name_in_two_parts_is_read() -> None:
    out = io.BytesIO()
    name = f"tmp/{'d' * 80}/{'f' * 90}"
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo(name))
    stream = tar_stream.Gunzip([gzip.compress(out.getvalue())], 1 << 20)
    assert [member.name for member in tar_stream.TarStream(stream)] == [name]


def test_a_tar_of_the_folder_itself_is_read() -> None:
    contents = inspect(sealed([folder("."), folder("./users"), entity("./users/1.json", {})]))
    assert contents.users == 1


def test_a_long_name_makes_no_other_member_long() -> None:
    members = [entity(f"users/{'u' * 140}.json", {}), entity("users/short.json", {})]
    data = sealed(members)
    names = archive.entity_digests(io.BytesIO(data), KEY)
    assert list(names) == [f"users/{'u' * 140}", "users/short"]


# What two archives differ by


def test_a_difference_names_what_came_went_and_changed() -> None:
    older = [
        *portal_members(3, {"app": [("brilliant", "basic"), ("partner", "basic")]}),
        entity("approvals/_index.json.not", []),
    ]
    newer = [
        *portal_members(2, {"app": [("brilliant", "unlimited"), ("orders", "basic")]}),
        entity("users/new.json", {}),
    ]
    difference = archive.compare(
        archive.entity_digests(io.BytesIO(sealed(older)), KEY),
        archive.entity_digests(io.BytesIO(sealed(newer)), KEY),
    )
    assert difference == archive.Difference(
        added=["subscriptions/app/orders", "users/new"],
        changed=["subscriptions/app/brilliant"],
        removed=["subscriptions/app/partner", "users/user-2"],
    )
    assert difference


def test_order_of_keys_and_white_space_are_no_difference() -> None:
    one = sealed([text("users/1.json", '{"a": 1, "b": {"c": "\\u00fc", "d": 2}}')])
    two = sealed([text("users/1.json", '{"b":{"d":2,"c":"ü"},\n"a":1}')])
    digests = [archive.entity_digests(io.BytesIO(data), KEY) for data in (one, two)]
    assert not archive.compare(*digests)


def test_entries_of_a_list_without_names_of_their_own_are_all_noted() -> None:
    entries: list[Any] = [{}, {"id": 1}, {"id": "a"}, {"id": "a", "x": 1}, {"id": "\x1b[31m"}]
    members = [entity("approvals/_index.json", entries)]
    names = list(archive.entity_digests(io.BytesIO(sealed(members)), KEY))
    assert names == [
        "approvals/#1",
        "approvals/#2",
        "approvals/a",
        "approvals/a (2)",
        "approvals/#5",
    ]


# What is no archive, or not all of it


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"Salt", "cut off"),
        (b"Salted__1234567", "cut off"),
        (b"Salted__12345678", "cut off"),
        (b"Salted__12345678" + bytes(15), "cut off"),
        (b"  \n<!doctype html><html>503</html>", "looks like an HTML or XML page"),
        (b'{"message": "no"}', "looks like JSON"),
        (gzip.compress(b""), "looks like an unencrypted gzip file"),
        (b"U2FsdGVkX1+abcdefgh", "looks like an encrypted file in base64"),
        (b"PK\x03\x04", "looks like a zip file"),
        (b"\x00\x01\x02" * 50, "does not begin as openssl's"),
        (b"Salted__12345678" + bytes(16), "cannot be decrypted with this deployment key"),
    ],
    ids=itertools.count(),
)
def test_what_is_no_archive_is_called_what_it_is(data: bytes, said: str) -> None:
    assert said in refusal(data)


def test_every_cut_of_an_archive_is_noticed() -> None:
    data = with_extra()
    for length in range(len(data)):
        refusal(data[:length])


def test_an_archive_of_another_length_than_announced_is_refused() -> None:
    data = with_extra()
    with pytest.raises(archive.ArchiveError, match="bytes where"):
        archive.inspect(io.BytesIO(data), KEY, size=len(data) + 16)


def test_an_archive_that_shrinks_while_it_is_read_is_refused() -> None:
    class Shrinking(io.BytesIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            return super().seek(offset, whence) if whence == 0 else len(self.getvalue()) + 16

    data = with_extra()
    with pytest.raises(archive.ArchiveError, match="became shorter"):
        archive.inspect(Shrinking(data), KEY, size=len(data) + 16)


def test_a_source_that_gives_a_few_bytes_at_a_time_is_read() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size, 7) if size and size > 0 else size)

    data = with_extra()
    assert archive.inspect(Slow(data), KEY, size=len(data)).users == 3


def test_a_changed_byte_at_the_end_is_noticed() -> None:
    data = bytearray(with_extra())
    data[-1] ^= 1
    # Once in 256 times the garbage ends like a last block: then the archive inside ends too early.
    assert re.search("is damaged|is cut off", refusal(bytes(data)))


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        (gzip.compress(tar_of(list(portal_members()))) + b"x", "follows the end of its gzip"),
        (gzip.compress(tar_of(list(portal_members()))) * 2, "follows the end of its gzip"),
        (gzip.compress(tar_of(list(portal_members())))[:-1], "ends too early"),
        (gzip.compress(tar_of(list(portal_members())) + b"x"), "follows the end of its tar"),
        (gzip.compress(tar_of(list(portal_members()))[:-10240]), "ends too early"),
        (gzip.compress(b""), "ends too early"),
        (gzip.compress(bytes(10240)), "none of an export's folders"),
        (gzip.compress(tar_of([text("notes.txt", "")])), "none of an export's folders"),
        (gzip.compress(tar_of([text("users", "")])), "none of an export's folders"),
        (gzip.compress(bytes(512) + b"x" * 512), "follows the end of its tar"),
        (gzip.compress(b"no tar at all" * 100), "cannot be read"),
        (b"\x1f\x8b\x08\x00" + bytes(100), "compressed data cannot be read"),
    ],
    ids=itertools.count(),
)
def test_what_is_damaged_inside_is_said(plain: bytes, said: str) -> None:
    # The tar's last block is cut to where zeros begin, so that "ends too early" is about the tar.
    assert said in refusal(encrypted(plain))


def test_a_damaged_header_in_the_middle_is_not_the_end() -> None:
    tar = bytearray(tar_of(list(portal_members())))
    tar[512 * 3] ^= 1
    assert "checksum" in refusal(encrypted(gzip.compress(bytes(tar))))


def test_the_crc_of_gzip_is_checked() -> None:
    zipped = bytearray(gzip.compress(tar_of(list(portal_members()))))
    zipped[-8] ^= 1
    assert "compressed data cannot be read" in refusal(encrypted(bytes(zipped)))


def test_padding_of_a_whole_block_is_read() -> None:
    lengths = set()
    for filler in range(16):
        zipped = io.BytesIO()
        with gzip.GzipFile("x" * (filler + 1), "wb", fileobj=zipped) as file:
            file.write(tar_of(list(portal_members())))
        lengths.add(len(zipped.getvalue()) % 16)
        assert inspect(encrypted(zipped.getvalue())).users == 3
    assert lengths == set(range(16))


# What is hostile


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (text("../etc/passwd", ""), "has '..' in its name"),
        (text("users/../../x.json", "{}"), "has '..' in its name"),
        (folder(".."), "has '..' in its name"),
        (text("./../x", ""), "has '..' in its name"),
        (text("/etc/passwd", ""), "absolute"),
        (text(".//etc/passwd", ""), "absolute"),
        (folder("/"), "has no name"),
        (text("users\\x.json", "{}"), "backslash"),
        (text("users/a\nb.json", "{}"), "control character"),
        (text("users/\x1b[2Jb.json", "{}"), "control character"),
        (text("users/\x7fb.json", "{}"), "control character"),
        (text("users//x.json", "{}"), "empty part"),
        (text("users/./x.json", "{}"), "empty part"),
        (text("users/x/", ""), "empty part"),
        (text("", ""), "has no name"),
        (text("./", ""), "has no name"),
        (text("n" * 5000, ""), "more than 4096"),
        (text("users/user-0.json", "{}"), "two members called 'users/user-0.json'"),
        (text("./users/user-0.json", "{}"), "two members called 'users/user-0.json'"),
        (folder("users"), "two members called 'users'"),
        (symlink("users/link.json", "/etc/passwd"), "a symbolic link"),
        (symlink("u" * 120, "t" * 120), "a link"),
        (hardlink("users/link.json", "users/user-0.json"), "a hard link"),
        (Member("tmp/dev", type=tarfile.CHRTYPE), "a device"),
        (Member("tmp/dev", type=tarfile.BLKTYPE), "a device"),
        (Member("tmp/pipe", type=tarfile.FIFOTYPE), "a named pipe"),
        (Member("tmp/sparse", type=tarfile.GNUTYPE_SPARSE), "a sparse file"),
        (Member("tmp/what", type=b"7"), "neither a file nor a folder"),
    ],
    ids=lambda value: None if isinstance(value, str) else f"{value.name[:20]!a}{value.type!r}",
)
def test_an_unsafe_member_is_refused(member: Member, said: str) -> None:
    message = refusal(with_extra(member))
    assert said in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("{} x", "is not JSON"),
        ('{"a": NaN}', "is not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "is not JSON"),
        ("[]", "is not a JSON object"),
        ('"text"', "is not a JSON object"),
        ("null", "is not a JSON object"),
        ('{"a": ' * 100_000, "is nested too deeply"),
        ("[" + "[]," * 600_000, "holds more than 500000 values"),
        (" " * (16 << 20) + "{}", "is larger than 16 MiB"),
    ],
    ids=lambda value: value[:20],
)
def test_an_entity_that_is_none_is_named(content: str, said: str) -> None:
    assert f"its member 'users/bad.json' {said}" in refusal(
        with_extra(text("users/bad.json", content))
    )


def test_an_entity_in_another_encoding_is_named() -> None:
    bad = Member("users/bad.json", '{"name": "Jürgen"}'.encode("latin-1"))
    assert "'users/bad.json' is not JSON" in refusal(with_extra(bad))


@pytest.mark.parametrize(
    "name", ["subscriptions/x.subs.json", "webhooks/_listeners.json", "approvals/_index.json"]
)
@pytest.mark.parametrize(
    ("content", "said"),
    [("{}", "is not a JSON list"), ("[1]", "lists something else"), ("[[]]", "lists something")],
)
def test_a_list_that_is_none_is_named(name: str, content: str, said: str) -> None:
    assert f"its member '{name}' {said}" in refusal(sealed([folder("users"), text(name, content)]))


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    path = tmp_path / "bomb.enc"
    make_archive(path, members=[bomb(size=300 << 20)])
    assert path.stat().st_size < 3 << 20
    with path.open("rb") as source:
        tracemalloc.start()
        try:
            with pytest.raises(archive.ArchiveError, match="decompresses to more than 268435456"):
                archive.inspect(source, KEY, size=path.stat().st_size)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 32 << 20


def test_the_limit_can_be_given() -> None:
    data = with_extra(bomb(size=1 << 20))
    assert "more than 1048576 bytes" in refusal(data, limit=1 << 20)
    assert inspect(data, limit=2 << 20).users == 3


def test_a_large_member_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.enc"
    make_archive(path, members=[bomb(size=64 << 20)])
    with path.open("rb") as source:
        tracemalloc.start()
        try:
            contents = archive.inspect(source, KEY, size=path.stat().st_size)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert contents.uncompressed_size > 64 << 20
    assert peak < 32 << 20


def test_too_many_members_are_refused() -> None:
    tar = tar_of([folder(f"d{number}") for number in range(12)])
    with pytest.raises(archive.ArchiveError, match="more than 10 members"):
        list(tar_stream.TarStream(tar_stream.Gunzip([gzip.compress(tar)], 1 << 20), 10))


def header(kind: bytes, data: bytes, *, size: int | None = None) -> bytes:
    info = tarfile.TarInfo("extended")
    info.type = kind
    info.size = len(data) if size is None else size
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def pax(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (header(b"L", b"", size=1 << 40), "extended header claims 1099511627776 bytes"),
        (header(b"x", b"", size=(1 << 20) + 1), "extended header claims 1048577 bytes"),
        (header(b"L", b"users/a\0") * 2, "twice"),
        (header(b"L", b"users/a\0") + header(b"x", pax("path", "users/b")), "twice"),
        (header(b"L", b"users/a\0b\0"), "control character"),
        (header(b"L", b"users/\xff\0"), "not UTF-8"),
        (header(b"x", pax("path", "/etc/passwd")), "absolute"),
        (header(b"x", pax("path", "users/a\0b")), "control character"),
        (header(b"x", pax("path", "")), "without a name"),
        (header(b"L", b""), "without a name"),
        (header(b"L", b"\0"), "without a name"),
        (header(b"x", pax("path", "a") + pax("path", "b")), "carries 'path'"),
        (header(b"x", pax("size", "0")), "carries 'size'"),
        (header(b"x", pax("linkpath", "x")), "carries 'linkpath'"),
        (header(b"x", pax("GNU.sparse.major", "1")), "carries 'GNU.sparse.major'"),
        (header(b"x", pax("hdrcharset", "BINARY")), "carries 'hdrcharset'"),
        (header(b"x", b"9999999 path=x\n"), "extended header cannot be read"),
        (header(b"x", b"3 a\n"), "extended header cannot be read"),
        (header(b"x", b"nonsense"), "extended header cannot be read"),
        (header(b"g", pax("path", "users/all.json")), "all members one name"),
        (header(b"g", pax("comment", "x")) * 40, "more than 10 members"),
        (header(b"L", b"users/a\0") + bytes(1024), "follows the end of its tar"),
    ],
)
def test_a_hostile_extended_header_is_refused(start: bytes, said: str) -> None:
    data = gzip.compress(start + tar_of([text("users/a.json", "{}")]))
    with pytest.raises(archive.ArchiveError) as caught:
        list(tar_stream.TarStream(tar_stream.Gunzip([data], 1 << 20), 10))
    assert said in str(caught.value)


def test_harmless_extended_headers_are_read() -> None:
    start = header(b"g", pax("comment", "x")) + header(
        b"x", pax("mtime", "1.5") + pax("SCHILY.xattr.user.a", "b") + pax("path", "users/b.json")
    )
    plain = gzip.compress(start + tar_of([text("users/a.json", "{}")]))
    assert list(archive.entity_digests(io.BytesIO(encrypted(plain)), KEY)) == ["users/b"]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        (slice(124, 136), b"-0000000001\0", "a number in a tar header"),
        (slice(124, 136), b"0000000_001\0", "a number in a tar header"),
        (slice(124, 136), b"\xff" * 12, "a number in a tar header"),
        (slice(124, 136), b"\0" * 12, "a number in a tar header"),
        (slice(124, 136), b"\x80" + b"\xff" * 11, "ends too early"),
        (slice(257, 265), bytes(8), "neither POSIX's nor GNU's"),
        (slice(0, 6), b"user\xff/", "not UTF-8"),
        (slice(345, 350), b"../..", "readers differ"),
    ],
)
def test_a_strange_header_is_refused(field: slice, value: bytes, said: str) -> None:
    tar = bytearray(tar_of([text("tmp_users/a.json", "{}")]))
    tar[field] = value
    checksum = sum(tar[:148]) + 8 * ord(" ") + sum(tar[156:512])
    tar[148:156] = b"%06o\0 " % checksum
    assert said in refusal(encrypted(gzip.compress(bytes(tar))))


def test_a_folder_with_content_is_refused() -> None:
    tar = header(tarfile.DIRTYPE, b"x" * 10) + bytes(1024)
    assert "has content" in refusal(encrypted(gzip.compress(tar)))


# Keys


def test_a_key_of_any_bytes_is_used_and_never_shown() -> None:
    key = "pässwörd ☃ \udcff"
    out = io.BytesIO()
    # The bytes that openssl gets as an argument; the support's encrypt() takes proper text.
    plain = gzip.compress(tar_of(list(portal_members())))
    pass_phrase, salt = key.encode("utf-8", "surrogateescape"), b"12345678"
    aes_key, vector = openssl_enc.bytes_to_key("sha256", pass_phrase, salt)
    out.write(b"Salted__" + salt + _aes(aes_key, vector, plain))
    assert inspect(out.getvalue(), key).users == 3


def test_a_key_that_is_no_text_is_refused_without_showing_it() -> None:
    with pytest.raises(archive.ArchiveError, match="not valid text") as caught:
        inspect(with_extra(), "secret\ud800")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_the_derivation_is_openssls() -> None:
    # Written by: openssl enc -aes-256-cbc -k KEY -S 0102030405060708 -P -md DIGEST
    salt = bytes(range(1, 9))
    assert {
        digest: [part.hex().upper() for part in openssl_enc.bytes_to_key(digest, b"KEY", salt)]
        for digest in ("sha256", "md5")
    } == {
        "sha256": [
            "6FA6AFC3777837BA46BFAAA6677161228C5D70574CF9127C340946A45E4AAA28",
            "F2C96E991827D2845E9A21F7E281B1BE",
        ],
        "md5": [
            "0A7CB2145F68D1FC921CE9D003D8BFF2610FF4DA82A79057D9FF4C67C85DF1C4",
            "B9D515DA1DFCF4A59020544656279BC3",
        ],
    }


@pytest.mark.parametrize("tail", [b"\0", b"\x11", b"\2\1", b"\3\2\3"])
def test_a_wrong_padding_is_refused(tail: bytes) -> None:
    zipped = gzip.compress(tar_of(list(portal_members())))
    block = bytes(16 - (len(zipped) + len(tail)) % 16) + tail
    aes_key, vector = openssl_enc.bytes_to_key("sha256", KEY.encode(), bytes(8))
    data = b"Salted__" + bytes(8) + _aes(aes_key, vector, zipped + block, pad=False)
    assert "damaged" in refusal(data)


def test_without_cryptography_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssl_enc, "CRYPTOGRAPHY_IMPORT_ERROR", "Traceback: ...")
    assert "cryptography" in refusal(with_extra())


def test_an_archive_error_is_a_delivery_error() -> None:
    assert issubclass(archive.ArchiveError, DeliveryError)


def _aes(key: bytes, vector: bytes, plain: bytes, *, pad: bool = True) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    if pad:
        count = 16 - len(plain) % 16
        plain += bytes([count]) * count
    encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    return encryptor.update(plain) + encryptor.finalize()
