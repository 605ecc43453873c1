# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of every module, as the modules themselves hand them to Ansible."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from ansible.module_utils import basic

MODULES = Path(__file__).resolve().parents[2] / "plugins" / "modules"
PACKAGE = "ansible_collections.immutable.delivery.plugins.modules"
Spec = Mapping[str, Mapping[str, Any]]
OptionPath = tuple[str, ...]


class _Seen(Exception):
    """A module has handed over its options."""


@cache
def spec_of(module: str) -> Spec:
    """The options of a module, those of the entries of its lists among them."""
    seen: list[Spec] = []

    def begin(self: Any, *_arguments: Any, argument_spec: Spec, **_more: Any) -> None:
        seen.append({**argument_spec, **getattr(self, "_shown_spec", {})})
        raise _Seen

    with mock.patch.object(basic.AnsibleModule, "__init__", begin):
        try:
            importlib.import_module(f"{PACKAGE}.{module}").main()
        except _Seen:
            return seen[0]
    raise AssertionError(f"{module} makes no module of its options")


def module_names() -> list[str]:
    """All modules of the collection."""
    return sorted(path.stem for path in MODULES.glob("[a-z]*.py"))


def walk(spec: Spec, above: OptionPath = ()) -> Iterator[tuple[OptionPath, Mapping[str, Any]]]:
    """Yield each option with the names that lead to it."""
    for name, option in spec.items():
        yield (*above, name), option
        if option.get("options"):
            yield from walk(option["options"], (*above, name))


def secret_paths(module: str) -> list[OptionPath]:
    """The options of a module that hold secrets; of a list of entries, what the entries hold."""
    return [
        path
        for path, option in walk(spec_of(module))
        if option.get("no_log") and not option.get("options")
    ]


def plant(module: str, arguments: dict[str, Any], path: OptionPath, value: Any) -> None:
    """Put *value* where *path* leads in the arguments; options above it that are needed, too."""
    spec, place = spec_of(module), arguments
    for name in path[:-1]:
        option = spec[name]
        spec = option["options"]
        if option.get("type") == "list":
            entries = place.setdefault(name, [{}])
            place = entries[0]
        else:
            place = place.setdefault(name, {})
        for inner, needed in spec.items():
            if needed.get("required"):
                place.setdefault(inner, _filler(needed))
    place[path[-1]] = value


def _filler(option: Mapping[str, Any]) -> Any:
    if option.get("choices"):
        return option["choices"][0]
    kinds = {"list": ["x"], "dict": {}, "int": 1, "float": 1.0, "bool": True, "path": "/nowhere"}
    return kinds.get(str(option.get("type")), "x")
