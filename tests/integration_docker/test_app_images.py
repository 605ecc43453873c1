# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The images of the apps: each alone, and all of them as the portal's topology."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import quote

import pytest
import requests
from docker import DockerClient
from docker.errors import NotFound
from docker.models.containers import Container
from docker.models.networks import Network

from tests.support.engine import APPS, build
from tests.support.waiting import eventually

PATIENCE = 60.0
KEY = "key-of-the-image-tests"

Image = Callable[[str], str]


class Start(Protocol):
    """Starts a container of an app's image by the name it has in the network."""

    def __call__(self, app: str, name: str, *, healthy: bool = True, **options: Any) -> Container:
        """Options are those of the engine's client."""


@pytest.fixture(scope="module")
def network(engine: DockerClient, prefix: str) -> Iterator[Network]:
    made = engine.networks.create(f"{prefix}-net")
    yield made
    made.remove()


@pytest.fixture
def start(engine: DockerClient, prefix: str, network: Network, app_image: Image) -> Iterator[Start]:
    made: list[Container] = []

    def run(app: str, name: str, *, healthy: bool = True, **options: Any) -> Container:
        image = options.pop("image", None) or app_image(app)
        # Their own interval is one for hosts with many of them.
        options.setdefault("healthcheck", {"interval": 10**9})
        container = engine.containers.create(image, name=f"{prefix}-{name}", **options)
        made.append(container)
        network.connect(container, aliases=[name])
        container.start()
        if healthy:
            wait_healthy(container)
        return container

    yield run
    for container in reversed(made):
        with suppress(NotFound):
            container.remove(force=True, v=True)


def health(container: Container) -> str:
    container.reload()
    return str(container.attrs["State"].get("Health", {}).get("Status"))


def wait_healthy(container: Container) -> None:
    def well() -> bool:
        status = health(container)
        running = container.status == "running"
        assert running, f"{container.name} ended:\n{container.logs().decode()}"
        return status == "healthy"

    eventually(well, f"{container.name} is healthy", PATIENCE)


def published(port: int) -> dict[str, Any]:
    return {"ports": {f"{port}/tcp": ("127.0.0.1", None)}}


def url(container: Container, port: int) -> str:
    container.reload()
    return f"http://127.0.0.1:{container.ports[f'{port}/tcp'][0]['HostPort']}"


def exit_code(container: Container) -> int:
    return int(container.wait(timeout=PATIENCE)["StatusCode"])


PORTAL: dict[str, Any] = {"environment": {"PORTAL_DEPLOYMENT_KEY": KEY, "PORTAL_VERSION": "v24"}}


def static_of(start: Start, **options: Any) -> Container:
    return start("portal-static", "static", healthy=False, **options)


# Each alone.


@pytest.mark.parametrize(
    ("app", "port", "options"),
    [
        ("demo-service", 8080, {}),
        ("proxy-service", 8000, {}),
        ("webhook-listener", 3002, {}),
        ("gateway", 8000, {}),
        ("haproxy", 80, {}),
        ("postgres", 5432, {"environment": {"POSTGRES_PASSWORD": "pw"}}),
    ],
)
def test_an_image_runs_without_privileges_gets_healthy_and_ends_when_told(
    start: Start, engine: DockerClient, app: str, port: int, options: dict[str, Any]
) -> None:
    container = start(app, "alone", **options)
    processes = container.top(ps_args="-eo pid,uid")["Processes"]
    assert processes and all(uid != "0" for _pid, uid in processes), processes
    assert f"{port}/tcp" in container.attrs["Config"]["ExposedPorts"]
    container.stop(timeout=int(PATIENCE))
    assert exit_code(container) == 0, container.logs().decode()


def test_another_port_can_be_asked_for(start: Start) -> None:
    container = start(
        "webhook-listener",
        "mailer",
        environment={"LISTENER_NAME": "mailer", "HEALTH_PORT": "3003"},
        **published(3003),
    )
    base = url(container, 3003)
    assert requests.post(f"{base}/hook", json={"action": "add"}, timeout=PATIENCE).ok
    assert requests.get(f"{base}/health", timeout=PATIENCE).json()["name"] == "mailer"


