# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of the module that deploys services: the tests that a new release has to pass."""

from __future__ import annotations


class ModuleDocFragment:
    """The tests' container."""

    DOCUMENTATION = r"""
options:
  test_image:
    description:
      - An image of tests. It is run with the address of a new instance in the environment variable
        C(URL), before that gets traffic, and must exit with 0.
    type: str
  test_command:
    description:
      - Arguments that replace the own command of O(test_image).
    type: list
    elements: str
    default: []
  test_environment:
    description:
      - Further environment variables of the tests.
    type: dict
    default: {}
  test_network:
    description:
      - The network that the tests run in.
    type: str
    default: host
  test_timeout:
    description:
      - The seconds that the tests may take.
    type: float
    default: 300
"""
