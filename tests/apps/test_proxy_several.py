# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several targets behind one name, and changes that hold only for what the caller has seen."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.apps import AppProcess
from tests.support.proxy import PATIENCE, Proxy, start_backend, start_proxy
from tests.support.proxy_client import KeepAlive
from tests.support.waiting import eventually

ONE, TWO, THREE = (f"http://127.0.0.1:{port}" for port in (1, 2, 3))


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[AppProcess]]:
    folder = tmp_path_factory.mktemp("backends")
    apps = [start_backend(folder, version) for version in ("v0", "v1", "v2")]
    yield apps
    for app in apps:
        app.kill()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with start_proxy(tmp_path_factory.mktemp("proxy"), connect_timeout=2) as app:
        yield app


def put(proxy: Proxy, name: str, body: Any, **headers: str) -> requests.Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.put(
        f"{proxy.url}/services/{name}",
        data=data,
        headers={key.replace("_", "-"): value for key, value in headers.items()},
        timeout=PATIENCE,
    )


def put_urls(proxy: Proxy, name: str, *urls: str) -> None:
    answer = put(proxy, name, {"urls": urls})
    assert (answer.status_code, answer.json()) == (200, {"success": True}), answer.text


def tag(proxy: Proxy, name: str) -> str:
    return proxy.api("GET", f"/{name}").headers["ETag"]


@contextmanager
def refusing() -> Iterator[str]:
    """An address that refuses connections, and that nobody else takes meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def mute() -> Iterator[str]:
    """An address at which connecting neither succeeds nor fails."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _time in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


# The API.


