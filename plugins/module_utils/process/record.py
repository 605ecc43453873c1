# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is kept about a process between two runs of a module: ``process.json`` in its folder.

The environment is not in it, only a salted hash by which a later run can tell whether it is given
the same one. The file never says whether the process runs: the kernel does.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DeliveryError, cut_log
from ..identity import ProcessId, is_whole

RECORD = "process.json"
LOG = "process.log"
READY = "ready.json"
# Slow enough that short secrets are not simply tried out, should the file get about.
ROUNDS = 100_000
LIMIT = 1024 * 1024


@dataclass(frozen=True)
class Record:
    """One start of a process.

    :param argv: as given, with ``{ready_file}`` not yet replaced.
    :param environment: see :func:`digest`.
    :param started_at: ISO 8601, UTC; for people, and for the order of age.
    :param log_offset: where in the log this start begins, in bytes.
    """

    name: str
    argv: tuple[str, ...]
    cwd: str
    environment: str
    process: ProcessId
    started_at: str
    log_offset: int


@dataclass(frozen=True)
class Ready:
    """What a process wrote to its ready file."""

    url: str
    pid: int | None


def digest(environment: Mapping[str, str], salt: str | None = None) -> str:
    """Return ``SALT:HASH`` of *environment*, with a new salt where none is given."""
    salt = salt or secrets.token_hex(16)
    text = json.dumps(dict(environment), sort_keys=True)
    hashed = hashlib.pbkdf2_hmac("sha256", text.encode(), bytes.fromhex(salt), ROUNDS)
    return f"{salt}:{hashed.hex()}"


def same_environment(environment: Mapping[str, str], known: str) -> bool:
    """Tell whether *known* is the digest of *environment*."""
    try:
        return secrets.compare_digest(digest(environment, known.partition(":")[0]), known)
    except ValueError:
        return False


def read_record(folder: Path) -> Record | None:
    """Return the folder's record; None where it has none.

    :raises DeliveryError: there is one that cannot be read.
    """
    path = folder / RECORD
    try:
        if path.stat().st_size > LIMIT:
            raise ValueError("it is too long")
        return _parse(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DeliveryError(
            f"{path} cannot be read: {error}",
            next_step="If nothing of it runs any more, delete the folder.",
        ) from error


def _parse(values: Any) -> Record:
    if not isinstance(values, dict):
        raise ValueError("it is not the record of a process")
    argv, offset = values.get("argv"), values.get("log_offset")
    texts = [values.get(name) for name in ("name", "cwd", "environment", "started_at")]
    if (
        not isinstance(values.get("process"), dict)
        or not isinstance(argv, list)
        or not is_whole(offset)
        or not all(isinstance(text, str) for text in [*argv, *texts])
    ):
        raise ValueError("it is not the record of a process")
    return Record(
        name=values["name"],
        argv=tuple(argv),
        cwd=values["cwd"],
        environment=values["environment"],
        process=ProcessId.from_dict(values["process"]),
        started_at=values["started_at"],
        log_offset=offset,
    )


def write_record(folder: Path, record: Record) -> None:
    """Put the record into the folder, whole or not at all, mode 0600."""
    values = {
        "name": record.name,
        "argv": list(record.argv),
        "cwd": record.cwd,
        "environment": record.environment,
        "process": record.process.as_dict(),
        "started_at": record.started_at,
        "log_offset": record.log_offset,
    }
    part = folder / f".{RECORD}.{secrets.token_hex(8)}"
    try:
        with _private(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as handle:
            os.write(handle, (json.dumps(values, indent=2) + "\n").encode())
            os.fsync(handle)
        part.replace(folder / RECORD)
    finally:
        part.unlink(missing_ok=True)


def read_ready(folder: Path) -> Ready | None:
    """Return what the process wrote once it was ready; None while that is not there, or not whole.

    A program that does not write the file at one stroke is looked at again.
    """
    try:
        values = json.loads((folder / READY).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not isinstance(values.get("url"), str):
        return None
    pid = values.get("pid")
    return Ready(values["url"], pid if is_whole(pid) else None)


def last_lines(folder: Path, *, offset: int = 0) -> list[str]:
    """Return the last lines of the log after *offset*, without secrets."""
    try:
        with (folder / LOG).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            # A log that is shorter than it was has been emptied meanwhile.
            begin = offset if offset <= size else 0
            if size - 64 * 1024 > begin:
                begin = size - 64 * 1024
                file.seek(begin)
                # What is left of a line may begin with the rest of a secret.
                begin += len(file.readline())
            file.seek(begin)
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return cut_log(text.splitlines())


@contextmanager
def _private(path: Path, flags: int) -> Iterator[int]:
    handle = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, stat.S_IRUSR | stat.S_IWUSR)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def open_log(folder: Path) -> Iterator[int]:
    """Open the log to append to it, mode 0600."""
    with _private(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as handle:
        yield handle
