# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the collection's own code importable: what drives routers is there, and only there.

To be imported first. The code is found in an installed collection and in a checkout, where it lies
two folders up, and in the image, where it lies beside this file.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

NAME = "ansible_collections.immutable.delivery"
HERE = Path(__file__).resolve().parent
ROOT = next(
    folder for folder in (HERE, HERE.parent.parent) if (folder / "plugins/module_utils").is_dir()
)


def provide() -> None:
    """Stand in for Ansible's own way of importing collections, which need not be installed."""
    parent = ""
    for part in NAME.split("."):
        name = f"{parent}.{part}" if parent else part
        package = types.ModuleType(name)
        package.__path__ = [str(ROOT)] if name == NAME else []
        sys.modules[name] = package
        if parent:
            setattr(sys.modules[parent], part, package)
        parent = name


provide()
