# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small apps as processes: demo service, webhook listener, gateway and the portal's page."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.apps import AppDidNotStart, AppProcess, start_app
from tests.support.portal import start_portal
from tests.support.proxy import PATIENCE, ROOT, Scripted, always, scripted, start_backend, talk
from tests.support.waiting import eventually

APPS = ROOT / "apps"
SMALL = ("demo-service", "webhook-listener", "gateway", "portal-web")

Run = Callable[..., AppProcess]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Starts an app by its name; its environment are the keywords."""
    with ExitStack() as stack:

        def start(name: str, *options: str, **environment: str) -> AppProcess:
            ready = tmp_path / f"{name}.ready"
            argv = [sys.executable, str(APPS / name / "main.py"), "--ready-file", str(ready)]
            app = start_app([*argv, "--listen", "127.0.0.1:0", *options], environment, ready)
            stack.callback(app.kill)
            return app

        yield start


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers=headers, timeout=PATIENCE)


@pytest.mark.parametrize("name", ["serving.py", "healthcheck"])
def test_what_is_the_same_in_every_app_is_the_same(name: str) -> None:
    files = list(APPS.glob(f"*/{name}"))
    assert len(files) >= len(SMALL)
    assert len({path.read_bytes() for path in files}) == 1


def test_the_data_only_image_has_the_portals_configuration() -> None:
    for path in (APPS / "portal" / "static").iterdir():
        assert (APPS / "portal-static" / "static" / path.name).read_bytes() == path.read_bytes()


# Start and end, the same for all.


@pytest.mark.parametrize("app", SMALL)
def test_it_ends_in_good_order_and_its_port_is_free_then(run: Run, app: str) -> None:
    process = run(app)
    port = int(process.url.rpartition(":")[2])
    assert process.stop() == 0
    assert "ended" in process.log()
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--listen", "nonsense"], 2, "HOST:PORT"),
        (["--listen", "127.0.0.1:70000"], 2, "HOST:PORT"),
        (["--listen", "no-such-host.invalid:0"], 1, "Cannot listen"),
        (["--unknown"], 2, "--unknown"),
        (["--ready-file", "/no/such/folder/file"], 1, "cannot be written"),
    ],
)
@pytest.mark.parametrize("app", SMALL)
def test_a_start_that_cannot_succeed_says_why_in_one_line(
    app: str, options: list[str], code: int, said: str
) -> None:
    argv = [sys.executable, str(APPS / app / "main.py"), "--listen", "127.0.0.1:0", *options]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert (done.returncode, said in last, "Traceback" in done.stderr) == (code, True, False)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        argv = [sys.executable, str(APPS / "demo-service" / "main.py"), "--listen", address]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert address in done.stderr and "in use" in done.stderr


# The demo service.


def test_the_demo_recommends_and_tells_its_version(run: Run) -> None:
    app = run("demo-service", DEMO_VERSION="1.2.3", DEMO_RELEASE="1.2.3-4")
    answer = get(f"{app.url}/7")
    assert isinstance(answer.json()["rec"], int)
    assert answer.headers["X-Version"] == "1.2.3"
    assert get(f"{app.url}/health").json() == {
        "status": "ok",
        "version": "1.2.3",
        "release": "1.2.3-4",
    }
    assert get(f"{app.url}/a/b").status_code == 404


@pytest.mark.parametrize("environment", [{"DEMO_VERSION": "a b"}, {"DEMO_FAULT": "crash"}])
def test_the_demo_refuses_to_start_with_what_cannot_be_right(
    run: Run, environment: dict[str, str]
) -> None:
    with pytest.raises(AppDidNotStart) as caught:
        run("demo-service", **environment)
    assert caught.value.code == 2


def integration_tests(**environment: str) -> tuple[int, str]:
    argv = [sys.executable, str(APPS / "demo-service" / "integration_tests.py")]
    plain = {key: value for key, value in os.environ.items() if key != "URL"}
    done = subprocess.run(
        argv,
        env={**plain, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout.strip().splitlines()[-1]


def test_the_integration_tests_pass_by_themselves_and_against_a_url(run: Run) -> None:
    assert integration_tests() == (0, "All 4 tests of a service of their own passed.")
    app = run("demo-service", DEMO_VERSION="2.0")
    expected = (0, f"All 4 tests of {app.url} passed.")
    assert integration_tests(URL=f"{app.url}/", EXPECT_VERSION="2.0") == expected
    code, last = integration_tests(URL=app.url, EXPECT_VERSION="3.0")
    assert code == 1 and "the version is '2.0', not 3.0" in last


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"rec": true}',
        b"nonsense\r\n\r\n",
        b"",
    ],
)
def test_the_integration_tests_fail_where_something_else_answers(answer: bytes) -> None:
    with scripted(always(answer, close=True)) as server:
        code, last = integration_tests(URL=server.url, WAIT="0")
    assert code == 1 and "FAILED" in last


def test_the_unit_tests_of_the_image_pass_here_as_well() -> None:
    argv = [sys.executable, "-m", "unittest", "discover", "-s", "tests"]
    folder = APPS / "demo-service"
    subprocess.run(argv, cwd=folder, check=True, capture_output=True, timeout=PATIENCE)


# The webhook listener.


def test_the_listener_remembers_what_it_was_told(run: Run) -> None:
    app = run("webhook-listener", LISTENER_NAME="mailer")
    post = requests.post(f"{app.url}/hooks/1", json={"action": "add"}, timeout=PATIENCE)
    assert post.json() == {"received": 1}
    several = [{"action": "delete"}, {"action": "add"}]
    assert requests.post(app.url, json=several, timeout=PATIENCE).json() == {"received": 3}
    told = get(f"{app.url}/events").json()
    assert told["received"] == 3
    assert told["events"][0] == {"number": 1, "path": "/hooks/1", "event": {"action": "add"}}
    assert [event["path"] for event in told["events"][1:]] == ["/", "/"]
    assert get(f"{app.url}/health").json() == {"status": "ok", "name": "mailer", "received": 3}
    assert requests.delete(f"{app.url}/events", timeout=PATIENCE).status_code == 204
    assert get(f"{app.url}/events").json() == {"received": 3, "events": []}


def test_the_listener_forgets_the_oldest_and_refuses_what_is_no_event(run: Run) -> None:
    app = run("webhook-listener")
    many: list[int] = list(range(1500))
    assert requests.post(app.url, json=many, timeout=PATIENCE).ok
    events = get(f"{app.url}/events").json()["events"]
    assert [event["event"] for event in events] == many[500:]
    for body, code in ((b"{", 400), (b"\xff", 400), (b"[" * 100_000, 400), (b"1" * 300_000, 413)):
        assert requests.post(app.url, data=body, timeout=PATIENCE).status_code == code
    with pytest.raises(AppDidNotStart):
        run("webhook-listener", LISTENER_NAME="a b")


# The gateway.


@contextmanager
def gateway(run: Run, tmp_path: Path, routes: str = "", **environment: str) -> Iterator[str]:
    """A gateway before the backend of the proxy's tests."""
    backend = start_backend(tmp_path, "v1")
    try:
        given = {"GATEWAY_PORTAL_API": backend.url, **environment}
        given["GATEWAY_ROUTES"] = routes.replace("BACKEND", backend.url)
        yield run("gateway", **given).url
    finally:
        backend.kill()


