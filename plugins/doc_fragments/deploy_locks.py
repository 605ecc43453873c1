# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option by which a module that changes something is told of its play's locks."""

from __future__ import annotations


class ModuleDocFragment:
    """The option ``deploy_locks``."""

    DOCUMENTATION = r"""
options:
  deploy_locks:
    description:
      - The locks of M(immutable.delivery.deploy_lock) that this play holds. The module holds them
        as well, until it ends, and refuses to begin if they are not this play's any more.
      - The action plugin fills this in; what is given in a task is not used.
    type: list
    elements: dict
    default: []
"""
