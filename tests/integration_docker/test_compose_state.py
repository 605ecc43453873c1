# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services that keep data, under every strategy: never two writers, and nothing left behind."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from tests.support.compose import Stage, service, service_image
from tests.support.engine import build, remove_all
from tests.support.proxy import Proxy, start_proxy
from tests.support.service import traffic

# Writes down each start, and whether another one holds the same data.
KEEPER = (
    "exec 9>>/data/lock; flock -n 9 || { echo two >>/data/two; exit 1; }; "
    'echo "$VERSION" >>/data/starts; exec python3 /app/app.py'
)


@pytest.fixture(scope="module")
def image(engine: DockerClient) -> str:
    return service_image()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with start_proxy(tmp_path_factory.mktemp("proxy")) as started:
        yield started


@pytest.fixture
def stage(engine: DockerClient, prefix: str, proxy: Proxy, tmp_path: Path) -> Iterator[Stage]:
    folder = tmp_path / "project"
    folder.mkdir()
    name = f"{prefix}-{abs(hash(tmp_path.name)) % 10**6}"
    options = {
        "router": {
            "api_url": proxy.url,
            "services": [{"service": "web", "port": 8080, "name": name}],
            "health_path": "/health",
            "prove_path": "/1",
        }
    }
    staged = Stage(engine, name, folder, options)
    yield staged
    remove_all(engine, name)


def keeper(image: str, version: str, **more: Any) -> dict[str, Any]:
    """A service that keeps data."""
    given = {"command": ["bash", "-c", KEEPER.replace("$", "$$")], "ports": None, **more}
    return service(image, version, **given)


def read(stage: Stage, path: str, service_name: str = "db") -> list[str]:
    (one,) = [one for one in stage.of(service_name) if one.status == "running"]
    return str(one.exec_run(["cat", path]).output.decode()).split()


NAMED = {"volumes": ["data:/data"]}


def test_lock_step_replaces_in_turn_who_keeps_data(stage: Stage, image: str, proxy: Proxy) -> None:
    waits = {"depends_on": {"db": {"condition": "service_healthy"}}}

    def write(version: str) -> None:
        db = keeper(image, version, **NAMED)
        stage.write({"db": db, "web": service(image, version, **waits)}, volumes={"data": {}})

    write("v1")
    stage.redeploy(strategy="rolling")
    write("v2")
    foreseen = stage.redeploy(strategy="rolling", _ansible_check_mode=True, _ansible_diff=True)
    assert "since it keeps data in the volume data (/data)" in foreseen["diff"]["after"]
    assert "web: new" in foreseen["diff"]["after"]
    assert "replaced in lock-step" in foreseen["diff"]["after"]
    with traffic(f"{proxy.url}/{stage.name}/1") as seen:
        done = stage.redeploy(strategy="rolling")
    assert (seen.lost, seen.versions) == ([], ["v1", "v2"])
    assert [one["step"] for one in done["steps"]] == [one["step"] for one in foreseen["steps"]]
    assert read(stage, "/data/starts") == ["v1", "v2"]
    assert "No" in " ".join(read(stage, "/data/two"))
    assert (done["downtimes"]["web"], done["downtimes"]["db"] > 0) == (0, True)
    assert stage.redeploy(strategy="rolling")["changed"] is False


def test_of_two_runs_at_once_the_second_is_refused(stage: Stage, image: str) -> None:
    # It takes its time to end, so both would wait for the same one, and then start their own.
    slow = KEEPER.replace("exec python3", 'trap "sleep 5; exit" TERM; python3') + " & wait"
    command = ["bash", "-c", slow.replace("$", "$$")]
    for version in ("v1", "v2"):
        db = keeper(image, version, command=command, stop_grace_period="20s", **NAMED)
        stage.write({"db": db}, volumes={"data": {}})
        if version == "v1":
            stage.redeploy(router=None)
    (former,) = stage.of("db")
    with stage.start(router=None) as first:
        deadline = time.monotonic() + 60
        while len(stage.of("db")) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        failed = stage.refused(router=None)
        assert (failed["kind"], failed["state"]) == ("busy", "Nothing was changed by this one.")
        assert first.end().code == 0
    assert read(stage, "/data/starts") == ["v1", "v2"]
    assert [one.name for one in stage.of("db")] == [former.name]


