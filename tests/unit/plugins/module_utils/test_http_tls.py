# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.deadline import Deadline
from ansible_collections.immutable.delivery.plugins.module_utils.http import Http, HttpError
from ansible_collections.immutable.delivery.tests.support.certificates import Authority

from .loopback import Answer, Server, serving

OK = Answer(200, {}, b"{}")
HOST = "api.example.org"
ADVICE = "Check ca_path, and that the certificate is made for the name asked for."


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def ask(server: Server | str, **options: Any) -> int:
    url = server if isinstance(server, str) else server.url
    return Http(url, **options).request("GET", "/", deadline=Deadline(30)).status_code


def failure(server: Server | str, **options: Any) -> str:
    with pytest.raises(HttpError) as raised:
        ask(server, **options)
    return str(raised.value)


@pytest.mark.parametrize("host", [HOST, f"{HOST}:8443", HOST.upper()])
def test_the_host_is_asked_for_by_sni_and_proved_by_its_certificate(
    authority: Authority, host: str
) -> None:
    with serving(OK, context=authority.context(HOST)) as server:
        assert ask(server, host_header=host, ca_path=str(authority.path)) == 200
    assert server.asked_names == [HOST]
    assert server.seen[0].headers["Host"] == host


def test_without_a_host_the_address_itself_is_proved(authority: Authority) -> None:
    with serving(OK, context=authority.context("127.0.0.1")) as server:
        assert ask(server, ca_path=str(authority.path)) == 200
    assert server.asked_names == [None]


def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    with serving(OK, context=authority.context("other.example.org")) as server:
        text = failure(server, host_header=HOST, ca_path=str(authority.path))
    assert text == (
        f"TLS to {server.url} (Host {HOST}) failed: "
        f"hostname '{HOST}' doesn't match 'other.example.org'. {ADVICE}"
    )
    assert server.seen == []


def test_a_certificate_for_the_address_does_not_prove_the_host(authority: Authority) -> None:
    with serving(OK, context=authority.context("127.0.0.1")) as server:
        text = failure(server, host_header=HOST, ca_path=str(authority.path))
    assert f"(Host {HOST}) failed: " in text
    assert server.seen == []


def test_a_certificate_by_another_authority_is_refused(
    authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other CA")
    with serving(OK, context=authority.context(HOST)) as server:
        text = failure(server, host_header=HOST, ca_path=str(other.path))
    assert text == (
        f"TLS to {server.url} (Host {HOST}) failed: unable to get local issuer certificate. "
        f"{ADVICE}"
    )


def test_an_expired_certificate_is_refused(authority: Authority) -> None:
    with serving(OK, context=authority.context(HOST, days=-1)) as server:
        text = failure(server, host_header=HOST, ca_path=str(authority.path))
    assert "failed: certificate has expired." in text


def test_the_system_does_not_know_our_authority(authority: Authority) -> None:
    with serving(OK, context=authority.context(HOST)) as server:
        assert "unable to get local issuer certificate" in failure(server, host_header=HOST)


def test_certificates_need_not_be_validated(authority: Authority) -> None:
    with serving(OK, context=authority.context("other.example.org")) as server:
        assert ask(server, host_header=HOST, validate_certs=False) == 200
    assert server.asked_names == [HOST]


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_environment_does_not_override_ca_path(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    other = Authority(tmp_path, "other CA")
    monkeypatch.setenv(variable, str(other.path))
    with serving(OK, context=authority.context(HOST)) as server:
        assert ask(server, host_header=HOST, ca_path=str(authority.path)) == 200
        assert ask(server, host_header=HOST, validate_certs=False) == 200
        monkeypatch.setenv(variable, str(authority.path))
        assert "local issuer" in failure(server, host_header=HOST, ca_path=str(other.path))


def test_a_ca_path_that_is_missing_is_named(authority: Authority, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    with serving(OK, context=authority.context(HOST)) as server:
        text = failure(server, host_header=HOST, ca_path=str(missing))
    assert text == f"ca_path does not exist: {missing}."
    assert server.connections == 0


@pytest.mark.parametrize("content", [b"", b"not a certificate\n"])
def test_a_ca_path_that_holds_no_certificate_is_told(
    authority: Authority, tmp_path: Path, content: bytes
) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_bytes(content)
    with serving(OK, context=authority.context(HOST)) as server:
        text = failure(server, host_header=HOST, ca_path=str(garbage))
    assert text.startswith(f"TLS to {server.url} (Host {HOST}) failed: ")
    assert text.endswith(f"no certificate or crl found. {ADVICE}")


def test_a_server_without_tls_is_told_in_plain_words() -> None:
    with serving(OK) as server:
        text = failure(server.url.replace("http:", "https:"))
    assert "failed: the server does not speak TLS on this port. " in text


def test_a_server_with_tls_that_is_asked_without_it_gives_no_answer(authority: Authority) -> None:
    with serving(OK, context=authority.context(HOST)) as server:
        text = failure(server.url.replace("https:", "http:"), retry_wait=0)
    assert "broke during GET /" in text
