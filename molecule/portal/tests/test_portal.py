# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands after a new configuration and a new version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests
from testinfra.host import Host

from tests.support.scenario import SECONDS, address, lab

API_HOST = "api.example.org"
FORMAT = (
    '{{.Label "com.docker.compose.project"}} {{.Label "com.docker.compose.service"}} {{.State}}'
)
ENDED = {"portal-api-data-static", "portal-api-data-dynamic"}
RUNNING = {
    "haproxy",
    "portal",
    "portal-api",
    "portal-kong-adapter",
    "portal-mailer",
    "portal-chatbot",
    "kong",
    "kong-database",
}


def proxy() -> str:
    return str(json.loads((lab() / "proxy" / "ready.json").read_text())["url"])


def ask(path: str) -> requests.Response:
    """Ask the portal through the proxy, as people do."""
    answer = requests.get(f"{proxy()}/portal{path}", headers={"Host": API_HOST}, timeout=SECONDS)
    answer.raise_for_status()
    return answer


@pytest.fixture(scope="module")
def projects(host: Host) -> dict[str, dict[str, str]]:
    """The state of each project's services."""
    found: dict[str, dict[str, str]] = {}
    for line in host.check_output(f"docker ps --all --format '{FORMAT}'").splitlines():
        project, service, state = line.split()
        found.setdefault(project, {})[service] = state
    return found


def test_the_new_version_is_live_and_the_one_before_it_is_kept(
    projects: dict[str, dict[str, str]],
) -> None:
    live, previous = sorted(projects, reverse=True)
    assert previous == "portal-v23-first"
    assert live.startswith("portal-v24-")
    expected = {**dict.fromkeys(RUNNING, "running"), **dict.fromkeys(ENDED, "exited")}
    assert projects[live] == expected
    assert projects[previous] == dict.fromkeys(RUNNING | ENDED, "exited")


def test_it_is_what_the_proxy_sends_people_to() -> None:
    registered = requests.get(f"{proxy()}/services/portal", timeout=SECONDS).json()["url"]["url"]
    assert registered.startswith(f"http://{address('engine')}:")
    assert ask("/health").json()["version"] == "v24"
    assert ask("/health").json()["locked"] is False
    # Another name has nobody to answer.
    assert requests.get(f"{registered}/health", timeout=SECONDS).status_code == 503


def test_it_has_the_new_configuration_and_the_old_data() -> None:
    assert "added" in [api["id"] for api in ask("/apis").json()["apis"]]
    kept = Path(lab() / "kept").read_text()
    assert ask(f"/users/{kept}").json()["email"] == "kept@example.org"
    # Of the archive that the first version was filled with.
    assert ask("/users/1").json()["email"] == "foo@bar.com"


def test_secrets_are_with_those_who_need_them_only(host: Host) -> None:
    names = host.check_output("docker ps --all --quiet").split()
    key = "PORTAL_DEPLOYMENT_KEY="
    holding = set()
    for one in json.loads(host.check_output(f"docker inspect {' '.join(names)}")):
        if any(value.startswith(key) for value in one["Config"]["Env"] or []):
            holding.add(one["Config"]["Labels"]["com.docker.compose.service"])
    assert holding == {"portal-api"}
