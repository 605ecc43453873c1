# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles name their own task files by full paths.

Ansible looks for a relative one beside the playbook as well, and from a task file in a subfolder of
the role it finds that one first: `import_tasks: deploy.yml` once found `playbooks/deploy.yml`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
INCLUDES = re.compile(r"(ansible\.(builtin|legacy)\.)?(include|import)_tasks|include")
OWN = "{{ role_path }}/tasks/"
# The user's own task files, which the roles refuse unless they are full paths.
HOOKS = re.compile(r"\{\{ (portal_blue_green|fleet)_\w+_tasks \}\}")
NAMES = re.compile(r"\{\{ \w+ \}\}")


def included(node: Any) -> Iterator[str]:
    """Yield the file of every task that includes one, at any depth."""
    if isinstance(node, list):
        for one in node:
            yield from included(one)
    elif isinstance(node, dict):
        for key, value in node.items():
            if INCLUDES.fullmatch(str(key)):
                yield value["file"] if isinstance(value, dict) else str(value)
            elif key in ("block", "rescue", "always"):
                yield from included(value)


def tasks_of_roles() -> list[Path]:
    files = ROOT.glob("roles/*/tasks/**/*.yml")
    return sorted([*files, *ROOT.glob("roles/*/handlers/**/*.yml")])


def test_included_task_files_are_full_paths_of_files_that_exist() -> None:
    wrong, seen = [], 0
    for file in tasks_of_roles():
        role = ROOT.joinpath(*file.relative_to(ROOT).parts[:2])
        for name in included(yaml.safe_load(file.read_text())):
            seen += 1
            # What a variable stands for is one of several files.
            own = NAMES.sub("*", name.removeprefix(OWN)) if name.startswith(OWN) else ""
            if not HOOKS.fullmatch(name) and not (own and any(role.glob(f"tasks/{own}"))):
                wrong.append(f"{file.relative_to(ROOT)}: {name}")
    assert wrong == []
    assert seen > 100
