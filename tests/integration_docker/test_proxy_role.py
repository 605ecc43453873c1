# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role proxy: HAProxy and nginx, on machines with and without systemd, and as containers.

The tests of this file share the places and stand in the order in which they were written for it:
all have the version blue after the second one, and green after the third.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from docker import DockerClient

from tests.support.certificates import Authority
from tests.support.machine import machine
from tests.support.plays import PlayResult
from tests.support.proxy import Proxy, start_proxy
from tests.support.proxy_role import (
    HOST,
    OWN,
    Place,
    give_files,
    give_own,
    in_container,
    on_machine,
    play_at,
)
from tests.support.router_load import RouterLoad
from tests.support.shipped import CHECKOUT, Shipped


def have(hosts: str, shipped: Shipped = CHECKOUT) -> dict[str, Any]:
    """The playbook that runs the role, for some hosts."""
    playbook = str(shipped.playbook("playbooks/proxy_host.yml"))
    return {"import_playbook": playbook, "vars": {"proxy_host_hosts": hosts}}


# One kind after the other, since apt can be asked by one only.
ROLE = [have(kind) for kind in ("haproxy", "nginx")]
ALL_AT_ONCE = (have("all:!localhost"),)
REGISTER = [
    {
        "name": "Switch",
        "hosts": "all:!localhost",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Switch",
                "immutable.delivery.proxy_register": {
                    "router": "{{ proxy_kind }}",
                    "api_url": "{{ register_url }}",
                    "service": "demo",
                    "url": "{{ register_versions[version] }}",
                    "host_header": HOST,
                    "prove_path": "/proof",
                    "drain_required": True,
                    "haproxy": "{{ register_options if proxy_kind == 'haproxy' else omit }}",
                    "nginx": "{{ register_options if proxy_kind == 'nginx' else omit }}",
                },
            }
        ],
    }
]
SERVICES: list[dict[str, Any]] = [
    {
        "name": "by-path",
        "path": "/by.path",
        "strip_path": True,
        "hosts": [OWN],
        "certificate": "{{ own_certificate | default('') }}",
        "key": "{{ own_key | default('') }}",
    },
    {"name": "demo", "hosts": [HOST]},
]


@dataclass
class Site:
    """All places, and the folder of their authority."""

    places: list[Place]
    api: Proxy
    authority: Authority
    folder: Path
    stack: ExitStack
    own: dict[str, int] = field(default_factory=dict)

    def at(self, name: str) -> Place:
        return next(place for place in self.places if place.name == name)

    def play(
        self,
        play: Sequence[dict[str, Any]] = ALL_AT_ONCE,
        *names: str,
        env: Mapping[str, str] | None = None,
        **more: Any,
    ) -> PlayResult:
        return play_at(
            [place for place in self.places if not names or place.name in names],
            play,
            self.folder,
            env=env,
            **{
                "proxy_ca_dir": str(self.folder / "pki"),
                "proxy_services": SERVICES,
                "proxy_services_api_url": self.api.url,
                **more,
            },
        )


