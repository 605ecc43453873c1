# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The secrets that compose files hold themselves, so that no output shows them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..redaction import KNOWN, names_secret, passwords_in

NAMES = re.compile(r"[^A-Za-z0-9]+")


def learn_secrets(model: Mapping[str, Any]) -> None:
    """Hide what a model has for secrets from now on, but for words that name its own parts.

    A password that is the name of the project, as in examples, would make all output unreadable.
    """
    specs: Mapping[str, Any] = model.get("services") or {}
    named = {model.get("name"), *specs}
    for spec in specs.values():
        named |= {*NAMES.split(str(spec.get("image") or "")), spec.get("container_name")}
    KNOWN.learn(secret for secret in _secrets(model) if secret not in named)


def _secrets(model: Mapping[str, Any]) -> Iterator[str]:
    for spec in (model.get("services") or {}).values():
        build = spec.get("build") or {}
        for settings in (spec.get("environment") or {}, build.get("args") or {}):
            for name, value in settings.items():
                text = "" if value is None else str(value).replace("$$", "$")
                if names_secret(name):
                    yield text
                yield from passwords_in(text)
    for secret in (model.get("secrets") or {}).values():
        yield str((secret or {}).get("content") or "")
