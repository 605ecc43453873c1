# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the verifications of Molecule's scenarios need to know of the scenario that runs them."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

SECONDS = 30


def pki() -> Path:
    """The folder of the scenario's certificate authority."""
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "pki"


def authority() -> str:
    """The authority's certificate, by which engines and registries are known."""
    return str(pki() / "ca.pem")


def deployer() -> tuple[str, str]:
    """Certificate and key of those who may deploy."""
    folder = pki() / "clients" / "deploy"
    return str(folder / "cert.pem"), str(folder / "key.pem")


def address(machine: str) -> str:
    """The address of one of the scenario's machines."""
    made = yaml.safe_load(Path(os.environ["MOLECULE_INSTANCE_CONFIG"]).read_text())
    (found,) = (one["ip"] for one in made if one["instance"] == machine)
    return str(found)


def inventory() -> str:
    """The folder of the scenario's inventory."""
    return str(Path(os.environ["MOLECULE_INVENTORY_FILE"]).parent)


def lab() -> Path:
    """Where processes that the scenario runs here keep what they have."""
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "lab"