@pytest.fixture(scope="module")
def fresh(
    engine: DockerClient,
    prefix: str,
    app_image: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("p")
    ports = [f"127.0.0.1::{number}" for number in (80, 81, 82, 8080, 8081, 8082)]
    with ExitStack() as stack:
        init = stack.enter_context(machine(engine, f"{prefix}-init", kind="systemd", publish=ports))
        plain = stack.enter_context(machine(engine, f"{prefix}-plain", kind="plain", publish=ports))
        places = [
            on_machine("init-haproxy", "haproxy", init, 80),
            on_machine("init-nginx", "nginx", init, 8080),
            on_machine("plain-haproxy", "haproxy", plain, 80),
        ]
        for kind in ("haproxy", "nginx"):
            name = f"{prefix}-{kind}"
            place = in_container(f"box-{kind}", kind, app_image(kind), name, folder / kind)
            places.append(place)
        made = Site(
            places, stack.enter_context(start_proxy(folder)), Authority(folder), folder, stack
        )
        made.at("init-haproxy").authority = folder / "pki" / "ca.pem"
        for name in ("init-nginx", "plain-haproxy"):
            made.at(name).variables["proxy_tls"] = "none"
        give_files(made.at("box-haproxy"), made.authority, folder)
        signed = folder / "pki" / "hosts" / "box-nginx" / "proxy" / "cert.pem"
        made.at("box-nginx").variables["proxy_tls"] = "self_signed"
        made.at("box-nginx").authority = signed
        for name in ("box-haproxy", "box-nginx"):
            made.own[name] = give_own(made.at(name), made.authority, folder)
        yield made


@pytest.fixture(scope="module")
def site(fresh: Site) -> Site:
    """The places after the first run."""
    some = ["init-haproxy", "box-nginx"]
    assert fresh.play(ALL_AT_ONCE, *some, check=True).ok().changed
    for place in map(fresh.at, some):
        folder = place.variables.get("proxy_config_folder", "/etc/haproxy /etc/nginx")
        assert place.run("sh", "-c", f"ls -d {folder} 2>/dev/null || true") == ""
    assert not (fresh.folder / "pki").exists()
    fresh.play(ROLE).ok()
    return fresh


def test_a_second_run_changes_nothing(site: Site, tarball: Shipped) -> None:
    # Each program and each way of TLS once, on machines and in a container.
    play = [have("all:!localhost", tarball)]
    again = site.play(play, "init-haproxy", "init-nginx", "box-haproxy", env=tarball.env).ok()
    assert not again.changed, [result.task for result in again.results if result.changed]


def test_right_after_the_role_a_service_can_be_registered(site: Site) -> None:
    for place in site.places:
        assert place.ask("/version").status_code == 503
        place.start("blue", site.folder, site.stack)
    site.play(REGISTER, version="blue").ok()
    for place in site.places:
        assert place.version() == f"{place.name}-blue"
        assert place.authority is None or place.protocol() == "2"
        if place.name in site.own:
            # By the name asked for, beside the one that all others are shown.
            assert place.serial(OWN, site.authority.path) == site.own[place.name]
            assert place.serial() != site.own[place.name]
        # Another host's requests are not this service's.
        assert place.ask("/version", headers={"Host": "other.example"}).status_code == 503
        # Without systemd and a syslog daemon there is no log.
        assert place.name == "plain-haproxy" or "GET /version" in place.log()


def test_a_reload_a_renewed_certificate_and_a_switch_lose_nothing(site: Site) -> None:
    serials = {}
    loads = {}
    for place in site.places:
        place.start("green", site.folder, site.stack)
        serials[place.name] = place.serial()
        load = RouterLoad(place.url, host=HOST, rate=10, slow=0.5, sockets=1, connections=8)
        loads[place.name] = load
        load.start()
    try:
        give_files(site.at("box-haproxy"), site.authority, site.folder)
        # The role's own certificates have 365 days left, so that this is the time.
        more = [*SERVICES, {"name": "rest"}]
        made = site.play(proxy_services=more, proxy_renew_before=366).ok()
        site.play(REGISTER, version="green").ok()
    finally:
        seen = {name: load.stop() for name, load in loads.items()}
    reloads = [
        result for result in made.results if result.task.startswith("Reload") and result.changed
    ]
    assert len(reloads) == len(site.places)
    for place in site.places:
        mine = seen[place.name]
        assert mine.failed == [], place.name
        assert {"get", "post", "slow", "upload", "socket"} <= set(mine.answered)
        assert set(mine.versions) == {f"{place.name}-blue", f"{place.name}-green"}
        assert place.authority is None or place.serial() != serials[place.name]

    for place in site.places:
        place.restart()
        assert place.version() == f"{place.name}-green"


def test_metrics_are_given(site: Site) -> None:
    for place in site.places:
        assert place.ask("/health", port="metrics").status_code == 200
        if place.kind == "haproxy":
            told = place.ask("/metrics", port="metrics").text
            assert 'haproxy_backend_http_responses_total{proxy="demo-' in told
        else:
            assert "Active connections" in place.ask("/status", port="metrics").text


def test_the_services_api_is_passed_on_for_those_who_may(site: Site) -> None:
    path = f"/services/demo/{quote('http://10.0.0.1:8080/a', safe='')}"
    for place in site.places:
        answer = place.ask(path, method="POST")
        if place.machine is not None:
            # From there this is a stranger.
            assert answer.status_code == 403
            continue
        assert answer.json() == {"success": True}
        registered = place.ask("/services/demo", method="GET").json()
        assert registered["url"]["url"] == "http://10.0.0.1:8080/a"
        assert place.ask("/services/demo", method="DELETE").json() == {"success": True}


def test_a_configuration_that_is_none_is_refused(site: Site) -> None:
    names = ["init-haproxy", "box-nginx"]
    before = {name: site.at(name).config for name in names}
    refused = site.play(ALL_AT_ONCE, *names, proxy_extra_config="no-such-thing 1;")
    said = {result.host: result.msg for result in refused.failures}
    for name in names:
        assert "no-such-thing" in said[name]
        assert "Its configuration was not changed" in said[name]
        assert site.at(name).config == before[name]
        assert site.at(name).version() == f"{name}-green"


def test_one_that_cannot_be_read_is_taken_back(site: Site) -> None:
    place = site.at("init-haproxy")
    before = place.config
    # Only the attempt tells that this port is sshd's.
    failed = site.play(ALL_AT_ONCE, place.name, proxy_metrics_port=22, proxy_reload_timeout=3)
    assert failed.rc != 0
    said = failed.failures[-1].msg
    assert "The previous one was put back, and it serves with that" in said
    assert place.config == before
    assert place.version() == f"{place.name}-green"
    assert place.run("sh", "-c", "ls /etc/haproxy/haproxy.cfg*").split() == [
        "/etc/haproxy/haproxy.cfg"
    ]


def test_a_live_version_is_not_configured_away(site: Site) -> None:
    places = {"init-haproxy", "box-nginx"}
    refused = site.play(ALL_AT_ONCE, *places, proxy_services=SERVICES[:1])
    assert {result.host for result in refused.failures} == places
    for result in refused.failures:
        assert "demo has a version that gets its requests" in result.msg
    assert not refused.changed
    few = [SERVICES[0], {**SERVICES[1], "backends": 1}]
    refused = site.play(ALL_AT_ONCE, "init-haproxy", proxy_services=few)
    assert "demo is in demo-b, and would have 1 backends only" in refused.failures[-1].msg


def test_files_that_do_not_belong_together_are_refused(site: Site) -> None:
    place = site.at("box-haproxy")
    serial = place.serial()
    other = site.folder / "pki" / "hosts" / "box-nginx" / "proxy" / "key.pem"
    site.at("box-nginx").variables["own_key"] = ""
    refused = site.play(ALL_AT_ONCE, place.name, "box-nginx", proxy_tls_key=str(other))
    # Of a loop the first thing that was refused.
    said = {
        one.host: next(item["msg"] for item in one["results"] if item.get("failed"))
        for one in refused.failures
    }
    assert "is not the certificate of" in said[place.name]
    assert "A certificate of its own needs its key" in said["box-nginx"]
    assert place.serial() == serial
