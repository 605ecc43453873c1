# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The digest that compose labels containers with, for configurations it does not tell it for.

``docker compose config --hash`` knows the configuration as it is written. The container's label is
made of what was resolved: ``volumes_from: [data]`` has become the container's id by then. Compose
takes SHA-256 of the service as compact JSON, without what does not make a container differ. Which
parts these are depends on its version, so they are found out by trying which give the known digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Go escapes these in JSON.
ESCAPED = {"&": "\\u0026", "<": "\\u003c", ">": "\\u003e", "\u2028": "\\u2028", "\u2029": "\\u2029"}
LEFT_OUT = (
    ("build", "pull_policy", "scale"),
    ("build", "pull_policy", "scale", "depends_on", "profiles"),
    ("build", "pull_policy", "scale", "depends_on"),
)


def unescaped(value: Any) -> Any:
    """Return a rendered configuration with ``$$`` as the single character that it stands for."""
    if isinstance(value, str):
        return value.replace("$$", "$")
    if isinstance(value, Mapping):
        return {unescaped(name): unescaped(item) for name, item in value.items()}
    if isinstance(value, list):
        return [unescaped(item) for item in value]
    return value


def digest(spec: Mapping[str, Any], left_out: tuple[str, ...]) -> str:
    """Return the digest of a service as compose renders it, in the order that it renders it."""
    kept = {name: value for name, value in spec.items() if name not in left_out}
    if isinstance(kept.get("deploy"), Mapping):
        kept["deploy"] = {k: v for k, v in kept["deploy"].items() if k != "replicas"}
    text = json.dumps(unescaped(kept), separators=(",", ":"), ensure_ascii=False)
    for character, escape in ESCAPED.items():
        text = text.replace(character, escape)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Hashing:
    """Computes compose's digests; ``known`` is false for a version that takes them otherwise."""

    left_out: tuple[str, ...]
    known: bool

    @classmethod
    def found(cls, specs: Mapping[str, Mapping[str, Any]], hashes: Mapping[str, str]) -> Hashing:
        """Find out how this version takes them from the digests that it told itself."""
        for left_out in LEFT_OUT:
            if all(digest(spec, left_out) == hashes[name] for name, spec in specs.items()):
                return cls(left_out, True)
        return cls(LEFT_OUT[0], False)

    def of(self, spec: Mapping[str, Any]) -> str:
        """Return the digest of *spec*."""
        return digest(spec, self.left_out)
