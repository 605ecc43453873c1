# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``compose_redeploy`` in place, on the engine."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest
from docker import DockerClient

from tests.support.compose import Stage, service, service_image
from tests.support.engine import BASE_IMAGE

SECRET = "hunter2-is-no-password"
SLEEP = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]


@pytest.fixture(scope="module")
def image(engine: DockerClient) -> str:
    return service_image()


def sleeper(**more: Any) -> dict[str, Any]:
    return {"image": BASE_IMAGE, "command": ["sh", "-c", SLEEP[2].replace("$", "$$")], **more}


def portal(stage: Stage, data: str) -> dict[str, Any]:
    """A portal's shape in small: data-only containers, one that mounts them, one that does not."""
    static = stage.folder / "static"
    static.mkdir(exist_ok=True)
    (static / "data").write_text(data)
    (static / "Dockerfile").write_text(
        f'FROM {BASE_IMAGE}\nCOPY data /var/static/\nVOLUME /var/static\nENTRYPOINT ["/bin/true"]\n'
    )
    ended = {"condition": "service_completed_successfully"}
    return {
        "static": {"build": "./static", "image": f"{stage.name}-static"},
        "dynamic": {
            "image": BASE_IMAGE,
            "entrypoint": ["/bin/true"],
            "volumes": ["/var/dynamic"],
        },
        "api": sleeper(
            volumes_from=["static", "dynamic"], depends_on={"static": ended, "dynamic": ended}
        ),
        "side": sleeper(network_mode="service:api"),
        "other": sleeper(),
    }


def said(container: Any, *command: str) -> str:
    code, text = container.exec_run(list(command))
    assert code == 0, text
    return str(text.decode()).strip()


def test_only_what_uses_the_static_data_is_replaced(stage: Stage) -> None:
    stage.options["static_services"] = ["static"]
    stage.write(portal(stage, "one"))
    stage.redeploy()
    (api,) = stage.of("api")
    said(api, "touch", "/var/dynamic/users")
    (dynamic,), (other,) = stage.of("dynamic"), stage.of("other")

    stage.write(portal(stage, "two"))
    began = time.time()
    before = stage.state()
    foreseen = stage.redeploy(_ansible_check_mode=True, _ansible_diff=True)
    assert stage.events_since(began) == []
    # What a build will give is known to the builder alone.
    assert (foreseen["changed"], foreseen["would_build"]) == (False, [f"{stage.name}-static"])
    assert stage.state() == before

    done = stage.redeploy()
    assert done["changed"]
    assert {one["service"] for one in done["previous"]} == {"static", "api", "side"}
    assert done["downtimes"]["other"] == 0
    assert 0 < done["downtimes"]["api"] <= done["downtime_seconds"]
    (api,) = stage.of("api")
    assert said(api, "cat", "/var/static/data") == "two"
    assert said(api, "ls", "/var/dynamic") == "users"
    assert [one.id for one in stage.of("dynamic")] == [dynamic.id]
    assert [one.id for one in stage.of("other")] == [other.id]

    began, standing = time.time(), stage.state()
    again = stage.redeploy()
    assert (again["changed"], stage.state()) == (False, standing)
    assert [one for one in stage.events_since(began) if one.startswith("container")] == []
    # Compose itself agrees that nothing is to be done.
    command = ["docker", "compose", "-p", stage.name, "up", "-d"]
    subprocess.run(command, cwd=stage.folder, check=True, capture_output=True)
    assert [one.id for one in stage.of("api")] == [api.id]


def test_static_data_that_is_refused_is_put_back(stage: Stage) -> None:
    stage.options["static_services"] = ["static"]
    checks = "grep -q good /var/static/data || { echo plans do not match >&2; exit 3; }; "
    command = ["sh", "-c", checks + SLEEP[2]]
    good = portal(stage, "good")
    stage.write({**good, "api": {**good["api"], "command": command}})
    stage.redeploy()
    before = stage.state()
    image = stage.engine.images.get(f"{stage.name}-static").id

    (stage.folder / "static" / "data").write_text("bad")
    failed = stage.refused()
    assert "exit code 3" in failed["msg"]
    assert any("plans do not match" in line for line in failed["log"])
    assert "serve again" in failed["state"] or "serves again" in failed["state"]
    assert stage.state() == before
    assert stage.engine.images.get(f"{stage.name}-static").id == image
    (api,) = stage.of("api")
    assert said(api, "cat", "/var/static/data") == "good"

    # What is mended is deployed as if nothing had been.
    (stage.folder / "static" / "data").write_text("good again")
    assert stage.redeploy()["changed"]
    assert said(stage.of("api")[0], "cat", "/var/static/data") == "good again"


