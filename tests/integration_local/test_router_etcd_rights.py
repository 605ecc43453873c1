# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rights: an etcd that wants certificates, and a HAProxy that a registrar may not use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.support.apps import AppProcess
from tests.support.certificates import Authority
from tests.support.etcd import etcd_server, registrar
from tests.support.haproxy import haproxy_server
from tests.support.modules import Ended, run_module
from tests.support.router_daemon import program
from tests.support.router_flows import send_to, version_at


def test_only_with_a_client_certificate(tmp_path: Path, versions: dict[str, AppProcess]) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    both, foreign = authority.issue("127.0.0.1"), stranger.issue("127.0.0.1")
    text = both.read_text()
    certificate, _mark, secret = text.partition("-----BEGIN PRIVATE KEY-----")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_text(certificate)
    key.write_text(text.removeprefix(certificate))
    with (
        etcd_server(tmp_path / "etcd", authority=authority) as etcd,
        haproxy_server(tmp_path / "haproxy") as haproxy,
        registrar(
            tmp_path,
            etcd,
            haproxy,
            arguments=[f"--ca={authority.path}", f"--etcd-cert={cert}", f"--etcd-key={key}"],
        ) as app,
    ):

        def register(version: str, **options: Any) -> Ended:
            arguments = {
                "router": "etcd",
                "api_url": haproxy.url,
                "service": "demo",
                "url": versions[version].url,
                "timeout": 5,
                "etcd": etcd.options(ca_path=str(authority.path), **options),
            }
            ended = run_module(tmp_path, "proxy_register", arguments)
            assert secret.split()[0] not in ended.output + app.log()
            return ended

        for version, own in (
            ("blue", {"client_cert": str(cert), "client_key": str(key)}),
            ("green", {"client_cert": str(both)}),
        ):
            assert register(version, **own).result.get("changed"), app.log()
            assert version_at(haproxy.url) == version
        for own, words in (
            ({}, "TLS to"),
            ({"client_cert": str(foreign)}, "TLS to"),
            ({"client_cert": str(cert), "client_key": str(foreign)}, "TLS to"),
            ({"client_cert": str(tmp_path / "nothing")}, "file that is not there"),
            ({"client_key": str(key)}, "client_key is needed only with etcd.client_cert"),
        ):
            refused = register("red", **own)
            assert refused.result.get("failed") and words in refused.result["msg"], refused.output
        assert version_at(haproxy.url) == "green"


def without_root() -> list[str]:
    """What a program is begun with that has no rights to files but those of their owner."""
    if os.geteuid():
        return []
    rights = "-dac_override,-dac_read_search"
    return [program("setpriv"), f"--bounding-set={rights}", f"--inh-caps={rights}"]


def test_a_socket_that_one_registrar_may_not_use(
    tmp_path: Path, versions: dict[str, AppProcess]
) -> None:
    with (
        etcd_server(tmp_path / "etcd") as etcd,
        haproxy_server(tmp_path / "open") as ours,
        haproxy_server(tmp_path / "closed") as closed,
        registrar(tmp_path, etcd, ours, node="open"),
    ):
        send_to(etcd.router(ours.url), versions["blue"].url)
        Path(closed.socket).chmod(0)
        with registrar(tmp_path, etcd, closed, node="closed", program=without_root()) as app:
            arguments = {
                "router": "etcd",
                "api_url": ours.url,
                "service": "demo",
                "url": versions["green"].url,
                "etcd": etcd.options(),
            }
            refused = run_module(tmp_path, "proxy_register", arguments)
            sentence = f"no right to use HAProxy's socket {closed.socket}"
            assert f"the router of closed does not prepare: {sentence}" in refused.result["msg"]
            # It stands in the registry as well, and in the log.
            said = etcd.router(ours.url).state().applied["demo"]["closed"]
            assert sentence in said.error and sentence in app.log()
            assert version_at(ours.url) == "blue"
