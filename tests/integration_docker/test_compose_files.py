# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``compose_redeploy`` and the files that containers have from the host, on the engine."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.compose import Stage, relayed
from tests.support.engine import BASE_IMAGE, one_at_a_time

ROOT = Path(__file__).resolve().parents[2]
NEWEST = ROOT / ".build" / "compose-newest"

SLEEP = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]


def sleeper(**more: Any) -> dict[str, Any]:
    command = [SLEEP[0], SLEEP[1], SLEEP[2].replace("$", "$$")]
    return {"image": BASE_IMAGE, "command": command, **more}


def up(stage: Stage) -> None:
    """What plain compose does with the project."""
    command = ["docker", "compose", "-p", stage.name, "up", "-d"]
    subprocess.run(command, cwd=stage.folder, capture_output=True, check=True)


def ids(stage: Stage) -> set[str]:
    return {str(one.id) for one in stage.containers()}


def text(stage: Stage, service: str, path: str) -> str:
    (one,) = stage.of(service)
    code, said = one.exec_run(["cat", path])
    assert code == 0, said
    return str(said.decode())


def put(path: Path, content: str) -> None:
    """Put another file in its place, as Ansible's modules do."""
    fresh = path.with_name(f".{path.name}.fresh")
    fresh.write_text(content)
    fresh.replace(path)


def put_old(path: Path, content: str) -> None:
    """The same with a file that is older than the container, as rsync and tar do."""
    fresh = path.with_name(f".{path.name}.fresh")
    fresh.write_text(content)
    os.utime(fresh, (1, 1))
    fresh.replace(path)


def write(path: Path, content: str) -> None:
    path.write_text(content)


def project(stage: Stage, mode: str = "") -> None:
    for name in ("app.conf", "given", "token"):
        (stage.folder / name).write_text("one")
    stage.write(
        {
            "app": sleeper(volumes=[f"./app.conf:/etc/app.conf{mode}"]),
            "user": sleeper(configs=["given"], secrets=[{"source": "token", "target": "t"}]),
            "other": sleeper(),
        },
        configs={"given": {"file": "./given"}},
        secrets={"token": {"file": "./token"}},
    )


@pytest.mark.parametrize(
    ("file", "service", "place"),
    [
        ("app.conf", "app", "/etc/app.conf"),
        ("given", "user", "/given"),
        ("token", "user", "/run/secrets/t"),
    ],
)
@pytest.mark.parametrize("change", [put, put_old])
def test_a_file_that_was_replaced_replaces_its_service(
    stage: Stage, file: str, service: str, place: str, change: Callable[[Path, str], None]
) -> None:
    project(stage)
    stage.redeploy()
    assert stage.redeploy()["changed"] is False
    change(stage.folder / file, "hunter2-is-no-password")
    foreseen = stage.redeploy(_ansible_check_mode=True, _ansible_diff=True)
    assert foreseen["changed"]
    assert f"its file ./{file} changed" in foreseen["diff"]["after"]
    ended = stage.run(_ansible_diff=True)
    assert [one["service"] for one in ended.result["previous"]] == [service]
    assert "hunter2" not in ended.output
    assert text(stage, service, place) == "hunter2-is-no-password"
    before = ids(stage)
    assert stage.redeploy()["changed"] is False
    up(stage)
    assert ids(stage) == before


def test_a_file_that_was_written_in_place_counts_if_it_is_read_only(stage: Stage) -> None:
    project(stage, ":ro")
    stage.redeploy()
    write(stage.folder / "app.conf", "two")
    write(stage.folder / "given", "two")
    done = stage.redeploy()
    assert {one["service"] for one in done["previous"]} == {"app", "user"}
    assert stage.redeploy()["changed"] is False


