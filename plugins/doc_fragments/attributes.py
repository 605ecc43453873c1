# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Ansible's features mean to a module of this collection; each module says how far it goes."""

from __future__ import annotations


class ModuleDocFragment:
    """The attributes of all modules, and one fragment for each action group."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Works out and returns what it would do, and does none of it.
  diff_mode:
    description: Shows, with C(--diff), what was observed beside what is planned.
  idempotent:
    description: Run again with the same options, where nothing else changed, it changes nothing.
"""

    # For members of the group `portal` of meta/runtime.yml.
    ACTIONGROUP_PORTAL = r"""
options: {}
attributes:
  action_group:
    description:
      - Options that several tasks share can be given once, in C(module_defaults), under
        C(group/immutable.delivery.portal).
    support: full
    membership:
      - immutable.delivery.portal
"""
