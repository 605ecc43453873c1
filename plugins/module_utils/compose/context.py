# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The digest of what an image is built from.

It is put on the image as a label, so that a later run, and check mode, can tell without building
whether a build would change anything. What is ignored is taken from ``.dockerignore`` as the
builder takes it: the last pattern that matches decides.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import DeliveryError

LABEL = "immutable.delivery.context"
FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)", re.IGNORECASE | re.MULTILINE)
ARG = re.compile(r"^\s*ARG\s+(\w+)(?:=(\S+))?", re.IGNORECASE | re.MULTILINE)
VARIABLE = re.compile(r"\$(?:\{(\w+)[^}]*\}|(\w+))")
CHUNK = 1 << 20


class NoContext(DeliveryError):
    """What an image shall be built from is missing or cannot be read."""

    kind = "context"


def context_digest(
    build: Mapping[str, Any], image_id: Callable[[str], str | None] = lambda name: None
) -> str | None:
    """Return the digest of a service's ``build``; None where it is built from afar.

    :param image_id: returns the engine's id for the name of an image to build on.
    :raises NoContext: the folder or the Dockerfile is missing.
    """
    folder = Path(build.get("context", "."))
    if "://" in str(build.get("context")) or not folder.is_absolute():
        return None
    if not folder.is_dir():
        raise NoContext(f"the build context is no folder: {folder}")
    # Where the project lies does not matter to what is built.
    told = {k: v for k, v in build.items() if k not in {"context", "labels", "tags", "cache_from"}}
    hashed: Any = hashlib.sha256()
    text: str | None = build.get("dockerfile_inline")
    dockerfile = folder / build.get("dockerfile", "Dockerfile")
    if text is None:
        told.pop("dockerfile", None)
        try:
            text = dockerfile.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise NoContext(f"cannot read {dockerfile}: {error.strerror}") from error
    _add(hashed, "dockerfile", text)
    for base in bases(text, build.get("args") or {}):
        _add(hashed, base, image_id(base) or "")
    extra = told.pop("additional_contexts", None) or {}
    for name, place in sorted(extra.items()):
        _add(hashed, name, "" if Path(place).is_dir() else place)
        if Path(place).is_dir():
            _add_folder(hashed, Path(place), [])
    _add(hashed, "build", json.dumps(told, sort_keys=True))
    _add_folder(hashed, folder, ignored_by(folder, dockerfile))
    return str(hashed.hexdigest())


def bases(text: str, args: Mapping[str, Any]) -> list[str]:
    """Return the images that a Dockerfile builds on, with its arguments put in."""
    values = {name: default for name, default in ARG.findall(text) if default}
    values.update({name: str(value) for name, value in args.items() if value is not None})

    def value(found: re.Match[str]) -> str:
        return str(values.get(found[1] or found[2], "")).strip("\"'")

    return [VARIABLE.sub(value, name) for name in FROM.findall(text)]


def ignored_by(folder: Path, dockerfile: Path) -> list[str]:
    """Return the patterns of the file that says what to leave out."""
    for file in (Path(f"{dockerfile}.dockerignore"), folder / ".dockerignore"):
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return []


def ignored(path: str, patterns: Sequence[str]) -> bool:
    """Tell whether the last pattern that matches *path*, or a folder above it, leaves it out."""
    left_out = False
    for pattern in patterns:
        kept = pattern.startswith("!")
        if kept != left_out:  # it would change nothing
            continue
        bare = pattern.removeprefix("!").strip().strip("/")
        bare = os.path.normpath(bare) if bare else bare
        if bare in {"", "."}:
            continue
        if _expression(bare).match(path):
            left_out = not kept
    return left_out


@lru_cache(maxsize=512)
def _expression(pattern: str) -> re.Pattern[str]:
    """Return what matches a pattern's paths and all below them."""
    parts = []
    rest = pattern
    while rest:
        if rest.startswith("**"):
            rest = rest[2:]
            if rest.startswith("/"):
                rest = rest[1:]
                parts.append("(?:.*/)?")
            else:
                parts.append(".*")
        elif rest[0] == "[" and "]" in rest:
            inside, _bracket, rest = rest[1:].partition("]")
            parts.append(f"[{inside}]")
        else:
            one = {"*": "[^/]*", "?": "[^/]"}.get(rest[0])
            parts.append(one or re.escape(rest[0]))
            rest = rest[1:]
    return re.compile("".join(parts) + r"(?:/.*)?\Z", re.DOTALL)


def _add(hashed: Any, name: str, value: str) -> None:
    for text in (name, value):
        data = text.encode(errors="surrogateescape")
        hashed.update(f"{len(data)}:".encode())
        hashed.update(data)


def _add_folder(hashed: Any, folder: Path, patterns: Sequence[str]) -> None:
    for path in _files(folder):
        relative = path.relative_to(folder).as_posix()
        if ignored(relative, patterns):
            continue
        try:
            if path.is_symlink():
                _add(hashed, relative, f"link {path.readlink()}")
                continue
            _add(hashed, relative, f"{path.stat().st_mode:o}")
            if path.is_file():
                with path.open("rb") as file:
                    while data := file.read(CHUNK):
                        hashed.update(data)
        except OSError as error:
            raise NoContext(f"cannot read {path} to build from it: {error.strerror}") from error


def _files(folder: Path) -> Iterator[Path]:
    """Yield all below *folder* in an order that does not depend on the disk."""
    for root, folders, files in os.walk(folder):
        folders.sort()
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        for name in sorted([*files, *links, *[f for f in folders if f not in links]]):
            yield Path(root) / name
