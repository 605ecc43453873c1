# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registrar's `/services`, as scripts and the router `registry` use it: behind it is etcd."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from ansible_collections.immutable.delivery.plugins.module_utils.http import Http
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import Overtaken
from ansible_collections.immutable.delivery.plugins.module_utils.routers.registry import Registry
from tests.support.apps import AppProcess
from tests.support.etcd import PREFIX, REGISTRAR, EtcdServer, etcd_server, registrar, runs
from tests.support.haproxy import HaProxyServer, haproxy_server
from tests.support.router_flows import PATIENCE, version_at
from tests.support.waiting import eventually

SERVICES: list[dict[str, Any]] = [
    {"name": "demo", "hosts": ["demo", "localhost"]},
    {"name": "other", "hosts": ["other"]},
]


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[EtcdServer, HaProxyServer, AppProcess]]:
    folder = tmp_path_factory.mktemp("registrar")
    with (
        etcd_server(folder / "etcd") as etcd,
        haproxy_server(folder / "haproxy", SERVICES) as haproxy,
        registrar(folder, etcd, haproxy) as app,
    ):
        yield etcd, haproxy, app


@pytest.fixture
def haproxy(running: tuple[EtcdServer, HaProxyServer, AppProcess]) -> HaProxyServer:
    return running[1]


@pytest.fixture
def services(running: tuple[EtcdServer, HaProxyServer, AppProcess]) -> Iterator[str]:
    """The API, with nothing registered."""
    url = f"{running[2].url}/services"
    yield url
    for service in requests.get(url, timeout=PATIENCE).json():
        requests.delete(f"{url}/{service['name']}", timeout=PATIENCE)


def post(services: str, name: str, url: str, **headers: str) -> requests.Response:
    return requests.post(
        f"{services}/{name}/{quote(url, safe='')}", headers=headers, timeout=PATIENCE
    )