def test_who_keeps_data_serves_again_after_a_failure(stage: Stage, image: str) -> None:
    both = {"web": service(image, "v1"), "db": keeper(image, "v1", **NAMED)}
    stage.write(both, volumes={"data": {}})
    stage.redeploy(strategy="rolling")
    before = stage.state()
    waits = {"depends_on": {"db": {"condition": "service_healthy"}}}
    broken = service(image, "v2", environment={"MODE": "broken"}, **waits)
    stage.write({"db": keeper(image, "v2", **NAMED), "web": broken}, volumes={"data": {}})
    failed = stage.refused(strategy="rolling")
    assert f"{stage.name}-db-1 serves again" in failed["state"]
    assert stage.state() == before
    assert read(stage, "/data/starts") == ["v1", "v2", "v1"]
    assert "No" in " ".join(read(stage, "/data/two"))


def test_data_in_a_volume_that_only_the_image_declares_goes_along(
    stage: Stage, image: str, engine: DockerClient, tmp_path: Path
) -> None:
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {image}\nUSER root\nVOLUME /data\n")
    keeps = build(folder, f"{stage.name}-keeper")
    for version in ("v1", "v2"):
        stage.write({"db": keeper(keeps, version), "web": service(image)})
        stage.redeploy(strategy="rolling")
    assert read(stage, "/data/starts") == ["v1", "v2"]


def test_what_is_told_to_double_data_is_refused_before_anything(stage: Stage, image: str) -> None:
    rolled = keeper(image, "v1", **NAMED, **{"x-delivery": {"strategy": "rolling"}})
    stage.write({"db": rolled, "web": service(image)}, volumes={"data": {}})
    failed = stage.refused()
    assert failed["kind"] == "unsuitable"
    assert "service db keeps data in the volume data (/data)" in failed["msg"]
    assert failed["state"] == "Nothing was changed."
    assert stage.containers() == []
    rolled["x-delivery"]["shared"] = True
    stage.write({"db": rolled, "web": service(image)}, volumes={"data": {}})
    assert stage.redeploy()["changed"]


def shop(image: str, version: str, *, db: str = "v1", web: str = "well") -> dict[str, Any]:
    """A web service with a database and what changes its tables."""
    ready = {"condition": "service_healthy"}
    migrate = service(
        image,
        version,
        ports=None,
        healthcheck=None,
        command=["bash", "-c", 'getent hosts db && echo "$$VERSION" >>/data/migrations'],
        depends_on={"db": ready},
        **NAMED,
    )
    done = {"condition": "service_completed_successfully"}
    asks = {"environment": {"MODE": web}, "depends_on": {"db": ready, "migrate": done}}
    return {
        "db": keeper(image, db, **NAMED),
        "migrate": migrate,
        "web": service(image, version, **asks),
        "worker": service(image, version, ports=None, depends_on={"web": ready}),
    }


