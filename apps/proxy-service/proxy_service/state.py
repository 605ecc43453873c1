# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that remembers the services over a restart."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .target import Target, check_name


class RegistryError(Exception):
    """The registry's file cannot be used; the text is one sentence for a person."""


@dataclass
class State:
    """What the file says: addresses and generation of each service, and the last generation."""

    generation: int
    services: dict[str, list[str]]
    generations: dict[str, int]


def load(path: Path) -> State:
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        state = State(_number(data.get("generation", 0)), {}, {})
        for name, entry in data["services"].items():
            # One address stands alone, as in files that are older than several.
            urls = [entry] if isinstance(entry, str) else list(entry)
            if not urls or len(set(urls)) != len(urls):
                raise ValueError
            for url in urls:
                Target(url)
            state.services[check_name(name)] = urls
        for name, number in data.get("generations", {}).items():
            state.generations[name] = min(_number(number), state.generation)
    except OSError as exc:
        raise RegistryError(f"The registry {path} cannot be read: {exc.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RegistryError(
            f"The registry {path} is damaged; repair it or move it away, for starting without it "
            "would drop every registered service."
        ) from None
    return state


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError
    return value


def save(path: Path, state: State) -> None:
    document = {
        "version": 1,
        "generation": state.generation,
        "services": {
            name: urls[0] if len(urls) == 1 else urls for name, urls in state.services.items()
        },
        "generations": state.generations,
    }
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    try:
        write_atomically(path, text)
    except OSError as exc:
        raise RegistryError(f"The registry {path} cannot be written: {exc.strerror}.") from None


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text`, mode 0644, durable on return; raises OSError."""
    with _temporary(path.parent) as (handle, name):
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(name).replace(path)
    # The rename itself is durable only once the folder is.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _temporary(folder: Path) -> Iterator[tuple[int, str]]:
    handle, name = tempfile.mkstemp(prefix=".registry-", dir=folder)
    try:
        yield handle, name
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