def test_what_a_container_writes_itself_does_not_replace_it(stage: Stage) -> None:
    project(stage)
    (stage.folder / "data").mkdir()
    stage.write(
        {"app": sleeper(volumes=["./app.conf:/etc/app.conf", "./data:/data:ro"])},
    )
    stage.redeploy()
    (one,) = stage.of("app")
    assert one.exec_run(["sh", "-c", "echo more >> /etc/app.conf"]).exit_code == 0
    # Nor does a folder, or the same content in another file.
    (stage.folder / "data" / "row").write_text("1")
    assert stage.redeploy()["changed"] is False
    put(stage.folder / "app.conf", (stage.folder / "app.conf").read_text())
    (stage.folder / "app.conf").chmod(0o600)
    assert stage.redeploy()["changed"] is False


def test_a_link_that_leads_to_another_file_replaces_its_service(stage: Stage) -> None:
    for name in ("first", "second"):
        (stage.folder / name).mkdir()
        (stage.folder / name / "app.conf").write_text(name)
    (stage.folder / "current").symlink_to("first")
    stage.write({"app": sleeper(volumes=["./current/app.conf:/etc/app.conf:ro"])})
    stage.redeploy()
    (stage.folder / "next").symlink_to("second")
    (stage.folder / "next").replace(stage.folder / "current")
    assert stage.redeploy()["changed"]
    assert text(stage, "app", "/etc/app.conf") == "second"


def test_nothing_is_claimed_of_an_engine_elsewhere(stage: Stage) -> None:
    project(stage)
    stage.redeploy()
    put(stage.folder / "app.conf", "two")
    with relayed() as relay:
        assert stage.redeploy(docker_host=relay.host)["changed"] is False
    assert stage.redeploy()["changed"]


def test_all_can_be_replaced(stage: Stage) -> None:
    project(stage)
    stage.redeploy()
    before = ids(stage)
    assert stage.redeploy(recreate="always", _ansible_check_mode=True)["changed"]
    done = stage.redeploy(recreate="always", services=["app"])
    assert [one["service"] for one in done["previous"]] == ["app"]
    done = stage.redeploy(recreate="always")
    assert not ids(stage) & before
    assert len(stage.containers()) == 3
    before = ids(stage)
    up(stage)
    assert stage.redeploy()["changed"] is False
    assert ids(stage) == before


def test_a_bad_file_is_found_out_and_the_former_container_serves_again(stage: Stage) -> None:
    (stage.folder / "app.conf").write_text("good")
    check = "grep -q good /etc/app.conf || { echo bad configuration >&2; exit 3; }; "
    command = ["sh", "-c", (check + SLEEP[2]).replace("$", "$$")]
    stage.write({"app": sleeper(command=command, volumes=["./app.conf:/etc/app.conf:ro"])})
    stage.redeploy()
    before = stage.state()
    put(stage.folder / "app.conf", "bad")
    failed = stage.refused()
    assert any("bad configuration" in line for line in failed["log"])
    assert stage.state()[0][0] == before[0][0]
    # A container that is started again has the file as it is then: its exit says so.
    put(stage.folder / "app.conf", "good again")
    time.sleep(0.1)
    assert stage.redeploy()["changed"]
    assert text(stage, "app", "/etc/app.conf") == "good again"


