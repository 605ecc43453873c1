# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one module of the collection in this process, as Ansible would in one of its own.

So the module's seconds and its peak memory are measured without Ansible's own start. Reads the
options as JSON from standard input; the last line on stderr is the peak of resident memory in MiB.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys

from ansible.module_utils.testing import patch_module_args


def main() -> None:
    """Run the module that the first argument names."""
    name = f"ansible_collections.immutable.delivery.plugins.modules.{sys.argv[1]}"
    with patch_module_args(json.load(sys.stdin)):
        try:
            importlib.import_module(name).main()
        finally:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"\n{peak:.1f}", file=sys.stderr)


if __name__ == "__main__":
    main()
