# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an engine is addressed, and what of it the docker program is told."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.engine.options import (
    DEFAULT_HOST,
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
    assert Connection.of(params(docker_host=host), {}).address == address


def test_without_tls_the_program_is_told_the_address_alone() -> None:
    assert Connection.of(params(), {}).cli_flags() == ["--host", "unix:///var/run/docker.sock"]


@pytest.mark.parametrize(("verify", "flag"), [(True, "--tlsverify"), (False, "--tls")])
def test_with_tls_the_program_is_told_the_same_files(
    tmp_path: Path, verify: bool, flag: str
) -> None:
    files = {name: tmp_path / name for name in ("ca_path", "client_cert", "client_key")}
    for file in files.values():
        file.touch()
    given = {name: str(file) for name, file in files.items()}
    connection = Connection.of(
        params(docker_host="https://prod:2376", tls=True, validate_certs=verify, **given), {}
    )
    assert connection.secured
    assert connection.cli_flags() == [
        *("--host", "tcp://prod:2376", flag, "--tlscacert", given["ca_path"]),
        *("--tlscert", given["client_cert"], "--tlskey", given["client_key"]),
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"docker_host": "ssh://prod"}, "docker_host names an engine behind SSH: ssh://prod"),
        ({"tls": True}, "TLS is asked for"),
        ({"docker_host": "tcp://prod:2376", "validate_certs": True}, "there is no CA"),
        ({"docker_host": "prod"}, "unix:// or tcp://: prod"),
        ({"engine_timeout": 0}, "at least 1 s"),
        ({"ca_path": "/nowhere/ca.pem"}, "ca_path is no file: /nowhere/ca.pem"),
        ({"client_key": "/nowhere/key.pem"}, "client_key is no file"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(DeliveryError, match=words):
        Connection.of(params(**given), {})


def store(folder: Path, name: str, host: str, files: str = "", **endpoint: Any) -> None:
    """Keep a context as ``docker context create`` does."""
    stored = hashlib.sha256(name.encode()).hexdigest()
    meta = folder / "contexts" / "meta" / stored / "meta.json"
    meta.parent.mkdir(parents=True)
    described = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host, **endpoint}}}
    meta.write_text(json.dumps(described))
    for file in files.split():
        path = folder / "contexts" / "tls" / stored / "docker" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(folder: Path, given: dict[str, Any], **environ: str) -> Connection:
    """The connection of those options in an environment whose docker configuration is *folder*."""
    return Connection.of(params(**given), {"DOCKER_CONFIG": str(folder), **environ})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A docker configuration with contexts."""
    store(tmp_path, "one", "tcp://one:1")
    store(tmp_path, "two", "unix:///two.sock")
    store(tmp_path, "far", "ssh://far")
    return tmp_path


def test_the_first_that_names_an_engine_wins(folder: Path) -> None:
    given, host = {"docker_host": "tcp://given:1"}, {"DOCKER_HOST": "tcp://host:1"}
    assert found(folder, given, **host, DOCKER_CONTEXT="one").host == "tcp://given:1"
    assert found(folder, {}, **host, DOCKER_CONTEXT="one").host == "tcp://host:1"
    (folder / "config.json").write_text('{"currentContext": "two"}')
    chosen = found(folder, {}, DOCKER_CONTEXT="one")
    assert (chosen.host, chosen.source) == ("tcp://one:1", "the Docker context one")
    assert found(folder, {}).host == "unix:///two.sock"
    assert found(folder, {}, DOCKER_HOST="", DOCKER_CONTEXT="").host == "unix:///two.sock"
    assert found(folder, {}, DOCKER_CONTEXT="default").host == DEFAULT_HOST
    # As for docker, which warns.
    (folder / "config.json").write_text('{"currentContext": ')
    assert found(folder, {}).host == DEFAULT_HOST


@pytest.mark.parametrize(
    ("given", "name", "words"),
    [
        ({}, "none", "there is no Docker context none"),
        ({}, "far", "the Docker context far names an engine behind SSH"),
        ({"validate_certs": True}, "one", "validate_certs is given without docker_host"),
        ({}, "broken", "cannot read the Docker context broken"),
    ],
)
def test_a_context_that_cannot_be_used_is_refused(
    folder: Path, given: dict[str, Any], name: str, words: str
) -> None:
    store(folder, "broken", "tcp://broken:1")
    (folder / "contexts/meta" / hashlib.sha256(b"broken").hexdigest() / "meta.json").write_text(
        "[]"
    )
    with pytest.raises(DeliveryError, match=words) as raised:
        found(folder, given, DOCKER_CONTEXT=name)
    assert raised.value.next_step


def test_a_context_brings_its_certificates(tmp_path: Path) -> None:
    environ = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/nowhere"}
    store(tmp_path, "all", "tcp://all:1", "ca.pem cert.pem key.pem")
    all_files = found(tmp_path, {}, DOCKER_CONTEXT="all", **environ)
    assert all_files.verify and all_files.ca_path and all_files.client_cert and all_files.client_key
    # The SDK's reader would speak without TLS to this one.
    store(tmp_path, "ca", "tcp://ca:1", "ca.pem")
    only = found(tmp_path, {}, DOCKER_CONTEXT="ca")
    assert only.verify and only.ca_path and not only.client_cert
    store(tmp_path, "plain", "tcp://plain:1", SkipTLSVerify=False)
    assert not found(tmp_path, {}, DOCKER_CONTEXT="plain", **environ).secured
    store(tmp_path, "skip", "tcp://skip:1", SkipTLSVerify=True)
    skipping = found(tmp_path, {}, DOCKER_CONTEXT="skip")
    assert (skipping.secured, skipping.verify) == (True, False)


def test_variables_for_tls_mean_what_they_mean_to_docker(tmp_path: Path) -> None:
    host = {"DOCKER_HOST": "tcp://prod:2376"}
    assert not found(tmp_path, {}, **host, DOCKER_TLS_VERIFY="", DOCKER_TLS="").secured
    assert not found(tmp_path, {"validate_certs": False}, **host, DOCKER_TLS_VERIFY="1").secured
    assert found(tmp_path, {}, **host, DOCKER_TLS="0").tls
    with pytest.raises(DeliveryError, match="there is no CA"):
        found(tmp_path, {}, **host, DOCKER_TLS_VERIFY="0")
    files = tmp_path / "files"
    files.mkdir()
    for name in ("ca.pem", "cert.pem"):
        (files / name).touch()
    verified = {**host, "DOCKER_TLS_VERIFY": "0", "DOCKER_CERT_PATH": str(files)}
    half = found(tmp_path, {}, **verified)
    assert (half.verify, half.ca_path, half.client_cert) == (True, str(files / "ca.pem"), None)
    (files / "key.pem").touch()
    assert found(tmp_path, {}, **verified).client_key == str(files / "key.pem")
    own = tmp_path / "own.pem"
    own.touch()
    assert found(tmp_path, {"ca_path": str(own)}, **verified).ca_path == str(own)