def test_beside_the_live_one_data_stays_with_the_project(
    stage: Stage, image: str, proxy: Proxy
) -> None:
    stage.options["strategy"] = "blue_green"
    colours = [f"{stage.name}-blue", f"{stage.name}-green"]
    volumes = {"volumes": {"data": {}}}
    stage.write(shop(image, "v1"), **volumes)
    assert stage.redeploy()["project"] == colours[0]
    (db,) = stage.of("db")
    for number, version in enumerate(("v2", "v3"), 1):
        stage.write(shop(image, version), **volumes)
        foreseen = stage.redeploy(_ansible_check_mode=True, _ansible_diff=True)
        with traffic(f"{proxy.url}/{stage.name}/1") as seen:
            done = stage.redeploy()
        assert (seen.lost, seen.versions) == ([], [f"v{number}", version])
        assert done["project"] == colours[number % 2]
        assert [one["step"] for one in done["steps"]] == [one["step"] for one in foreseen["steps"]]
        assert [one.id for one in stage.of("db")] == [db.id]
        assert stage.redeploy()["changed"] is False
    assert read(stage, "/data/starts") == ["v1"]
    assert read(stage, "/data/migrations") == ["v1", "v2", "v3"]
    # What is left out would go with the live colour.
    stage.write(shop(image, "v4"), **volumes)
    assert "worker of" in stage.refused(services=["web"])["msg"]
    assert {one.labels["com.docker.compose.service"] for one in stage.containers(colours[0])} == {
        "web",
        "worker",
    }
    # Each colour finds its own, and what it does not have.
    (worker,) = stage.of("worker", colours[0])
    (web,) = stage.of("web", colours[0])
    code, found = worker.exec_run(["getent", "ahostsv4", "web"])
    web.reload()
    addresses = [one["IPAddress"] for one in web.attrs["NetworkSettings"]["Networks"].values()]
    assert code == 0 and {line.split()[0] for line in found.decode().splitlines()} < {*addresses}
    assert worker.exec_run(["getent", "hosts", "db"]).exit_code == 0
    volume_names = [one.name for one in stage.engine.volumes.list()]
    assert [name for name in volume_names if stage.name in str(name)] == [f"{stage.name}_data"]


def test_a_colour_that_is_no_good_leaves_the_database_as_it_was(
    stage: Stage, image: str, proxy: Proxy
) -> None:
    stage.options["strategy"] = "blue_green"
    volumes = {"volumes": {"data": {}}}
    stage.write(shop(image, "v1"), **volumes)
    stage.redeploy()
    (db,) = stage.of("db")
    stage.write(shop(image, "v2", db="v2", web="broken"), **volumes)
    with traffic(f"{proxy.url}/{stage.name}/1") as seen:
        failed = stage.refused()
    assert seen.lost == []
    assert f"{stage.name}-green was removed" in failed["state"]
    assert f"{stage.name}-db-1 serves again" in failed["state"]
    assert [one.id for one in stage.of("db")] == [db.id]
    assert read(stage, "/data/starts") == ["v1", "v2", "v1"]
    stage.write(shop(image, "v2", db="v2"), **volumes)
    stage.redeploy()
    assert read(stage, "/data/starts") == ["v1", "v2", "v1", "v2"]
    assert "No" in " ".join(read(stage, "/data/two"))


def test_another_project_with_the_name_of_a_colour_is_not_touched(stage: Stage, image: str) -> None:
    other = f"{stage.name}-blue"
    stage.write({"app": service(image)})
    stage.redeploy(router=None, project_name=other)
    before = [(one.id, one.status) for one in stage.containers(other)]
    stage.write({"web": service(image)})
    failed = stage.refused(strategy="blue_green")
    assert f"the project {other} has {other}-app-1" in failed["msg"]
    assert failed["state"] == "Nothing was changed."
    assert [(one.id, one.status) for one in stage.containers(other)] == before


def test_what_plain_compose_has_brought_up_is_taken_over(
    stage: Stage, image: str, proxy: Proxy
) -> None:
    volumes = {"volumes": {"data": {}}}
    stage.write(shop(image, "v1"), **volumes)
    stage.redeploy()
    (db,) = stage.of("db")
    stage.write(shop(image, "v2"), **volumes)
    with traffic(f"{proxy.url}/{stage.name}/1") as seen:
        stage.redeploy(strategy="blue_green")
    assert (seen.lost, seen.versions) == ([], ["v1", "v2"])
    assert [one.id for one in stage.of("db")] == [db.id]
    assert {one.status for one in stage.of("web")} == {"exited"}
    # Going on in place would run two of each.
    failed = stage.refused(strategy="recreate")
    assert f"{stage.name}-blue runs" in failed["msg"]


