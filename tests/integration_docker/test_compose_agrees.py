# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``compose_redeploy`` and plain ``docker compose`` on one project: each agrees with the other."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from tests.support.compose import SERVICE, Stage
from tests.support.compose_same import same_container
from tests.support.engine import BASE_IMAGE, ROOT, one_at_a_time
from tests.support.waiting import eventually

SLEEP = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]
NEWEST = ROOT / ".build" / "compose-newest"


@pytest.fixture(params=["installed", "newest"])
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The compose of the tests, and the newest one that packages give."""
    if request.param == "newest":
        with one_at_a_time("compose-newest"):
            subprocess.run([ROOT / "tools" / "engine", "newest"], check=True)
        monkeypatch.setenv("DOCKER_CONFIG", str(NEWEST))
    return str(request.param)


def compose(stage: Stage, *arguments: str) -> str:
    done = subprocess.run(
        ["docker", "compose", "-p", stage.name, *arguments],
        cwd=stage.folder,
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def idle(**more: Any) -> dict[str, Any]:
    return {"image": BASE_IMAGE, "command": SLEEP, **more}


def said(container: Any, *command: str) -> str:
    code, text = container.exec_run(list(command))
    assert code == 0, text
    return str(text.decode()).strip()


def features(stage: Stage, value: str) -> dict[str, Any]:
    """What compose resolves, renders or creates in ways of its own; *value* is in each service."""
    (stage.folder / "a.env").write_text(f'FILE="{value}"\nCOST=a$$b\n')
    (stage.folder / "image").mkdir(exist_ok=True)
    (stage.folder / "image" / "Dockerfile").write_text(f"FROM {BASE_IMAGE}\nVOLUME /data\n")
    new = {"VALUE": value}
    return {
        "declared": {
            "build": "./image",
            "image": f"{stage.name}-declared",
            "command": SLEEP,
            "environment": new,
        },
        "filed": idle(
            env_file=["a.env"],
            environment={"WINK": "\U0001f609 <&>", "NONE": None, "EMPTY": ""},
            labels={"cost$$x": "$$5", "\U0001f680": value},
        ),
        "follower": idle(network_mode="service:named", environment=new),
        "hosted": idle(network_mode="host", hostname="box", environment=new),
        "limited": idle(
            ulimits={"core": 0, "nofile": {"soft": 100, "hard": 200}},
            cap_add=["NET_ADMIN"],
            mem_limit="64m",
            init=True,
            read_only=True,
            tmpfs=["/run:size=1m"],
            hostname="limited",
            domainname="example.com",
            extra_hosts=["a.example.com:127.0.0.1"],
            shm_size="32m",
            sysctls={"net.core.somaxconn": 100},
            healthcheck={"test": "exit 0", "interval": "1s"},
            stop_grace_period="3s",
            restart="on-failure:3",
            environment=new,
        ),
        "linked": idle(links=["declared:alias", "scaled"], environment=new),
        "named": idle(container_name=f"{stage.name}-fixed", volumes=["/kept/"], environment=new),
        "networked": idle(
            networks={
                "default": {"aliases": ["one", "two"], "priority": 10},
                "second": {"aliases": ["three"]},
            },
            environment=new,
        ),
        "needing": idle(
            depends_on={
                "declared": {"condition": "service_started", "restart": True},
                "absent": {"condition": "service_started", "required": False},
            }
        ),
        "absent": idle(profiles=["never"]),
        "scaled": idle(deploy={"replicas": 2}, ports=["127.0.0.1::80"], environment=new),
        "using": idle(
            volumes_from=["declared:ro", "named"],
            volumes=["given:/given", "./image:/image:ro"],
            environment=new,
        ),
    }


def ids(stage: Stage) -> dict[str, str]:
    """The containers of the project, by service and number."""
    return {
        f"{one.labels[SERVICE]}-{one.labels['com.docker.compose.container-number']}": str(one.id)
        for one in stage.containers()
    }


def inspected(stage: Stage) -> dict[str, Any]:
    return {name: stage.engine.api.inspect_container(one) for name, one in ids(stage).items()}


def test_each_finds_nothing_to_do_after_the_other_and_makes_the_same(
    stage: Stage, version: str
) -> None:
    more: dict[str, Any] = {"volumes": {"given": {}}, "networks": {"second": {}}}
    stage.write(features(stage, "one"), **more)
    stage.redeploy()
    first = ids(stage)
    compose(stage, "up", "-d", "--no-build")
    assert ids(stage) == first
    (named,), (declared,) = stage.of("named"), stage.of("declared")
    said(named, "touch", "/kept/mine")
    said(declared, "touch", "/data/mine")

    stage.write(features(stage, "two"), **more)
    done = stage.redeploy()
    assert len(done["previous"]) == len(first) == len(done["containers"])
    second = ids(stage)
    assert set(second) == set(first) and not set(second.values()) & set(first.values())
    for one in stage.containers():
        number = one.labels["com.docker.compose.container-number"]
        fixed = f"{stage.name}-fixed"
        service = one.labels[SERVICE]
        assert one.name == (fixed if service == "named" else f"{stage.name}-{service}-{number}")
    (named,), (declared,), (using,) = (stage.of(one) for one in ("named", "declared", "using"))
    assert said(named, "ls", "/kept") == said(declared, "ls", "/data") == "mine"
    assert said(using, "ls", "/kept", "/data") == "/data:\nmine\n\n/kept:\nmine"
    # Anonymous volumes have been taken over: none is left.
    assert done["superseded_volumes"] == []
    ours = inspected(stage)
    compose(stage, "up", "-d", "--no-build")
    assert ids(stage) == second

    compose(stage, "up", "-d", "--no-build", "--force-recreate")
    theirs = inspected(stage)
    differences = {name: same_container(ours[name], theirs[name]) for name in ours}
    assert {name: found for name, found in differences.items() if found} == {}
    again = stage.redeploy(build="never")
    assert (again["changed"], again["steps"]) == (False, [])


def declaring(stage: Stage, dockerfile: str) -> None:
    """Write a project whose image is built of *dockerfile*."""
    (stage.folder / "image").mkdir(exist_ok=True)
    (stage.folder / "image" / "Dockerfile").write_text(f"FROM {BASE_IMAGE}\n{dockerfile}\n")
    stage.write(
        {"db": {"build": "./image", "image": f"{stage.name}-db", "command": SLEEP, "scale": 1}}
    )


def unused(stage: Stage) -> set[str]:
    """The names of the volumes that no container of the engine has."""
    return {str(one.name) for one in stage.engine.volumes.list(filters={"dangling": True})}


def test_an_anonymous_volume_with_data_is_never_removed(stage: Stage) -> None:
    declaring(stage, "VOLUME /data/")
    stage.redeploy()
    said(stage.of("db")[0], "touch", "/data/orders")
    declaring(stage, "ENV NEW=1\nVOLUME /data/")
    done = stage.redeploy()
    assert done["changed"] and done["superseded_volumes"] == []
    (db,) = stage.of("db")
    assert said(db, "ls", "/data") == "orders"
    (volume,) = (mount["Name"] for mount in db.attrs["Mounts"])

    # A new one that fails takes its own fresh volume along, and nothing of the former one's.
    declaring(stage, 'VOLUME ["/data/", "/more"]\nENTRYPOINT ["/bin/false"]')
    before = unused(stage)
    stage.refused()
    assert said(stage.of("db")[0], "ls", "/data") == "orders"
    # Those of other tests are unused for a moment only.
    eventually(lambda: unused(stage) <= before, "the fresh volumes to be gone")

    # Nobody takes it over any more: it stays, and is named.
    declaring(stage, "ENV NEW=2")
    ended = stage.run()
    assert not ended.result.get("failed"), ended.output
    assert ended.result["superseded_volumes"] == [
        {"name": volume, "service": "db", "place": "/data"}
    ]
    assert f"docker volume rm {volume}" in str(ended.result["warnings"])
    again = stage.redeploy()
    assert (again["changed"], again["superseded_volumes"]) == (False, [])
    told = stage.engine.containers.run(
        BASE_IMAGE, ["ls", "/mnt"], remove=True, volumes={volume: {"bind": "/mnt", "mode": "ro"}}
    )
    stage.engine.volumes.get(volume).remove()
    assert told.decode().strip() == "orders"


def test_a_name_that_a_killed_run_left_is_given(stage: Stage) -> None:
    stage.write({"web": idle(scale=2)})
    stage.redeploy()
    first, second = sorted(stage.of("web"), key=lambda one: str(one.name))
    name = str(first.name)
    # As between the creation of the new container and the stop of the former one.
    stage.engine.api.rename(first.id, f"{name}_{first.id[:12]}")
    done = stage.redeploy()
    assert [one["step"] for one in done["steps"]] == [f"name {name}_{first.id[:12]} {name}"]
    assert stage.serving() == {first.id: name, second.id: str(second.name)}
    assert stage.redeploy()["changed"] is False


def test_names_numbers_and_aliases_stay_in_lock_step(stage: Stage) -> None:
    stage.options["strategy"] = "rolling"
    stage.write({"web": idle(scale=2, environment={"VALUE": "one"})})
    stage.redeploy()
    first = set(stage.serving())
    stage.write({"web": idle(scale=3, environment={"VALUE": "two"})})
    stage.redeploy()
    second = stage.serving()
    assert not set(second) & first
    names = [f"{stage.name}-web-{number}" for number in (1, 2, 3)]
    assert sorted(second.values()) == names
    for one in stage.of("web"):
        found = stage.engine.api.inspect_container(str(one.id))["NetworkSettings"]["Networks"]
        ((_network, seen),) = found.items()
        assert sorted(set(seen["Aliases"]) - {one.id[:12]}) == sorted(["web", str(one.name)])
    # A new one that fails gives the names back.
    stage.write({"web": idle(scale=3, command=["sh", "-c", "sleep 0.2; exit 3"])})
    stage.refused()
    assert stage.serving() == second
    assert compose(stage, "ps", "-q").split() and set(ids(stage).values()) == set(second)


def test_what_compose_warns_of_is_passed_on_and_other_bytes_are_refused(stage: Stage) -> None:
    stage.write({"web": idle(environment={"A": "${LACKING}x"}, env_file=["a.env"])})
    (stage.folder / "a.env").write_text("B=hidden-value\n")
    ended = stage.run(_ansible_check_mode=True)
    assert not ended.result.get("failed"), ended.output
    assert str(ended.result["warnings"]).count("LACKING") == 1
    assert "hidden-value" not in ended.output
    (stage.folder / "a.env").write_bytes(b"B=hidden-\xff\n")
    failed = stage.refused()
    assert "services.web.environment.B holds bytes that are not UTF-8" in failed["msg"]
    assert "hidden-" not in str(failed["msg"])
    assert stage.containers() == []
