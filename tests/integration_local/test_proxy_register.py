# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""proxy_register against the real proxy and services behind it.

Through ansible-playbook where tasks follow each other; a single one is called without a play.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest
import requests

from tests.support.apps import AppProcess
from tests.support.modules import call_task
from tests.support.plays import TaskResult, run_play
from tests.support.proxy import PATIENCE, Proxy, start_backend, start_proxy
from tests.support.waiting import eventually


@dataclass
class Lab:
    """A proxy, two versions of a service, and the module's options for them."""

    proxy: Proxy
    blue: AppProcess
    green: AppProcess

    def task(self, **options: Any) -> dict[str, Any]:
        return {
            "name": "Switch",
            "immutable.delivery.proxy_register": {
                "api_url": self.proxy.url,
                "service": "demo",
                "prove_path": "/hits",
                "drain_timeout": 20,
                **options,
            },
        }

    def call(self, *, check: bool = False, diff: bool = False, **options: Any) -> TaskResult:
        return call_task(self.task(**options), check=check, diff=diff)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    with start_proxy(folder) as proxy:
        blue = start_backend(folder, "blue")
        green = start_backend(folder, "green")
        try:
            yield Lab(proxy, blue, green)
        finally:
            blue.kill()
            green.kill()


@pytest.fixture
def lab(started: Lab) -> Iterator[Lab]:
    """Both versions run, and the proxy knows of none."""
    yield started
    started.proxy.api("DELETE", "/demo")


@pytest.fixture
def nobody() -> str:
    """An address at which nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def version_of(lab: Lab) -> str:
    return requests.get(f"{lab.proxy.url}/demo/hits", timeout=PATIENCE).headers["X-Version"]


def test_first_registration_then_a_switch_then_the_same_again_then_absent(lab: Lab) -> None:
    play = run_play(
        [
            {**lab.task(url=lab.blue.url), "name": "First"},
            {**lab.task(url=lab.green.url + "/"), "name": "Second"},
            {**lab.task(url=lab.green.url), "name": "Again"},
            {**lab.task(state="absent"), "name": "Remove"},
            {**lab.task(state="absent"), "name": "Remove again"},
        ]
    ).ok()
    first, second, again = play.task("First"), play.task("Second"), play.task("Again")
    assert first.changed
    assert (first["previous_url"], first["url"]) == (None, lab.blue.url)
    assert first["proved"] is True
    assert second.changed
    assert (second["previous_url"], second["url"]) == (lab.blue.url, lab.green.url)
    assert (second["drained"], second["in_flight"]) == (True, 0)
    assert [step["step"].split()[0] for step in second["steps"]] == ["send", "prove", "drain"]
    assert not again.changed
    assert again["url"] == lab.green.url
    removed = play.task("Remove")
    assert removed.changed
    assert (removed["previous_url"], removed["url"]) == (lab.green.url, None)
    assert not play.task("Remove again").changed
    assert lab.proxy.current("demo") is None


def test_check_mode_asks_for_health_and_writes_nothing(lab: Lab, nobody: str) -> None:
    lab.proxy.register("demo", lab.blue.url)
    before = lab.proxy.registry.read_bytes()
    play = run_play([lab.task(url=lab.green.url)], check=True, diff=True).ok()
    assert play[0].changed
    assert play[0]["diff"] == {
        "before": f"demo goes to {lab.blue.url}\n",
        "after": f"demo goes to {lab.green.url}\n",
    }
    assert play[0]["proved"] is False
    assert lab.proxy.registry.read_bytes() == before
    assert lab.proxy.current("demo") == lab.blue.url
    refused = lab.call(url=nobody, check=True, health_timeout=0)
    assert refused.failed
    assert "Nothing was changed" in refused.msg


def test_an_address_that_does_not_answer_is_refused(lab: Lab, nobody: str) -> None:
    lab.proxy.register("demo", lab.blue.url)
    done = lab.call(url=nobody, health_timeout=0)
    assert done.failed
    assert nobody in done.msg
    assert f"Nothing was changed: demo goes to {lab.blue.url}." in done.msg
    assert lab.proxy.current("demo") == lab.blue.url


def test_a_failed_proof_puts_the_earlier_address_back(lab: Lab) -> None:
    lab.proxy.register("demo", lab.blue.url)
    done = lab.call(url=lab.green.url, prove_fields={"version": "v24"}, prove_timeout=0.1)
    assert done.failed
    assert done["kind"] == "unproved"
    assert f"{lab.proxy.url}/demo/hits did not answer as healthy" in done.msg
    assert "version is missing, and should be v24" in done.msg
    assert f"demo goes to {lab.blue.url}." in done.msg
    assert lab.proxy.current("demo") == lab.blue.url
    assert version_of(lab) == "blue"


def test_a_failed_proof_of_the_first_registration_leaves_none(lab: Lab) -> None:
    done = lab.call(url=lab.green.url, prove_fields={"version": "v24"}, prove_timeout=0.1)
    assert "demo is registered nowhere." in done.msg
    assert lab.proxy.current("demo") is None


def test_requests_on_the_earlier_version_are_waited_for(lab: Lab) -> None:
    lab.proxy.register("demo", lab.blue.url)
    answers: list[requests.Response] = []

    def ask() -> None:
        answers.append(requests.get(f"{lab.proxy.url}/demo/held", timeout=PATIENCE))

    client = threading.Thread(target=ask)
    client.start()
    try:
        eventually(lambda: lab.proxy.drain("demo")["current_in_flight"] > 0, "the slow request")
        # It is left behind, with a warning, where the time is up ...
        done = lab.call(url=lab.green.url, drain_timeout=0.2)
        assert not done.failed, done
        assert (done["drained"], done["in_flight"]) == (False, 1)
        assert "1 request(s) were left" in str(done["warnings"])
        # ... a failure where that was asked for, and the switch stands ...
        done = lab.call(url=lab.green.url, drain_timeout=0, drain_required=True)
        assert done["kind"] == "not_drained"
        assert done["state"] == f"demo goes to {lab.green.url}."
    finally:
        requests.get(f"{lab.blue.url}/open", timeout=PATIENCE)
        client.join(PATIENCE)
    # ... and the same address again waits for what is left, and has changed nothing.
    done = lab.call(url=lab.green.url)
    assert not done.failed, done
    assert not done.changed
    assert (done["drained"], done["in_flight"]) == (True, 0)
    assert [answer.headers["X-Version"] for answer in answers] == ["blue"]


def test_several_targets_and_back_to_one(lab: Lab) -> None:
    both = [lab.green.url, lab.blue.url]
    play = run_play(
        [
            {**lab.task(url=lab.blue.url), "name": "One"},
            {**lab.task(urls=both), "name": "Two"},
            {**lab.task(urls=both[::-1]), "name": "Again"},
            {**lab.task(urls=[lab.green.url]), "name": "One less"},
        ]
    ).ok()
    two = play.task("Two")
    assert (two["previous_urls"], two["urls"]) == ([lab.blue.url], both)
    assert (two["previous_url"], two["url"]) == (lab.blue.url, lab.green.url)
    assert two["proved"] is True
    assert not play.task("Again").changed
    less = play.task("One less")
    assert less.changed
    assert (less["previous_urls"], less["urls"]) == (both, [lab.green.url])
    assert less["drained"] is True
    assert version_of(lab) == "green"


def test_a_failed_proof_puts_all_earlier_targets_back(lab: Lab) -> None:
    both = [lab.blue.url, lab.green.url]
    assert lab.call(urls=both).changed
    done = lab.call(url=lab.green.url, prove_fields={"version": "v24"}, prove_timeout=0.1)
    assert f"demo goes to {lab.blue.url} and {lab.green.url}." in done.msg
    assert lab.proxy.api("GET", "/demo").json()["urls"] == both


class SeedProxy:
    """A proxy as the demo's original is: one address, POST alone, no drain and no tags."""

    def __init__(self) -> None:
        self.url: str | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != "/services/demo":
                    self._say(404, b"Cannot GET")
                    return
                entry = {"url": {"url": outer.url, "name": "demo"}} if outer.url else {}
                self._say(200, json.dumps(entry).encode())

            def do_POST(self) -> None:
                outer.url = unquote(self.path.removeprefix("/services/demo/"))
                self._say(200, b'{"success": true}')

            def do_PUT(self) -> None:
                self._say(404, b"Cannot PUT")

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

            def _say(self, status: int, body: bytes) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(PATIENCE)