def test_all_targets_are_set_at_once_and_read_back(proxy: Proxy) -> None:
    put_urls(proxy, "set", ONE, TWO)
    assert proxy.api("GET", "/set").json() == {
        "url": {"url": ONE, "name": "set"},
        "urls": [ONE, TWO],
    }
    entry = {"name": "set", "url": ONE, "urls": [ONE, TWO], "in_flight": 0}
    assert entry in proxy.api("GET", "").json()
    assert proxy.drain("set")["urls"] == [ONE, TWO]
    put_urls(proxy, "set", THREE, ONE)
    assert proxy.api("GET", "/set").json()["urls"] == [THREE, ONE]
    proxy.register("set", TWO)
    assert proxy.api("GET", "/set").json()["urls"] == [TWO]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        [],
        {},
        {"url": ONE},
        {"urls": ONE},
        {"urls": []},
        {"urls": [ONE, 1]},
        {"urls": [ONE, None]},
        {"urls": [ONE, ONE]},
        {"urls": [ONE, "ftp://host"]},
        {"urls": [ONE, "http://user:secret@host"]},
        {"urls": [f"http://127.0.0.1:{port}" for port in range(1, 300)]},
        {"urls": [ONE], "more": "x" * 2_000_000},
    ],
)
def test_targets_that_cannot_be_right_are_refused_in_a_sentence(proxy: Proxy, body: Any) -> None:
    put_urls(proxy, "kept", TWO)
    answer = put(proxy, "kept", body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"].endswith(".")
    assert "secret" not in answer.text
    assert proxy.api("GET", "/kept").json()["urls"] == [TWO]


def test_several_targets_and_generations_survive_a_restart(tmp_path: Path) -> None:
    with start_proxy(tmp_path) as proxy:
        put_urls(proxy, "many", ONE, TWO)
        proxy.register("one", THREE)
        tags = tag(proxy, "many"), tag(proxy, "one")
        proxy.restart()
        assert proxy.api("GET", "/many").json()["urls"] == [ONE, TWO]
        assert (tag(proxy, "many"), tag(proxy, "one")) == tags
        put_urls(proxy, "many", ONE)
        assert tag(proxy, "many") not in tags


def test_a_file_from_before_there_were_several_is_read(tmp_path: Path) -> None:
    (tmp_path / "services.json").write_text(
        json.dumps({"version": 1, "services": {"a": ONE, "b": TWO}})
    )
    with start_proxy(tmp_path) as proxy:
        assert proxy.current("a") == ONE
        assert len({tag(proxy, "a"), tag(proxy, "b"), '"0"'}) == 3


# Compare and set.


def test_a_change_moves_the_tag_and_the_same_again_does_not(proxy: Proxy) -> None:
    assert tag(proxy, "tags") == '"0"'
    seen = ['"0"']
    for urls in ([ONE], [ONE, TWO], [TWO, ONE], [ONE]):
        answer = put(proxy, "tags", {"urls": urls})
        assert answer.headers["ETag"] == tag(proxy, "tags")
        seen.append(answer.headers["ETag"])
    assert proxy.api("DELETE", "/tags").status_code == 200
    assert tag(proxy, "tags") == '"0"'
    proxy.register("tags", ONE)
    seen.append(tag(proxy, "tags"))
    assert len(set(seen)) == len(seen)
    proxy.register("tags", ONE)
    assert tag(proxy, "tags") == seen[-1]


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_a_change_that_rests_on_what_no_longer_stands_is_refused(proxy: Proxy, method: str) -> None:
    name = f"stale-{method}"
    proxy.register(name, ONE)
    old = tag(proxy, name)
    proxy.register(name, TWO)

    def change(believed: str) -> requests.Response:
        url = f"{proxy.url}/services/{name}"
        return requests.request(
            method,
            f"{url}/{THREE.replace('/', '%2F')}" if method == "POST" else url,
            json={"urls": [THREE]} if method == "PUT" else None,
            headers={"If-Match": believed},
            timeout=PATIENCE,
        )

    for believed in (old, '"0"', 'W/"1"', f'{old}, "99999"'):
        answer = change(believed)
        assert answer.status_code == 412, answer.text
        assert answer.headers["ETag"] == tag(proxy, name)
        assert answer.json()["error"].endswith(".")
        assert proxy.current(name) == TWO
    assert change("5").status_code == 400
    assert change(f"{old}, {tag(proxy, name)}").status_code == 200
    assert proxy.current(name) == (None if method == "DELETE" else THREE)


def test_a_name_can_be_taken_only_where_it_is_free(proxy: Proxy) -> None:
    assert put(proxy, "free", {"urls": [ONE]}, If_Match="*").status_code == 412
    assert put(proxy, "free", {"urls": [ONE]}, If_None_Match="*").status_code == 200
    assert put(proxy, "free", {"urls": [TWO]}, If_None_Match="*").status_code == 412
    assert put(proxy, "free", {"urls": [TWO]}, If_Match='"0"').status_code == 412
    # What is wanted stands already: whoever repeats a call whose answer was lost is satisfied.
    assert put(proxy, "free", {"urls": [ONE]}, If_Match='"0"').status_code == 200
    assert put(proxy, "free", {"urls": [TWO]}, If_Match="*").status_code == 200
    assert proxy.current("free") == TWO


def test_of_many_at_once_that_have_seen_the_same_one_gets_through(proxy: Proxy) -> None:
    proxy.register("race", ONE)
    seen = tag(proxy, "race")
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda port: (
                    put(
                        proxy, "race", {"urls": [f"http://127.0.0.1:{port}"]}, If_Match=seen
                    ).status_code
                ),
                range(100, 108),
            )
        )
    assert Counter(answers) == {200: 1, 412: 7}


# What becomes of requests.


def test_requests_are_spread_over_the_targets(proxy: Proxy, backends: list[AppProcess]) -> None:
    put_urls(proxy, "spread", *(app.url for app in backends))
    with requests.Session() as session:
        versions = Counter(
            session.get(f"{proxy.url}/spread/tiny", timeout=PATIENCE).headers["X-Version"]
            for _time in range(30)
        )
    assert versions == {"v0": 10, "v1": 10, "v2": 10}


def test_the_target_that_is_busy_gets_less(proxy: Proxy, backends: list[AppProcess]) -> None:
    put_urls(proxy, "busy", backends[0].url, backends[1].url)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(requests.get, f"{proxy.url}/busy/slow?seconds=3", timeout=PATIENCE)
        eventually(lambda: proxy.drain("busy")["current_in_flight"] == 1, "the slow request")
        versions = {
            requests.get(f"{proxy.url}/busy/tiny", timeout=PATIENCE).headers["X-Version"]
            for _time in range(4)
        }
        occupied = held.result(PATIENCE).headers["X-Version"]
    assert versions == {"v0", "v1"} - {occupied}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_target_that_refuses_is_passed_over(
    proxy: Proxy, backends: list[AppProcess], method: str
) -> None:
    with refusing() as one, refusing() as two:
        put_urls(proxy, "gaps", one, backends[0].url, two)
        for _time in range(12):
            answer = requests.request(method, f"{proxy.url}/gaps/x", data=b"x", timeout=PATIENCE)
            assert (answer.status_code, answer.headers["X-Version"]) == (200, "v0")
        put_urls(proxy, "gaps", one, two)
        answer = requests.request(method, f"{proxy.url}/gaps/x", data=b"x", timeout=PATIENCE)
        assert answer.status_code == 502
    assert proxy.drain("gaps")["current_in_flight"] == 0
    assert proxy.drain("gaps")["in_flight"] == 0