def test_what_is_renamed_keeps_its_data(stage: Stage, image: str, proxy: Proxy) -> None:
    volumes = {"volumes": {"data": {}}}
    stage.write({"db": keeper(image, "v1", **NAMED), "old": service(image)}, **volumes)
    stage.redeploy(router=None)
    before = stage.state()
    renamed = {"database": keeper(image, "v2", **NAMED), "web": service(image)}
    stage.write(renamed, **volumes)
    failed = stage.refused()
    assert f"{stage.name}-db-1 uses it" in failed["msg"]
    assert "remove_orphans" in failed["next_step"]
    assert stage.state() == before
    # A failure brings back what was removed.
    renamed["web"] = service(image, environment={"MODE": "broken"})
    stage.write(renamed, **volumes)
    assert "this version cannot start" in str(stage.refused(remove_orphans=True)["log"])
    assert stage.state() == before
    renamed["web"] = service(image)
    stage.write(renamed, **volumes)
    foreseen = stage.redeploy(remove_orphans=True, _ansible_check_mode=True)
    done = stage.redeploy(remove_orphans=True)
    assert done["orphans"] == [f"{stage.name}-db-1", f"{stage.name}-old-1"]
    assert [one["step"] for one in done["steps"]] == [one["step"] for one in foreseen["steps"]]
    assert set(stage.serving().values()) == {f"{stage.name}-database-1", f"{stage.name}-web-1"}
    assert read(stage, "/data/starts", "database")[-1] == "v2"
    assert read(stage, "/data/starts", "database")[0] == "v1"
    assert "No" in " ".join(read(stage, "/data/two", "database"))


def test_a_volume_that_has_another_name_now_is_named(stage: Stage, image: str) -> None:
    stage.write({"db": keeper(image, "v1", **NAMED)}, volumes={"data": {}})
    stage.redeploy(router=None)
    stage.write({"db": keeper(image, "v2", volumes=["pg:/data"])}, volumes={"pg": {}})
    done = stage.redeploy(router=None)
    left = {"name": f"{stage.name}_data", "service": "db", "place": "/data"}
    assert done["superseded_volumes"] == [left]
    assert f"the volume {stage.name}_data of db" in str(done["warnings"])


def test_a_renamed_service_goes_when_the_former_release_comes_back(
    stage: Stage, image: str
) -> None:
    options: dict[str, Any] = {"router": None, "remove_orphans": True}
    volumes = {"volumes": {"data": {}}}
    stage.write({"db": keeper(image, "v1", **NAMED)}, **volumes)
    stage.redeploy(**options)
    stage.write({"database": keeper(image, "v2", **NAMED)}, **volumes)
    # The task knows the service by its new name.
    options |= {"strategies": {"database": "recreate"}}
    stage.redeploy(**options)
    back = stage.redeploy(**options, state="rolled_back")
    assert back["orphans"] == [f"{stage.name}-database-1"]
    assert set(stage.serving().values()) == {f"{stage.name}-db-1"}
    assert read(stage, "/data/starts") == ["v1", "v2", "v1"]
    assert stage.redeploy(**options, state="rolled_back")["changed"] is False


def test_what_is_of_no_service_any_more_is_named_and_left(stage: Stage, image: str) -> None:
    stage.write({"old": service(image), "web": service(image)})
    stage.redeploy()
    stage.write({"web": service(image)})
    left = stage.redeploy()
    assert (left["changed"], left["orphans"]) == (False, [f"{stage.name}-old-1"])
    assert any("remove_orphans" in text for text in map(str, left["warnings"]))
    gone = stage.redeploy(remove_orphans=True)
    assert gone["changed"] and set(stage.serving().values()) == {f"{stage.name}-web-1"}
    assert stage.redeploy(remove_orphans=True)["changed"] is False