@pytest.fixture
def seed_proxy() -> Iterator[SeedProxy]:
    proxy = SeedProxy()
    try:
        yield proxy
    finally:
        proxy.close()


def test_the_original_proxy_takes_one_target_and_refuses_several(
    lab: Lab, seed_proxy: SeedProxy
) -> None:
    options = {"api_url": seed_proxy.api_url, "prove_path": "", "drain_timeout": 0}
    done = lab.call(url=lab.blue.url, **options)
    assert not done.failed, done
    assert (done["previous_url"], done["urls"]) == (None, [lab.blue.url])
    done = lab.call(urls=[lab.blue.url, lab.green.url], **options)
    assert "takes one address for demo, and not 2" in done.msg
    assert f"demo goes to {lab.blue.url}." in done.msg
    assert seed_proxy.url == lab.blue.url


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"url": "ftp://127.0.0.1"}, "is not an http or https address"),
    ({"url": "http://127.0.0.1/?a=b"}, "must not have a query"),
    ({"url": "http://user:pw@127.0.0.1"}, "must not carry a user name"),
    ({"url": "http://127.0.0.1", "service": "services"}, "cannot be the name of a service"),
    ({"url": "http://127.0.0.1", "prove_count": 0}, "prove_count must be at least 1"),
    ({"url": "http://127.0.0.1", "drain_timeout": -1}, "drain_timeout must not be less"),
    ({"url": "http://127.0.0.1", "timeout": 0}, "timeout must be more than 0"),
    ({"url": "http://127.0.0.1", "prove_path": "health"}, "must begin with a slash"),
    ({"url": "http://127.0.0.1", "prove_path": "", "prove_fields": {"a": 1}}, "needs prove_path"),
    ({"prove_path": "/"}, "missing: url"),
    ({"urls": []}, "urls must name one address at least"),
    ({"urls": ["http://127.0.0.1:1", "http://127.0.0.1:1/"]}, "names an address twice"),
    ({"urls": ["http://127.0.0.1:1", "ftp://x"]}, "is not an http or https address"),
    ({"url": "http://127.0.0.1", "urls": ["http://127.0.0.1"]}, "mutually exclusive: url|urls"),
]


def test_bad_options_are_refused(lab: Lab) -> None:
    tasks = [{**lab.task(**options), "ignore_errors": True} for options, _message in BAD_OPTIONS]
    play = run_play(tasks)
    for result, (options, message) in zip(play.results, BAD_OPTIONS, strict=True):
        assert result.failed, options
        assert message in result.msg
    assert lab.proxy.api("GET", "").json() == []