@pytest.fixture
def newest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest compose that packages give: hooks need 2.30."""
    with one_at_a_time("compose-newest"):
        subprocess.run([ROOT / "tools" / "engine", "newest"], check=True)
    monkeypatch.setenv("DOCKER_CONFIG", str(NEWEST))


def stat(stage: Stage, service: str, *paths: str) -> list[str]:
    (one,) = stage.of(service)
    code, said = one.exec_run(["stat", "-c", "%n %a %u %g %s", *paths])
    assert code == 0, said
    return sorted(said.decode().splitlines())


INLINE = {
    "configs": {
        "plain": {"content": "a $$word and ${WORD}\n"},
        "fine": {"content": "x"},
        "known": {"environment": "WORD"},
    },
    "secrets": {"token": {"environment": "TOKEN"}},
}
INLINE_PLACES = ("/plain", "/etc/fine/x.conf", "/known", "/run/secrets/token", "/run/secrets/t")


def inline(stage: Stage, **more: Any) -> None:
    (stage.folder / ".env").write_text("WORD=from-file\n")
    fine = {"source": "fine", "target": "/etc/fine/x.conf", "uid": "1", "gid": "2", "mode": 0o440}
    stage.write(
        {
            "app": sleeper(
                configs=["plain", fine, "known"],
                secrets=["token", {"source": "token", "target": "t"}],
                **more,
            )
        },
        **INLINE,
    )


@pytest.mark.parametrize("strategy", ["recreate", "rolling"])
def test_inline_configs_and_secrets_are_as_compose_makes_them(
    stage: Stage, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.options["strategy"] = strategy
    token = {"TOKEN": "hunter2-is-no-password"}
    inline(stage)
    ended = stage.run(environment=token, _ansible_diff=True)
    assert ended.code == 0, ended.output
    assert "hunter2" not in ended.output
    ours = stat(stage, "app", *INLINE_PLACES)
    assert text(stage, "app", "/plain") == "a $word and from-file\n"
    assert text(stage, "app", "/known") == "from-file"
    assert text(stage, "app", "/run/secrets/token") == "hunter2-is-no-password"
    before = ids(stage)
    assert stage.redeploy(environment=token)["changed"] is False
    monkeypatch.setenv("TOKEN", token["TOKEN"])
    up(stage)
    assert ids(stage) == before
    monkeypatch.delenv("TOKEN")

    # Another value is another file, which compose itself does not notice.
    (stage.folder / ".env").write_text("WORD=another\n")
    foreseen = stage.redeploy(environment=token, _ansible_check_mode=True, _ansible_diff=True)
    assert "its config plain changed" in foreseen["diff"]["after"]
    assert stage.redeploy(environment=token)["changed"]
    assert text(stage, "app", "/known") == "another"
    other = {"TOKEN": "hunter3-is-none"}
    ended = stage.run(environment=other, _ansible_check_mode=True, _ansible_diff=True)
    assert "its secret token changed" in ended.result["diff"]["after"]
    assert "hunter" not in ended.output
    ended = stage.run(environment=other, _ansible_diff=True)
    assert ended.result["changed"]
    assert "hunter" not in ended.output
    assert text(stage, "app", "/run/secrets/t") == "hunter3-is-none"

    command = ["docker", "compose", "-p", stage.name, "up", "-d", "--force-recreate"]
    (stage.folder / ".env").write_text("WORD=from-file\n")
    monkeypatch.setenv("TOKEN", token["TOKEN"])
    subprocess.run(command, cwd=stage.folder, capture_output=True, check=True)
    assert stat(stage, "app", *INLINE_PLACES) == ours
    # Adopted as it is.
    assert stage.redeploy(environment=token)["changed"] is False


def test_a_former_container_has_its_inline_files_when_it_serves_again(stage: Stage) -> None:
    check = "grep -q one /known || { echo bad >&2; exit 3; }; "
    more = {"command": ["sh", "-c", (check + SLEEP[2]).replace("$", "$$")]}
    inline(stage, **more)
    stage.redeploy(environment={"TOKEN": "x"}, variables={"WORD": "one"})
    before = stage.state()
    failed = stage.refused(environment={"TOKEN": "x"}, variables={"WORD": "two"})
    assert "exit code 3" in failed["msg"]
    assert stage.state() == before
    assert text(stage, "app", "/known") == "one"


def test_a_variable_that_is_not_set_is_named_before_anything_is_done(stage: Stage) -> None:
    inline(stage)
    failed = stage.refused()
    assert "the secret token is the variable TOKEN, which is not set" in failed["msg"]
    assert stage.containers() == []


def test_a_file_that_the_container_changed_itself_is_left_to_it(stage: Stage) -> None:
    inline(stage)
    stage.redeploy(environment={"TOKEN": "x"})
    (one,) = stage.of("app")
    time.sleep(3)
    assert one.exec_run(["sh", "-c", "echo more >> /plain"]).exit_code == 0
    assert stage.redeploy(environment={"TOKEN": "x"})["changed"] is False


@pytest.mark.usefixtures("newest")
def test_hooks_are_run_as_compose_runs_them(stage: Stage) -> None:
    (stage.folder / "out").mkdir()

    def hooked(version: str) -> dict[str, Any]:
        return sleeper(
            environment={"VERSION": version},
            volumes=["./out:/out"],
            post_start=[
                {
                    "command": [
                        "sh",
                        "-c",
                        "echo start $$VERSION $$MORE $$(id -u) $$PWD >> /out/log",
                    ],
                    "user": "1000:0",
                    "working_dir": "/tmp",
                    "environment": {"MORE": "m$$x"},
                },
                {"command": ["sh", "-c", "echo second >> /out/log"]},
            ],
            pre_stop=[{"command": ["sh", "-c", "echo stop $$VERSION >> /out/log"]}],
        )

    (stage.folder / "out").chmod(0o777)
    (stage.folder / "out" / "log").touch()
    (stage.folder / "out" / "log").chmod(0o666)
    stage.write({"app": hooked("one")})
    stage.redeploy()
    log = (stage.folder / "out" / "log").read_text().splitlines()
    assert log == ["start one m$x 1000 /tmp", "second"]
    stage.write({"app": hooked("two")})
    stage.redeploy()
    log = (stage.folder / "out" / "log").read_text().splitlines()[2:]
    assert log == ["stop one", "start two m$x 1000 /tmp", "second"]
    assert stage.redeploy()["changed"] is False
    before = ids(stage)
    up(stage)
    assert ids(stage) == before


@pytest.mark.usefixtures("newest")
def test_a_hook_that_fails_after_the_start_fails_the_candidate(stage: Stage) -> None:
    stage.write({"app": sleeper(pre_stop=[{"command": ["sh", "-c", "exit 4"]}])})
    stage.redeploy()
    before = stage.state()
    hook = [{"command": ["sh", "-c", "echo no such table >&2; exit 5"]}]
    stage.write({"app": sleeper(post_start=hook)})
    failed = stage.refused()
    assert failed["kind"] == "hook"
    assert "ended with exit code 5" in failed["msg"]
    assert any("no such table" in line for line in failed["log"])
    assert stage.state() == before
    # One that fails before the stop is told of.
    stage.write({"app": sleeper(labels={"a": "b"}, pre_stop=[{"command": ["false"]}])})
    ended = stage.run()
    assert ended.result["changed"]
    assert "the pre_stop hook" in str(ended.result.get("warnings"))


def resolved(stage: Stage, service: str, name: str) -> str:
    (one,) = stage.of(service)
    code, said = one.exec_run(["getent", "hosts", name])
    assert code == 0, f"{name} is not known: {said}"
    return str(said.decode().split()[0])


def address(stage: Stage, service: str) -> str:
    (one,) = stage.of(service)
    one.reload()
    (network,) = one.attrs["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def test_links_lead_to_the_new_container(stage: Stage) -> None:
    def linked(version: str) -> None:
        stage.write(
            {
                "db": sleeper(environment={"V": version}),
                "web": sleeper(links=["db:database", "db"]),
            }
        )

    linked("one")
    stage.redeploy()
    for name in ("database", "db"):
        assert resolved(stage, "web", name) == address(stage, "db")
    linked("two")
    done = stage.redeploy()
    assert "db" in {one["service"] for one in done["previous"]}
    for name in ("database", "db"):
        assert resolved(stage, "web", name) == address(stage, "db")
    before = ids(stage)
    assert stage.redeploy()["changed"] is False
    up(stage)
    assert ids(stage) == before
    # The one that links is replaced alone.
    stage.write(
        {
            "db": sleeper(environment={"V": "two"}),
            "web": sleeper(links=["db:database", "db"], environment={"W": "1"}),
        }
    )
    assert stage.redeploy()["changed"]
    assert resolved(stage, "web", "database") == address(stage, "db")
    assert stage.redeploy()["changed"] is False