def test_an_app_that_becomes_ill_is_seen_to_be(start: Start, engine: DockerClient) -> None:
    # The check is the image's own; only its patience with a beginner is shortened.
    quick = {"interval": 10**9 // 2, "start_period": 10**6, "retries": 1}
    container = start("portal-web", "web", healthy=False, healthcheck=quick)
    # Its API is nowhere, so it never gets healthy, and runs on.
    eventually(lambda: health(container) != "starting", "the health check's verdict", 90)
    assert (health(container), container.status) == ("unhealthy", "running")


# The demo.

Ended = tuple[int, str]


def test_a_unit_test_that_fails_fails_the_build(prefix: str, app_image: Image) -> None:
    app_image("demo-service")
    with pytest.raises(AssertionError, match=r"FAILED \(errors=1"):
        build(APPS / "demo-service", f"{prefix}-broken:latest", VERSION="no version")


@pytest.fixture(scope="module")
def demo_tests(prefix: str, app_image: Image) -> str:
    app_image("demo-service")
    return build(APPS / "demo-service", f"{prefix}-demo-tests:latest", "Dockerfile.test")


def ran(engine: DockerClient, image: str, **options: Any) -> tuple[int, list[str]]:
    """Exit code and output of a container that ends by itself."""
    container = engine.containers.run(image, detach=True, **options)
    try:
        code = exit_code(container)
        return code, container.logs(stdout=True, stderr=False).decode().strip().splitlines()
    finally:
        container.remove(force=True)


@pytest.fixture
def ran_against(
    engine: DockerClient, prefix: str, network: Network, demo_tests: str
) -> Callable[[str], tuple[int, list[str]]]:
    """Runs the tests against an address in the network."""
    return lambda base: ran(
        engine,
        demo_tests,
        name=f"{prefix}-tests",
        network=network.name,
        environment={"URL": base},
    )


def test_the_integration_tests_bring_a_service_of_their_own(
    engine: DockerClient, prefix: str, demo_tests: str
) -> None:
    code, lines = ran(engine, demo_tests, name=f"{prefix}-tests", network_mode="none")
    assert (code, lines[-1]) == (0, "All 4 tests of a service of their own passed.")


@pytest.mark.parametrize(
    ("fault", "ended"),
    [
        ("", (0, "All 4 tests of http://demo:8080 passed.")),
        ("wrong", (1, "1 of 4 tests of http://demo:8080 FAILED: recommends_a_number: /1")),
        ("error", (1, "1 of 4 tests of http://demo:8080 FAILED: recommends_a_number: /1")),
        ("unhealthy", (1, "2 of 4 tests of http://demo:8080 FAILED: is_healthy: /health")),
    ],
)
def test_the_integration_tests_judge_the_service_at_url(
    start: Start, ran_against: Callable[[str], tuple[int, list[str]]], fault: str, ended: Ended
) -> None:
    start("demo-service", "demo", healthy=False, environment={"DEMO_FAULT": fault})
    code, lines = ran_against("http://demo:8080")
    assert code == ended[0], lines
    assert lines[-1].startswith(ended[1])


def test_the_integration_tests_say_when_nobody_answers(
    engine: DockerClient, prefix: str, demo_tests: str
) -> None:
    environment = {"URL": "http://127.0.0.1:1", "WAIT": "0"}
    code, lines = ran(engine, demo_tests, name=f"{prefix}-tests", environment=environment)
    assert code == 1
    assert "does not answer" in lines[-1]


def test_the_proxy_keeps_its_registrations_in_its_volume(start: Start, prefix: str) -> None:
    volume = {"volumes": {f"{prefix}-registry": {"bind": "/data", "mode": "rw"}}}
    start("demo-service", "demo", environment={"DEMO_VERSION": "1.2.3"})
    first = start("proxy-service", "proxy", **volume, **published(8000))
    target = quote("http://demo:8080", safe="")
    answer = requests.post(f"{url(first, 8000)}/services/demo/{target}", timeout=PATIENCE)
    assert answer.json() == {"success": True}
    answer = requests.get(f"{url(first, 8000)}/demo/1", timeout=PATIENCE)
    assert answer.headers["X-Version"] == "1.2.3"
    first.remove(force=True)
    second = start("proxy-service", "proxy-again", **volume, **published(8000))
    answer = requests.get(f"{url(second, 8000)}/demo/1", timeout=PATIENCE)
    assert isinstance(answer.json()["rec"], int)


# The database.


def query(container: Container, password: str, sql: str, user: str = "kong") -> tuple[int, str]:
    done = container.exec_run(
        ["psql", "-h", "127.0.0.1", "-U", user, "-d", "gateway", "-tAc", sql],
        environment={"PGPASSWORD": password},
    )
    return int(done.exit_code), done.output.decode().strip()


def test_the_database_is_made_once_and_survives(start: Start, prefix: str, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("the password\n")
    secret.chmod(0o644)
    options: dict[str, Any] = {
        "environment": {
            "POSTGRES_USER": "kong",
            "POSTGRES_DB": "gateway",
            "POSTGRES_PASSWORD_FILE": "/run/secrets/password",
        },
        "volumes": {
            f"{prefix}-pg": {"bind": "/var/lib/postgresql/data", "mode": "rw"},
            str(secret): {"bind": "/run/secrets/password", "mode": "ro"},
        },
    }
    first = start("postgres", "db", **options)
    assert query(first, "the password", "CREATE TABLE t AS SELECT 42 AS n; SELECT n FROM t")[0] == 0
    assert query(first, "another password", "SELECT 1")[0] != 0
    first.stop(timeout=int(PATIENCE))
    assert exit_code(first) == 0
    first.remove(v=False)
    again = start("postgres", "db", **options)
    assert query(again, "the password", "SELECT n FROM t") == (0, "42")
    environment = again.exec_run(["cat", "/proc/1/environ"]).output
    assert b"the password" not in environment


@pytest.mark.parametrize(
    ("environment", "said"),
    [({}, "password"), ({"POSTGRES_PASSWORD": "x", "POSTGRES_DB": 'a"; --'}, "POSTGRES_DB")],
)
def test_a_database_that_cannot_be_made_says_why(
    start: Start, environment: dict[str, str], said: str
) -> None:
    container = start("postgres", "db", healthy=False, environment=environment)
    assert exit_code(container) == 2
    log = container.logs().decode().strip()
    assert said in log
    assert log.count("\n") == 0


# The portal.


def test_a_configuration_that_does_not_fit_is_refused_with_its_own_exit_code(
    start: Start, prefix: str, engine: DockerClient
) -> None:
    volumes = {f"{prefix}-dynamic": {"bind": "/var/portal-api/dynamic", "mode": "rw"}}
    good = static_of(start)
    portal = start(
        "portal", "portal-api", volumes=volumes, volumes_from=[good.id], **PORTAL, **published(3001)
    )
    base = url(portal, 3001)
    application = {"id": "an-app", "name": "An application"}
    assert requests.post(f"{base}/applications", json=application, timeout=PATIENCE).ok
    subscription = {"api": "brilliant", "plan": "basic"}
    answer = requests.post(
        f"{base}/applications/an-app/subscriptions", json=subscription, timeout=PATIENCE
    )
    assert answer.ok, answer.text
    portal.stop(timeout=int(PATIENCE))
    assert exit_code(portal) == 0
    tag = f"{prefix}-bad-static:latest"
    context, dockerfile = APPS / "portal", str(APPS / "portal-static" / "Dockerfile")
    build(context, tag, dockerfile, STATIC="static-incompatible")
    bad = start("portal-static", "bad-static", healthy=False, image=tag)
    refused = start(
        "portal", "again", healthy=False, volumes=volumes, volumes_from=[bad.id], **PORTAL
    )
    assert exit_code(refused) == 78
    assert "The portal refuses to start: " in refused.logs().decode()


def test_the_key_may_come_from_a_file_and_is_nowhere_to_be_seen(
    start: Start, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o644)
    portal = start(
        "portal",
        "portal-api",
        volumes_from=[static_of(start).id],
        volumes={str(key): {"bind": "/run/secrets/key", "mode": "ro"}},
        environment={
            "PORTAL_VERSION": "v24",
            "PORTAL_RELEASE": "v24-3",
            "PORTAL_HOSTS": "api.one.example api.two.example",
            "PORTAL_KEY_FILE": "/run/secrets/key",
        },
        command=["--rate", "0"],
        **published(3001),
    )
    base = url(portal, 3001)
    named = requests.get(f"{base}/health", headers={"Host": "api.two.example"}, timeout=PATIENCE)
    assert named.json()["release"] == "v24-3"
    assert requests.get(f"{base}/health", timeout=PATIENCE).status_code == 503
    assert KEY not in str(portal.attrs)
    assert KEY not in portal.logs().decode()


def test_the_topology_serves_both_names(start: Start) -> None:
    portal = start("portal", "portal-api", volumes_from=[static_of(start).id], **PORTAL)
    gateway = start(
        "gateway",
        "kong",
        healthy=False,
        environment={
            "GATEWAY_POSTGRES": "kong-database:5432",
            "GATEWAY_ROUTES": "/=http://portal-api:3001",
            "HEALTH_PATH": "/gateway-health",
        },
    )
    start("portal-web", "portal")
    haproxy = start("haproxy", "haproxy", **published(80))
    front = url(haproxy, 80)

    def ask(host: str, path: str, **headers: str) -> requests.Response:
        return requests.get(front + path, headers={"Host": host, **headers}, timeout=PATIENCE)

    # The gateway waits for its database, and says so.
    eventually(lambda: ask("api.portal.local", "/health").status_code == 503, "503", PATIENCE)
    assert health(gateway) != "healthy"
    start("postgres", "kong-database", environment={"POSTGRES_PASSWORD": "pw"})
    wait_healthy(gateway)

    def answered() -> bool:
        return ask("api.portal.local", "/health").status_code == 200

    eventually(answered, "the way through HAProxy and gateway", PATIENCE)
    through = ask("API.portal.local:8080", "/health")
    assert through.json()["version"] == through.headers["X-Portal-Version"] == "v24"
    missing = "/deploy/v1/export/none/status"
    assert ask("api.portal.local", missing).status_code == 403
    assert ask("api.portal.local", missing, Authorization=KEY).status_code == 404
    page = ask("portal.local", "/")
    assert '<span id="version">v24</span>' in page.text
    assert '<span id="users">0</span>' in page.text
    assert ask("elsewhere.example", "/").status_code == 503
    portal.stop(timeout=int(PATIENCE))
    eventually(lambda: ask("portal.local", "/").status_code == 503, "the page's excuse", PATIENCE)
    assert cast(int, ask("api.portal.local", "/health").status_code) in (502, 503, 504)
