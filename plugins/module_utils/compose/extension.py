# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``x-delivery`` in compose files: what services and volumes say of their replacement.

Compose leaves extensions out of the JSON that it renders, and out of its digests, so they are read
from what it renders as YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import enumerate_words
from .cli import Compose, ComposeError

try:
    import yaml
except ImportError:  # it is needed only where the extension is used
    yaml = None  # type: ignore[assignment]

KEY = "x-delivery"
SERVICE_KEYS: Mapping[str, type] = {"strategy": str, "shared": bool}
VOLUME_KEYS: Mapping[str, type] = {"shared": bool}
# What has names of its users' choice.
FREE = ("environment", "labels", "annotations", "sysctls", "driver_opts")


class BadExtension(ComposeError):
    """``x-delivery`` holds what it cannot."""

    kind = "bad_extension"


@dataclass(frozen=True)
class Extensions:
    """What ``x-delivery`` says, by service and by volume (its key in the file)."""

    services: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    volumes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def strategies(self) -> dict[str, str]:
        """The strategies that services name."""
        return {name: one["strategy"] for name, one in self.services.items() if "strategy" in one}

    @property
    def shared(self) -> frozenset[str]:
        """The services and volumes that several containers may write to at a time."""
        both = [*self.services.items(), *self.volumes.items()]
        return frozenset(name for name, one in both if one.get("shared"))


def read_extensions(compose: Compose) -> Extensions:
    """Read ``x-delivery`` of a project's services and volumes.

    :raises BadExtension: one of them cannot be used.
    """
    text, _warnings = compose.read("config")
    if KEY not in text:
        return Extensions()
    if yaml is None:
        raise BadExtension(
            f"the compose files have {KEY}, and Python here lacks PyYAML to read it",
            next_step="Install python3-yaml where the task runs, or use the options strategies "
            "and shared instead.",
        )
    document = yaml.safe_load(text) or {}
    found = Extensions(
        _checked(document.get("services"), "service", SERVICE_KEYS),
        _checked(document.get("volumes"), "volume", VOLUME_KEYS),
    )
    _check_places(document, found)
    return found


def _check_places(document: Mapping[str, Any], found: Extensions) -> None:
    """Make sure that nothing is said where nobody reads it.

    At the top of a file it may be what services and volumes refer to by an anchor.

    :raises BadExtension: it is.
    """
    wrong = [
        f"in {name}"
        for kind in ("services", "volumes")
        for name, entry in (document.get(kind) or {}).items()
        for key, value in (entry or {}).items()
        if key not in {KEY, *FREE} and _has_key(value)
    ]
    if KEY in document and not found.services and not found.volumes:
        wrong.append("at the top of the file")
    if wrong:
        raise BadExtension(
            f"{KEY} {wrong[0]} is at a place where it says nothing",
            next_step="Write it directly below a service or a volume.",
        )


def _has_key(value: Any) -> bool:
    if isinstance(value, Mapping):
        return KEY in value or any(map(_has_key, value.values()))
    return isinstance(value, list) and any(map(_has_key, value))


def _checked(
    entries: Mapping[str, Any] | None, kind: str, keys: Mapping[str, type]
) -> dict[str, Mapping[str, Any]]:
    found = {}
    for name, entry in (entries or {}).items():
        given = (entry or {}).get(KEY)
        if given is None:
            continue
        where = f"{KEY} of {kind} {name}"
        if not isinstance(given, Mapping):
            raise BadExtension(f"{where} is not a mapping", next_step=_allowed(keys))
        if unknown := sorted(str(key) for key in set(given) - set(keys)):
            raise BadExtension(f"{where} has {enumerate_words(unknown)}", next_step=_allowed(keys))
        for key, value in given.items():
            if not isinstance(value, keys[key]):
                word = "true or false" if keys[key] is bool else "a word"
                raise BadExtension(f"{key} in {where} is not {word}", next_step=_allowed(keys))
        found[name] = given
    return found


def _allowed(keys: Mapping[str, type]) -> str:
    return f"It may have {enumerate_words(sorted(keys))}."