def test_a_target_that_takes_no_connection_in_time_is_passed_over(
    proxy: Proxy, backends: list[AppProcess]
) -> None:
    with mute() as one:
        put_urls(proxy, "mute", one, backends[0].url)
        for _time in range(3):
            assert requests.post(f"{proxy.url}/mute/x", data=b"x", timeout=PATIENCE).ok
        put_urls(proxy, "mute", one)
        answer = requests.get(f"{proxy.url}/mute/x", timeout=PATIENCE)
        assert answer.status_code == 504


def test_a_target_that_stays_keeps_its_requests_and_one_that_goes_drains(
    proxy: Proxy, backends: list[AppProcess]
) -> None:
    zero, one, two = (app.url for app in backends)
    put_urls(proxy, "part", zero, one)
    with ThreadPoolExecutor(2) as pool:
        held = [
            pool.submit(requests.get, f"{proxy.url}/part/held", timeout=PATIENCE)
            for _time in range(2)
        ]
        eventually(lambda: proxy.drain("part")["current_in_flight"] == 2, "both requests")
        put_urls(proxy, "part", one, two)
        state = proxy.drain("part")
        assert state["draining"] == [{"url": zero, "in_flight": 1}]
        assert (state["in_flight"], state["current_in_flight"]) == (1, 1)
        put_urls(proxy, "part", zero, one)
        state = proxy.drain("part")
        assert (state["in_flight"], state["current_in_flight"]) == (0, 2)
        for app in backends:
            requests.get(f"{app.url}/open", timeout=PATIENCE)
        assert {request.result(PATIENCE).headers["X-Version"] for request in held} == {"v0", "v1"}


def test_a_rolling_exchange_of_targets_under_load_loses_nothing(
    proxy: Proxy, tmp_path: Path
) -> None:
    """One new up before one old leaves, and the old one is ended as soon as it has drained."""

    async def load(stop: asyncio.Event, method: str, wrong: list[str]) -> int:
        client = await KeepAlive.open(proxy.url)
        count = 0
        while not stop.is_set():
            answer = await client.request(method, "/rolling/x", b"x" * 100)
            count += 1
            if answer.status != 200:
                wrong.append(f"{method}: {answer}")
        client.close()
        return count

    async def roll(stack: ExitStack, first: list[AppProcess]) -> None:
        admin = await KeepAlive.open(proxy.url)

        async def put_all(apps: list[AppProcess]) -> None:
            body = json.dumps({"urls": [app.url for app in apps]}).encode()
            assert (await admin.request("PUT", "/services/rolling", body)).status == 200

        live = list(first)
        await put_all(live)
        for number in range(4):
            new = await asyncio.to_thread(start_backend, tmp_path, f"new{number}")
            stack.callback(new.kill)
            await put_all([*live, new])
            old, live = live[0], [*live[1:], new]
            await put_all(live)
            drained = await admin.request("GET", "/services/rolling/drain?wait=30")
            assert b'"in_flight": 0' in drained.body
            assert await asyncio.to_thread(old.stop) == 0
        admin.close()

    async def play(stack: ExitStack) -> tuple[list[str], int]:
        first = [start_backend(tmp_path, f"old{number}") for number in range(2)]
        for app in first:
            stack.callback(app.kill)
        put_urls(proxy, "rolling", *(app.url for app in first))
        stop, wrong = asyncio.Event(), list[str]()
        tasks = [
            asyncio.create_task(load(stop, ("GET", "POST")[number % 2], wrong))
            for number in range(6)
        ]
        try:
            await roll(stack, first)
        finally:
            stop.set()
        return wrong, sum(await asyncio.gather(*tasks))

    with ExitStack() as stack:
        wrong, answered = asyncio.run(play(stack))
    assert wrong == []
    assert answered > 100