def forget(etcd: EtcdServer, node: str) -> None:
    """As a person does where a router is no more."""
    arguments = ["--node", "front", "--forget", node, "--prefix", PREFIX, f"--etcd={etcd.urls[0]}"]
    done = subprocess.run(
        [sys.executable, str(REGISTRAR), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, f"{node} is forgotten" in done.stderr) == (0, True), done.stderr


def test_what_is_posted_is_what_haproxy_does(
    services: str, haproxy: HaProxyServer, versions: dict[str, AppProcess]
) -> None:
    blue, green = versions["blue"].url, versions["green"].url
    assert requests.get(f"{services}/demo", timeout=PATIENCE).json() == {}
    assert requests.get(services, timeout=PATIENCE).json() == []
    for url, version in ((blue, "blue"), (green, "green"), (green, "green")):
        answer = post(services, "demo", url)
        assert (answer.status_code, answer.json()) == (200, {"success": True})
        # At once, with no waiting: it was answered when HAProxy had followed.
        assert version_at(haproxy.url) == version
        shown = requests.get(f"{services}/demo", timeout=PATIENCE)
        assert shown.json() == {"url": {"url": url, "name": "demo"}, "urls": [url]}
        assert shown.headers["ETag"] == answer.headers["ETag"]
    listed = requests.get(services, timeout=PATIENCE).json()
    assert listed == [{"name": "demo", "url": green, "urls": [green]}]
    drain = requests.get(f"{services}/demo/drain", timeout=PATIENCE).json()
    assert drain == {"name": "demo", "url": green, "urls": [green], "in_flight": 0}
    answer = requests.put(f"{services}/demo", json={"urls": [blue, green]}, timeout=PATIENCE)
    assert answer.status_code == 200
    assert {version_at(haproxy.url) for _time in range(10)} == {"blue", "green"}
    assert requests.delete(f"{services}/demo", timeout=PATIENCE).status_code == 200
    assert version_at(haproxy.url) == ""
    assert requests.delete(f"{services}/demo", timeout=PATIENCE).status_code == 404


def test_the_router_registry_switches_by_it(
    services: str, haproxy: HaProxyServer, versions: dict[str, AppProcess]
) -> None:
    blue, green = versions["blue"].url, versions["green"].url
    api = services.removesuffix("/services")
    first, second = (Registry(Http(api), PATIENCE) for _one in range(2))
    assert first.observe("demo").urls == second.observe("demo").urls == ()
    first.switch("demo", [blue])
    with pytest.raises(Overtaken):
        second.switch("demo", [green])
    assert first.in_flight("demo") == 0
    first.switch("demo", [green, blue])
    first.remove("demo")
    assert first.observe("demo").urls == ()
    assert version_at(haproxy.url) == ""


@pytest.mark.parametrize(
    ("request_line", "body", "status", "said"),
    [
        ("POST demo/nonsense", None, 400, "not an http or https address"),
        ("POST demo/http%3A%2F%2F127.0.0.1%3A1%3Fa%3Db", None, 400, "must not have a query"),
        ("POST demo/%FF", None, 400, "not valid UTF-8"),
        ("POST a%20b/http%3A%2F%2F127.0.0.1%3A1", None, 400, "cannot be the name"),
        ("POST demo/http%3A%2F%2Fname%3A1", None, 502, "IP address"),
        ("POST unknown/http%3A%2F%2F127.0.0.1%3A1", None, 502, "no backends for unknown"),
        ("PUT demo", b"{", 400, "not JSON"),
        ("PUT demo", b"[]", 400, "with an address at least"),
        ("PUT demo", b'{"urls": []}', 400, "with an address at least"),
        ("PUT demo", b'{"urls": [5]}', 400, "with an address at least"),
        ("DELETE nothing", None, 404, "No service is registered"),
    ],
)
def test_what_cannot_be_registered(
    services: str, request_line: str, body: bytes | None, status: int, said: str
) -> None:
    method, path = request_line.split(" ")
    answer = requests.request(method, f"{services}/{path}", data=body, timeout=PATIENCE)
    assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text
    assert requests.get(services, timeout=PATIENCE).json() == []


def test_conditions(services: str, versions: dict[str, AppProcess]) -> None:
    blue, green = versions["blue"].url, versions["green"].url
    assert post(services, "demo", blue, **{"If-None-Match": "*"}).status_code == 200
    assert post(services, "demo", green, **{"If-None-Match": "*"}).status_code == 412
    tag = requests.get(f"{services}/demo", timeout=PATIENCE).headers["ETag"]
    assert post(services, "demo", green, **{"If-Match": '"1"'}).status_code == 412
    assert post(services, "demo", green, **{"If-Match": tag}).status_code == 200
    assert post(services, "demo", blue, **{"If-Match": tag}).status_code == 412
    assert post(services, "other", blue, **{"If-Match": "*"}).status_code == 412
    assert requests.get(f"{services}/demo", timeout=PATIENCE).json()["urls"] == [green]


def test_a_router_that_is_gone_is_forgotten_by_a_command(
    running: tuple[EtcdServer, HaProxyServer, AppProcess], services: str, tmp_path: Path
) -> None:
    etcd, haproxy, _app = running
    with registrar(tmp_path, etcd, haproxy, node="gone") as gone:
        assert gone.stop() == 0
    assert not runs(etcd, "gone")()
    assert post(services, "demo", "http://127.0.0.1:1").status_code == 502
    forget(etcd, "gone")
    assert etcd.router("http://127.0.0.1").state().nodes == {"front"}


def test_instances_of_other_networks_are_left_to_others(
    running: tuple[EtcdServer, HaProxyServer, AppProcess],
    services: str,
    versions: dict[str, AppProcess],
    tmp_path: Path,
) -> None:
    etcd, _haproxy, _app = running
    blue = versions["blue"].url
    with haproxy_server(tmp_path / "second", SERVICES) as second:
        options = {"node": "elsewhere", "arguments": ["--watch", "10.0.0.0/8"]}
        with registrar(tmp_path, etcd, second, **options):
            assert post(services, "demo", blue).status_code == 200
            state = etcd.router("http://127.0.0.1").state
            eventually(lambda: state().instances["demo"][blue] == {"front"}, "one has it")
            # It follows all the same.
            assert version_at(second.url) == "blue"
            assert state().instances["demo"][blue] == {"front"}
    forget(etcd, "elsewhere")
