# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploys that fail, each in its own way: the live version stays, and the error helps."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from docker import DockerClient

from tests.support.modules import Ended, start_module
from tests.support.service import CHECK, Shop, open_shop, traffic
from tests.support.service_front import engine_front
from tests.support.waiting import eventually

NO_IMAGE = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def shop(
    engine: DockerClient, prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    with open_shop(engine, prefix, tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture(scope="module")
def live(shop: Shop) -> str:
    """A service of which v1 is live."""
    name = shop.new_name()
    ended = shop.deploy(name, shop.image("v1"))
    assert ended.code == 0, ended.output
    return name


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody answers, and nobody else begins to."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def failed(shop: Shop, name: str, image: str, **more: Any) -> dict[str, Any]:
    """Deploy, which must fail with everything as it was and no request lost."""
    before = shop.state(name)
    with traffic(f"{shop.proxy.url}/{name}/1", clients=1) as seen:
        ended = shop.deploy(name, image, **more)
    assert ended.code != 0 and ended.result.get("failed"), ended.output
    assert shop.state(name) == before
    assert seen.lost == []
    assert shop.version(name) == "v1"
    msg: str = ended.result["msg"]
    assert ended.result["next_step"] and ended.result["state"], msg
    assert not any(line in msg for line in ended.result["log"]), msg
    assert "Traceback" not in msg
    return ended.result


def test_a_digest_that_no_registry_has(shop: Shop, live: str) -> None:
    repository = shop.image("v1").partition("@")[0]
    result = failed(shop, live, f"{repository}@{NO_IMAGE}")
    assert result["kind"] == "image_missing"


def test_a_tag_that_no_registry_has(shop: Shop, live: str) -> None:
    repository = shop.image("v1").partition("@")[0]
    result = failed(shop, live, f"{repository}:never")
    assert result["kind"] == "image_missing"
    assert "Nothing was changed" in result["state"]


@pytest.mark.parametrize("by", [":v2", f"@{NO_IMAGE}"])
def test_a_registry_that_is_away(shop: Shop, live: str, closed_port: int, by: str) -> None:
    result = failed(shop, live, f"127.0.0.1:{closed_port}/{shop.prefix}/service{by}")
    assert result["kind"] == "registry_away"


def test_a_version_that_cannot_start(shop: Shop, live: str) -> None:
    result = failed(shop, live, shop.image("broken", "broken"), restart_policy="no")
    assert result["kind"] == "container"
    assert "exit code 1" in result["msg"] and "this version cannot start" in result["log"][-1]
    (running,) = (one for one in shop.containers(live) if one.status == "running")
    port = running.ports["8080/tcp"][0]["HostPort"]
    assert result["state"] == f"Live as before: {running.name} at http://127.0.0.1:{port}."
    assert result["msg"].count("http://") == 1


def test_a_version_that_is_ill(shop: Shop, live: str) -> None:
    result = failed(
        shop,
        live,
        shop.image("ill", "ill"),
        health_timeout=4,
        environment={"SECRET": "swordfish-7"},
    )
    assert "status 500" in result["msg"] and any(
        "ill begins with ********" in line for line in result["log"]
    )


def test_tests_that_fail(shop: Shop, live: str) -> None:
    wrong = shop.image("wrong", "wrong")
    result = failed(shop, live, wrong, test_image=wrong, test_command=CHECK)
    assert result["kind"] == "tests_failed"
    assert "exit code 1" in result["msg"]
    assert any("rec is no number" in line for line in result["log"])
    assert any("new container: wrong begins with no secret" in line for line in result["log"])


def test_tests_that_take_too_long(shop: Shop, live: str) -> None:
    result = failed(
        shop,
        live,
        shop.image("v2"),
        test_image=shop.image("v1"),
        test_command=CHECK,
        test_environment={"SECONDS": 300},
        test_timeout=3,
    )
    assert result["kind"] == "tests_failed" and "longer than 3 s" in result["msg"]


def test_tests_that_no_registry_has(shop: Shop, live: str) -> None:
    repository = shop.image("v1").partition("@")[0]
    result = failed(shop, live, shop.image("v2"), test_image=f"{repository}@{NO_IMAGE}")
    assert result["kind"] == "image_missing"


def test_a_version_that_does_not_prove_itself_through_the_proxy(shop: Shop, live: str) -> None:
    # Its own traffic goes through the proxy while it is there, so that is not counted here.
    before = shop.state(live)
    ended = shop.deploy(live, shop.image("unroutable", "unroutable"), prove_timeout=2)
    assert ended.code != 0
    assert ended.result["kind"] == "unproved"
    assert ended.result["state"].startswith(f"Live as before: {live}-")
    assert shop.state(live) == before
    assert shop.version(live) == "v1"


def test_a_router_that_is_away(shop: Shop, live: str, closed_port: int) -> None:
    away = f"http://127.0.0.1:{closed_port}"
    result = failed(shop, live, shop.image("v2"), api_url=away)
    assert "cannot be reached" in result["msg"]
    result = failed(shop, live, shop.image("v2"), api_url=away, router_required=False)
    assert result["kind"] == "router_away"


def test_a_port_that_somebody_else_has(shop: Shop, live: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = failed(shop, live, shop.image("v2"), published_port=port)
    assert result["kind"] == "port_taken"


@pytest.mark.parametrize(
    ("moment", "status", "document"),
    [
        ("^POST /containers/create", 500, {"message": "mkdir /var/lib: no space left on device"}),
        ("^POST /images/create", 200, {"error": "write /x: no space left on device"}),
    ],
)
def test_a_disk_that_is_full(
    shop: Shop, live: str, moment: str, status: int, document: dict[str, str]
) -> None:
    image = shop.image("v3")
    with engine_front(moment, "answer", status=status, document=document) as front:
        result = failed(shop, live, image, docker_host=front.url)
        assert front.reached.is_set()
    assert result["kind"] == "disk_full"


def test_an_engine_that_goes_away(shop: Shop) -> None:
    name = shop.new_name()
    assert shop.deploy(name, shop.image("v1")).code == 0
    with (
        traffic(f"{shop.proxy.url}/{name}/1", clients=1) as seen,
        engine_front("^POST /containers/.*/start", "cut") as front,
    ):
        ended = shop.deploy(name, shop.image("v2"), docker_host=front.url)
    assert ended.code != 0 and seen.lost == []
    assert "Could not be rolled back" in ended.result["msg"]
    assert len(shop.running(name)) == 1 and shop.version(name) == "v1"
    # What was left is cleared away by the next one.
    again = shop.deploy(name, shop.image("v2"))
    assert again.code == 0, again.output
    assert len(shop.containers(name)) == 2 and shop.version(name) == "v2"


def test_no_engine(shop: Shop, live: str, closed_port: int) -> None:
    result = failed(shop, live, shop.image("v2"), docker_host=f"tcp://127.0.0.1:{closed_port}")
    assert result["kind"] == "engine_away"


def during(
    shop: Shop, service: tuple[str, str], number: signal.Signals, moment: str, after: bool
) -> Ended:
    """Deploy a service in a version, and send a signal at that moment."""
    name, image = service[0], shop.image(service[1])
    checks = {"test_image": image, "test_command": CHECK, "keep_releases": 0}
    with engine_front(moment, forwarded=after) as front:
        options = shop.options(name, image, docker_host=front.url, **checks)
        with start_module(shop.folder, "service_deploy", options) as running:
            eventually(front.reached.is_set, f"the module to come to {moment}")
            running.process.send_signal(number)
            if number == signal.SIGKILL:
                running.process.wait()
            front.opened.set()
            return running.end()


@pytest.fixture(scope="module")
def turning(shop: Shop) -> Iterator[list[str]]:
    """A service, and its versions in turn: the first is live, the last comes next."""
    name = shop.new_name()
    assert shop.deploy(name, shop.image("v1"), keep_releases=0).code == 0
    yield [name, "v1", "v2"]


@pytest.mark.parametrize(
    ("moment", "after"),
    [
        ("POST /containers/create", True),
        ("/start$", True),
        ("/wait", True),
        ("/rename", False),
        ("/rename", True),
        ("/stop", False),
        ("DELETE /containers/[0-9a-f]{64}", False),
    ],
)
def test_killed(shop: Shop, turning: list[str], moment: str, after: bool) -> None:
    name, now, then = turning
    with traffic(f"{shop.proxy.url}/{name}/1", clients=1) as seen:
        during(shop, (name, then), signal.SIGKILL, moment, after)
        # A container gets its name once it was watched with the traffic.
        switched = moment.startswith(("/rename", "/stop", "DELETE"))
        assert shop.version(name) == (then if switched else now)
        again = shop.deploy(name, shop.image(then), keep_releases=0)
    turning[1:] = [then, now]
    assert again.code == 0, again.output
    assert seen.lost == []
    assert shop.version(name) == then
    (left,) = shop.containers(name)
    assert left.status == "running" and left.name.endswith("-1")


@pytest.mark.parametrize("moment", ["POST /containers/create", "/start$", "/wait", "/rename"])
def test_told_to_end(shop: Shop, live: str, moment: str) -> None:
    before = shop.state(live)
    ended = during(shop, (live, "v2"), signal.SIGTERM, moment, after=True)
    assert ended.result["kind"] == "interrupted", ended.output
    assert shop.state(live) == before
    assert shop.version(live) == "v1"