def test_a_project_is_taken_down_and_its_data_stays(stage: Stage, image: str, proxy: Proxy) -> None:
    stage.options["strategy"] = "blue_green"
    volumes = {"volumes": {"data": {}}}
    for version in ("v1", "v2"):
        stage.write(shop(image, version), **volumes)
        stage.redeploy()
    foreseen = stage.redeploy(state="absent", _ansible_check_mode=True, _ansible_diff=True)
    assert foreseen["changed"] and stage.serving()
    assert f"{stage.name}-db-1 (running)" in foreseen["diff"]["before"]
    assert foreseen["diff"]["after"] == f"{stage.name}: volume {stage.name}_data\n"
    gone = stage.redeploy(state="absent")
    assert gone["volumes"] == [f"{stage.name}_data"]
    assert [one["step"] for one in gone["steps"]] == [one["step"] for one in foreseen["steps"]]
    assert proxy.current(stage.name) is None
    for project in ("", f"{stage.name}-blue", f"{stage.name}-green"):
        assert stage.containers(project) == []
    assert [one for one in stage.engine.networks.list() if stage.name in str(one.name)] == []
    assert stage.redeploy(state="absent")["changed"] is False
    stage.redeploy()
    assert read(stage, "/data/starts") == ["v1", "v1"]
    assert stage.redeploy(state="absent", remove_volumes=True)["volumes"] == []
    assert [v for v in stage.engine.volumes.list() if stage.name in str(v.name)] == []


def test_a_volume_of_another_project_stays(stage: Stage, image: str) -> None:
    real = f"{stage.name}-shared"
    stage.engine.volumes.create(real, labels={"com.docker.compose.project": "another"})
    unnamed = service(image, volumes=["/cache"])
    stage.write(
        {"db": keeper(image, "v1", **NAMED), "web": unnamed}, volumes={"data": {"name": real}}
    )
    stage.redeploy(router=None)
    (web,) = stage.of("web")
    (cache,) = [mount["Name"] for mount in web.attrs["Mounts"]]
    assert stage.redeploy(router=None, state="absent", remove_volumes=True)["volumes"] == []
    there = [volume.name for volume in stage.engine.volumes.list()]
    assert (real in there, cache in there) == (True, False)


def test_to_take_one_service_down_is_not_to_take_down_all(stage: Stage, image: str) -> None:
    stage.write({"web": service(image), "worker": service(image)})
    stage.redeploy(router=None)
    before = stage.state()
    failed = stage.refused(router=None, state="absent", services=["worker"])
    assert "services names worker" in failed["msg"] and "remove_orphans" in failed["next_step"]
    assert stage.state() == before


def test_who_ends_until_its_database_is_up_has_the_whole_time(stage: Stage, image: str) -> None:
    shared = {"volumes": ["shared:/shared"], "healthcheck": None, "ports": None}
    db = service(image, command=["bash", "-c", "sleep 7; touch /shared/up; sleep 999"], **shared)
    web = service(
        image,
        command=["bash", "-c", "[ -e /shared/up ] || exit 3; exec python3 /app/app.py"],
        restart="always",
        **{**shared, "ports": ["127.0.0.1::8080"]},
    )
    stage.write({"db": db, "web": web}, volumes={"shared": {}})
    stage.redeploy()
    assert len(stage.serving()) == 2


def test_a_job_that_nobody_knows_of_is_told_how_to_be_known(stage: Stage, image: str) -> None:
    job = service(image, command=["true"], ports=None, healthcheck=None)
    stage.write({"job": job, "web": service(image)})
    failed = stage.refused()
    assert "If job is a job" in failed["next_step"] and "run_once_services" in failed["next_step"]
    assert stage.redeploy(run_once_services=["job"])["changed"]


