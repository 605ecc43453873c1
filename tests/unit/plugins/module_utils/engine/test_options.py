# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an engine is addressed, and what of it the docker program is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.engine.options import (
    ENGINE_OPTIONS,
    Connection,
)
from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError


def params(**given: Any) -> dict[str, Any]:
    """A module's options, with those that are not given as Ansible fills them in."""
    return {name: spec.get("default") for name, spec in ENGINE_OPTIONS.items()} | given


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("unix:///var/run/docker.sock", "127.0.0.1"),
        ("tcp://prod.example.org:2376", "prod.example.org"),
        ("tcp://[2001:db8::1]:2376", "2001:db8::1"),
        ("https://10.0.0.1:2376", "10.0.0.1"),
    ],
)
def test_published_ports_are_reached_at_the_engines_host(host: str, address: str) -> None:
    assert Connection.of(params(docker_host=host)).address == address


def test_without_tls_the_program_is_told_the_address_alone() -> None:
    assert Connection.of(params()).cli_flags() == ["--host", "unix:///var/run/docker.sock"]


@pytest.mark.parametrize(("verify", "flag"), [(True, "--tlsverify"), (False, "--tls")])
def test_with_tls_the_program_is_told_the_same_files(
    tmp_path: Path, verify: bool, flag: str
) -> None:
    files = {name: tmp_path / name for name in ("ca_path", "client_cert", "client_key")}
    for file in files.values():
        file.touch()
    given = {name: str(file) for name, file in files.items()}
    connection = Connection.of(
        params(docker_host="https://prod:2376", tls=True, validate_certs=verify, **given)
    )
    assert connection.secured
    assert connection.cli_flags() == [
        *("--host", "tcp://prod:2376", flag, "--tlscacert", given["ca_path"]),
        *("--tlscert", given["client_cert"], "--tlskey", given["client_key"]),
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"docker_host": "ssh://prod"}, "unix:// or tcp://: ssh://prod"),
        ({"docker_host": "prod"}, "unix:// or tcp://: prod"),
        ({"engine_timeout": 0}, "at least 1 s"),
        ({"ca_path": "/nowhere/ca.pem"}, "ca_path is no file: /nowhere/ca.pem"),
        ({"client_key": "/nowhere/key.pem"}, "client_key is no file"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(DeliveryError, match=words):
        Connection.of(params(**given))
