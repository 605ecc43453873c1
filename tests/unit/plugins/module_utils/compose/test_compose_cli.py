# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``docker compose`` is given on its standard input."""

from __future__ import annotations

import json

import pytest
import yaml

from ansible_collections.immutable.delivery.plugins.module_utils.compose.cli import as_yaml

# The ends of what YAML takes as it is, and what lies beyond them.
ODD = (
    "\x00\t\n\r\x1b ~\x7f\x80\x84\x85\x86\x9f\xa0é"
    "\u2027\u2028\u2029\u202e\ufeff\ufffd\ufffe\uffff🚀"
)


@pytest.mark.parametrize("character", ODD, ids=ascii)
def test_every_character_is_json_and_yaml(character: str) -> None:
    model = {f"a{character}b": [f"{character}", f"a {character} b"]}
    text = as_yaml(model)
    assert json.loads(text) == model
    assert yaml.safe_load(text) == model