def seen(answer: requests.Response) -> dict[str, Any]:
    """What the backend was asked."""
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    told["headers"] = {name.lower(): value for name, value in told["headers"]}
    return told


def test_the_gateway_routes_by_whole_segments_of_the_path(run: Run, tmp_path: Path) -> None:
    routes = "/apis=BACKEND /apis/two=BACKEND/deeper /=BACKEND/rest /gone=http://127.0.0.1:1"
    with gateway(run, tmp_path, routes) as url:
        for asked, path in (
            ("/deploy/v1/export?a=b%2Fc", "/deploy/v1/export?a=b%2Fc"),
            ("/apis/one", "/apis/one"),
            ("/apis/two/x%20y?q", "/deeper/x%20y?q"),
            ("/apis/two", "/deeper/"),
            ("/apis/twofold", "/apis/twofold"),
            ("/other", "/rest/other"),
            ("/", "/rest/"),
        ):
            assert seen(get(url + asked))["path"] == path
        assert get(f"{url}/gone/x").status_code == 502
    with gateway(run, tmp_path) as url:
        assert get(f"{url}/elsewhere").status_code == 404
        assert get(f"{url}/deploy/v10").status_code == 404


def test_the_gateway_passes_headers_and_bodies_on(run: Run, tmp_path: Path) -> None:
    body = os.urandom(3_000_000)
    headers = {
        "Authorization": "the-key",
        "Host": "api.portal.example",
        "X-SHA256-Hash": "abc",
        "Connection": "X-Hop",
        "X-Hop": "1",
    }
    with gateway(run, tmp_path) as url:
        for data in (body, iter([body[:1_000_000], body[1_000_000:]])):
            answer = requests.post(
                f"{url}/deploy/v1/x", data=data, headers=headers, timeout=PATIENCE
            )
            told = seen(answer)
            assert told["method"] == "POST"
            assert told["sha256"] == hashlib.sha256(body).hexdigest()
            assert told["headers"]["authorization"] == "the-key"
            assert told["headers"]["host"] == "api.portal.example"
            assert told["headers"]["x-forwarded-host"] == "api.portal.example"
            assert told["headers"]["x-sha256-hash"] == "abc"
            assert "x-hop" not in told["headers"]
        big = get(f"{url}/deploy/v1/x")
        assert big.headers["X-Version"] == "v1"
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
            answer = requests.request(method, f"{url}/deploy/v1/x", timeout=PATIENCE)
            assert seen(answer)["method"] == method
        head = requests.head(f"{url}/deploy/v1/x", timeout=PATIENCE)
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["Content-Length"]) > 0


