# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``docker compose config`` renders, made such that compose reads it as it was meant: pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from .cli import ComposeError

try:
    import yaml
except ImportError:
    HAS_YAML = False
else:
    HAS_YAML = True

# What stands for bytes that are no UTF-8.
REPLACEMENT = "\ufffd"


def parse_model(text: str) -> dict[str, Any]:
    """Read the model. Compose 2.25.0 prints YAML when asked for JSON.

    :raises ComposeError: it is neither, or YAML that cannot be read here.
    """
    with suppress(ValueError):
        return dict(json.loads(text))
    if not HAS_YAML:
        raise ComposeError(
            "docker compose printed YAML when asked for JSON, as version 2.25.0 does",
            next_step="Install another version of docker compose, or PyYAML for this Python.",
        )
    try:
        return dict(yaml.safe_load(text))
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise ComposeError(
            "cannot read what docker compose config printed: it is neither JSON nor YAML",
            next_step="Run 'docker compose config --format json', and fix what it reports.",
        ) from error


def as_written(value: Any) -> Any:
    """Return *value* with the names in it as the files have them.

    Compose doubles each ``$`` that it renders, and halves those in values only when it reads them.
    """
    if isinstance(value, Mapping):
        return {str(n).replace("$$", "$"): as_written(item) for n, item in value.items()}
    if isinstance(value, list):
        return [as_written(item) for item in value]
    return value


def repair(spec: dict[str, Any], services: Mapping[str, Any]) -> None:
    """Make a rendered service one that compose reads: it leaves out zeros that it requires.

    An optional dependency on a service of a profile that is not enabled is none.
    """
    for name, limit in (spec.get("ulimits") or {}).items():
        if isinstance(limit, Mapping):
            spec["ulimits"] = {**spec["ulimits"], name: {"soft": 0, "hard": 0, **limit}}
    for name, devices in (spec.get("blkio_config") or {}).items():
        if isinstance(devices, list):
            # Path and Rate, in JSON.
            lower = [{key.lower(): value for key, value in one.items()} for one in devices]
            spec["blkio_config"] = {**spec["blkio_config"], name: lower}
    if isinstance(spec.get("build"), Mapping) and spec["build"].get("ssh"):
        keys = [key.replace(": ", "=", 1) for key in spec["build"]["ssh"]]
        spec["build"] = {**spec["build"], "ssh": keys}
    needs = spec.get("depends_on")
    if needs:
        kept = {name: how for name, how in needs.items() if name in services}
        spec["depends_on"] = kept
        if not kept:
            del spec["depends_on"]


def check_text(model: Mapping[str, Any]) -> None:
    """Make sure that all text was UTF-8 where it came from.

    :raises ComposeError: it was not; containers would get other bytes than the files have.
    """
    for path in _replaced(model, ()):
        raise ComposeError(
            f"{'.'.join(path)} holds bytes that are not UTF-8, which containers would not get "
            "as they are",
            next_step="Save the compose and env files as UTF-8.",
        )


def _replaced(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _replaced(name, path)
            yield from _replaced(item, (*path, str(name)))
    elif isinstance(value, list):
        for item in value:
            yield from _replaced(item, path)
    elif isinstance(value, str) and REPLACEMENT in value:
        yield path
