# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What several modules ask of the options that they were given: all raise :class:`BadOption`.

:param within: what comes before an option's name in messages, such as ``router.``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .errors import BadOption


def check_seconds(
    params: Mapping[str, Any],
    names: Iterable[str],
    within: str = "",
) -> None:
    """Refuse times that are negative, endless, or no number."""
    for name in names:
        if not 0 <= params[name] < float("inf"):
            raise BadOption(f"{within}{name} must not be less than 0 seconds, nor endless")


def check_least(
    params: Mapping[str, Any],
    name: str,
    least: int,
    within: str = "",
) -> None:
    """Refuse a number that is too small."""
    if params[name] < least:
        raise BadOption(f"{within}{name} must be at least {least}, not {params[name]}")


def check_paths(
    params: Mapping[str, Any],
    names: Iterable[str],
    within: str = "",
) -> None:
    """Refuse paths of addresses that begin with no slash; one that is not given is none."""
    for name in names:
        if params[name] and not params[name].startswith("/"):
            raise BadOption(f"{within}{name} must begin with a slash: {params[name]}")


def text_of(value: Any) -> str:
    """Return a variable's value as YAML writes it: a truth value as a word, null as nothing."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