def test_the_former_release_comes_back_whatever_the_files_say(
    stage: Stage, image: str, proxy: Proxy, tmp_path: Path
) -> None:
    stage.options["releases_dir"] = str(tmp_path / "releases")
    for version in ("v1", "v2"):
        secret = {"environment": {"DB_PASSWORD": f"{version}-not-to-be-shown"}}
        stage.write({"web": service(image, version, **secret)})
        stage.redeploy(strategy="rolling")
    (kept,) = (tmp_path / "releases").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    # What the files say now is not asked, and was never deployed.
    stage.write({"web": service(image, "v3", environment={"MODE": "broken"})})
    stage.refused(strategy="rolling")
    options = {"strategy": "rolling", "state": "rolled_back"}
    foreseen = stage.redeploy(**options, _ansible_check_mode=True, _ansible_diff=True)
    assert "not-to-be-shown" not in str(foreseen)
    with traffic(f"{proxy.url}/{stage.name}/1") as seen:
        back = stage.redeploy(**options)
    assert (seen.lost, seen.versions) == ([], ["v2", "v1"])
    assert [one["step"] for one in back["steps"]] == [one["step"] for one in foreseen["steps"]]
    assert stage.redeploy(**options)["changed"] is False
    stage.write({"web": service(image, "v2")})
    stage.redeploy(strategy="rolling")


def test_without_a_former_release_there_is_no_way_back(stage: Stage, image: str) -> None:
    stage.write({"web": service(image)})
    failed = stage.refused(state="rolled_back")
    assert (failed["kind"], failed["state"]) == ("no_release", "Nothing was changed.")


def test_a_colour_that_is_there_is_only_switched_to(
    stage: Stage, image: str, proxy: Proxy, tmp_path: Path
) -> None:
    stage.options |= {"strategy": "blue_green", "releases_dir": str(tmp_path / "releases")}
    volumes = {"volumes": {"data": {}}}
    for version in ("v1", "v2"):
        stage.write(shop(image, version), **volumes)
        stage.redeploy()
    blue = {str(one.id) for one in stage.containers(f"{stage.name}-blue")}
    with traffic(f"{proxy.url}/{stage.name}/1") as seen:
        back = stage.redeploy(state="rolled_back")
    assert (seen.lost, seen.versions) == ([], ["v2", "v1"])
    assert back["project"] == f"{stage.name}-blue"
    assert {str(one.id) for one in stage.containers(f"{stage.name}-blue")} == blue
    assert {one.status for one in stage.containers(f"{stage.name}-green")} == {"exited"}
    assert stage.redeploy(state="rolled_back")["changed"] is False


def test_who_shares_the_network_of_a_named_container_is_replaced_with_it(
    stage: Stage, image: str
) -> None:
    def write(version: str) -> None:
        joined = f"container:{stage.name}-web-1"
        side = service(image, ports=None, network_mode=joined, environment={"PORT": "8081"})
        side["healthcheck"] = {"disable": True}
        stage.write({"web": service(image, version), "side": side})

    write("v1")
    stage.redeploy(services=["web"])
    stage.redeploy()
    write("v2")
    stage.redeploy()
    (web,), (side,) = stage.of("web"), stage.of("side")
    assert side.attrs["HostConfig"]["NetworkMode"] == f"container:{web.id}"
    assert stage.redeploy()["changed"] is False
    plain = ["docker", "compose", "-p", stage.name, "up", "-d", "--no-build"]
    subprocess.run(plain, cwd=stage.folder, check=True, capture_output=True, timeout=60)
    assert {one.id for one in stage.containers()} == {web.id, side.id}


def test_an_external_volume_stays_though_the_project_once_made_it(stage: Stage, image: str) -> None:
    real = f"{stage.name}_data"
    stage.write({"db": keeper(image, "v1", **NAMED)}, volumes={"data": {}})
    stage.redeploy(router=None)
    external = {"external": True, "name": real}
    stage.write({"db": keeper(image, "v1", **NAMED)}, volumes={"data": external})
    down = {"router": None, "state": "absent", "remove_volumes": True}
    foreseen = stage.redeploy(**down, _ansible_check_mode=True, _ansible_diff=True)
    assert foreseen["diff"]["after"] == f"{stage.name}: volume {real}\n"
    assert stage.redeploy(**down)["volumes"] == [real]
    assert real in [volume.name for volume in stage.engine.volumes.list()]
    assert stage.redeploy(**down)["changed"] is False