def test_half_an_answer_of_a_backend_is_cut_off(run: Run) -> None:
    def half(server: Scripted, connection: socket.socket, _number: int) -> None:
        server.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")

    with scripted(half) as server:
        app = run("gateway", GATEWAY_PORTAL_API=server.url)
        with pytest.raises(requests.RequestException):
            get(f"{app.url}/deploy/v1/x").raise_for_status()


def test_redirects_cookies_and_compressed_bodies_are_left_alone(run: Run) -> None:
    answer = (
        b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x00"
    )
    with scripted(always(answer)) as server:
        app = run("gateway", GATEWAY_PORTAL_API=server.url)
        port = int(app.url.rpartition(":")[2])
        request = b"GET /deploy/v1/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        told = talk(port, request)
        assert b"302 Found" in told and b"Location: /elsewhere" in told
        assert told.count(b"Set-Cookie: ") == 2
        assert told.endswith(b"\x1f\x8b\x00")
        # The second does not carry the cookies of the first.
        talk(port, request)
        assert b"Cookie" not in server.requests[1]


def test_the_gateway_waits_for_its_database_and_reports_it(run: Run, tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        database = f"127.0.0.1:{port}"
        with gateway(run, tmp_path, GATEWAY_POSTGRES=database, HEALTH_PATH="/own") as url:
            assert get(f"{url}/own").status_code == 503
            assert get(f"{url}/own").json() == {"status": "sick", "database": "away"}
            assert get(f"{url}/deploy/v1/x").status_code == 503
            held.listen()
            eventually(lambda: get(f"{url}/own").status_code == 200, "the database is seen")
            assert get(f"{url}/own").json() == {"status": "ok", "database": "ok"}
            assert get(f"{url}/deploy/v1/x").status_code == 200


@pytest.mark.parametrize(
    "environment",
    [
        {"GATEWAY_ROUTES": "nonsense"},
        {"GATEWAY_ROUTES": "/x=ftp://host"},
        {"GATEWAY_POSTGRES": "host"},
        {"GATEWAY_POSTGRES": "host:port"},
        {"GATEWAY_PORTAL_API": "portal"},
    ],
)
def test_a_gateway_with_settings_that_cannot_be_right_does_not_start(
    run: Run, environment: dict[str, str]
) -> None:
    with pytest.raises(AppDidNotStart) as caught:
        run("gateway", **environment)
    assert caught.value.code == 2
    assert "Traceback" not in caught.value.log


# The portal's page.


def test_the_page_shows_what_the_portal_says(run: Run, tmp_path: Path) -> None:
    with start_portal(tmp_path) as portal:
        web = run("portal-web", PORTAL_API_URL=portal.url, PORTAL_API_HOST="api.portal.example")
        version = get(f"{portal.url}/health").json()["version"]
        assert f'<span id="version">{version}</span>' in get(web.url).text
        assert '<span id="users">0</span>' in get(web.url).text
        user = {"firstName": "A", "lastName": "B", "email": "a@b.example"}
        requests.post(f"{portal.url}/users", json=user, timeout=PATIENCE)
        assert '<span id="users">1</span>' in get(web.url).text
        assert get(f"{web.url}/health").json() == {"status": "ok", "version": version}
        portal.stop()
        assert get(web.url).status_code == 503
        assert get(f"{web.url}/health").json()["status"] == "sick"


def test_what_the_portal_says_is_no_markup(run: Run) -> None:
    body = json.dumps({"version": "<script>", "users": "<b>"}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with scripted(always(head % len(body) + body)) as server:
        web = run("portal-web", PORTAL_API_URL=server.url)
        page = get(web.url).text
    assert "&lt;script&gt;" in page and "<script>" not in page and "<b>" not in page


@pytest.mark.parametrize("body", [b"[]", b"{", b"<html>"])
def test_a_portal_that_says_something_else_is_no_page(run: Run, body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with scripted(always(head % len(body) + body)) as server:
        web = run("portal-web", PORTAL_API_URL=server.url)
        assert get(web.url).status_code == 503
        assert get(f"{web.url}/health").status_code == 503