def test_a_fixed_name_and_port_and_a_volume_go_over_to_the_new_container(
    stage: Stage, image: str
) -> None:
    def fixed(version: str) -> dict[str, Any]:
        named = service(
            image,
            version,
            container_name=f"{stage.name}-fixed",
            ports=["127.0.0.1:0:8080"],
            volumes=["/var/kept"],
        )
        return {"web": named}

    stage.write(fixed("v1"))
    first = stage.redeploy()
    said(stage.of("web")[0], "touch", "/var/kept/mine")
    stage.write(fixed("v2"))
    second = stage.redeploy()
    assert second["previous"][0]["id"] == first["containers"][0]["id"]
    (web,) = stage.of("web")
    assert (web.name, said(web, "ls", "/var/kept")) == (f"{stage.name}-fixed", "mine")
    assert stage.redeploy()["changed"] is False

    # It is ill: the former one has its name back, and its volume.
    stage.write({"web": {**fixed("v3")["web"], "environment": {"VERSION": "v3", "MODE": "ill"}}})
    failed = stage.refused()
    assert "is unhealthy" in failed["msg"]
    assert [(one.id, one.name, one.status) for one in stage.of("web")] == [
        (web.id, web.name, "running")
    ]
    assert said(web, "ls", "/var/kept") == "mine"


def test_secrets_go_to_the_container_and_nowhere_else(stage: Stage, image: str) -> None:
    stage.options.update(environment={"KEY": SECRET, "N": "1"}, variables={"TAG": "v1"})
    environment = {"SECRET": "${KEY}", "N": "${N}", "MODE": "${MODE:-well}"}
    web = service("immutable-test/service:${TAG}", environment=environment)
    stage.write({"web": web})
    ended = stage.run(_ansible_diff=True, _ansible_verbosity=4)
    assert not ended.result.get("failed"), ended.output
    assert SECRET not in ended.output
    assert image in ended.result["containers"][0]["image"]
    (container,) = stage.of("web")
    assert f"SECRET={SECRET}" in container.attrs["Config"]["Env"]
    assert SECRET in container.logs().decode()

    stage.options["variables"] = {"TAG": "v1", "MODE": "broken"}
    ended = stage.run(_ansible_diff=True)
    assert ended.result["failed"]
    assert any("begins with ********" in line for line in ended.result["log"])
    assert SECRET not in ended.output
    # A value that compose itself complains about is hidden as well.
    stage.write({"web": {**web, "cpus": "${KEY}"}})
    ended = stage.run()
    assert ended.result["failed"]
    assert SECRET not in ended.output


def test_five_services_at_once(stage: Stage, image: str) -> None:
    names = [f"s{number}" for number in range(5)]
    stage.write({name: service(image, "v1") for name in names})
    first = stage.redeploy()
    assert sorted(one["service"] for one in first["containers"]) == names
    stage.write({name: service(image, "v2" if name < "s4" else "v1") for name in names})
    second = stage.redeploy()
    assert sorted(one["service"] for one in second["previous"]) == names[:4]
    assert second["downtimes"]["s4"] == 0
    assert second["downtimes"]["s0"] > 0
    # Nobody waits for another: all are replaced in one step.
    steps = [one["step"] for one in second["steps"]]
    assert sum(step.startswith("replace") for step in steps) == 1


def test_what_is_stopped_or_was_never_started_is_replaced(stage: Stage) -> None:
    stage.write({"web": sleeper(deploy={"replicas": 2}), "job": sleeper(command=["true"])})
    stage.options["run_once_services"] = ["job"]
    stage.redeploy()
    first, second = stage.of("web")
    (job,) = stage.of("job")
    first.stop(timeout=1)
    # As a run leaves it that was killed between creating and starting.
    stage.engine.api.create_container(
        BASE_IMAGE, "true", labels=first.labels, name=f"{stage.name}-left"
    )
    done = stage.redeploy()
    assert {one["id"] for one in done["previous"]} >= {first.id}
    ids = {one.id for one in stage.of("web")}
    assert second.id in ids and first.id not in ids and len(ids) == 2
    assert [one.id for one in stage.of("job")] == [job.id]
    assert stage.redeploy()["changed"] is False
