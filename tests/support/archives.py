# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Portal archives made and opened independently of the stand-in and of the collection."""

from __future__ import annotations

import io
import json
import tarfile

from .made_archives import decrypted

DATA_FOLDERS = ("applications", "subscriptions", "users")


def members(archive: bytes, key: str, digest: str = "sha256") -> dict[str, bytes | None]:
    """Name and content of every member (None: not a file)."""
    with tarfile.open(fileobj=io.BytesIO(decrypted(archive, key, digest)), mode="r:gz") as tar:
        return {
            member.name: content.read() if (content := tar.extractfile(member)) else None
            for member in tar
        }


def tar_of(files: dict[str, object], extra: list[tarfile.TarInfo] | None = None) -> bytes:
    """A gzipped tar with data's folders, files (bytes, or a value for JSON), and extra members."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        for folder in DATA_FOLDERS:
            info = tarfile.TarInfo(folder)
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
        for name, value in files.items():
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for info in extra or []:
            tar.addfile(info)
    return target.getvalue()


def user_files(count: int, name: str = "user") -> dict[str, object]:
    """count users as files of an archive."""
    return {
        f"users/{name}{number}.json": {
            "id": f"{name}{number}",
            "firstName": name,
            "lastName": str(number),
            "email": f"{name}{number}@example.org",
            "applications": [],
        }
        for number in range(count)
    }
