# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role that builds, tests and pushes an image, against a real engine and a real registry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from docker import DockerClient

from tests.support.engine import APPS
from tests.support.plays import ROOT, PlayResult, run_play
from tests.support.registry import Registry, start_registry

PATIENCE = 60.0
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with start_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@dataclass
class Source:
    """A checkout with a folder to build, and the name that its image gets."""

    folder: Path
    name: str
    registry: Registry
    record: Path

    @property
    def src(self) -> Path:
        return self.folder / "service"

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            env={
                **os.environ,
                **{f"GIT_{who}_NAME": "t" for who in ("AUTHOR", "COMMITTER")},
                **{f"GIT_{who}_EMAIL": "t@test" for who in ("AUTHOR", "COMMITTER")},
                "GIT_CONFIG_GLOBAL": os.devnull,
            },
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.src / name.replace("_", ".")).write_text(text)

    def commit(self, message: str = "A change") -> str:
        self.git("add", "--all")
        self.git("commit", "--message", message)
        return self.git("describe", "--always", "--tags", "--abbrev=12")

    def build(self, *, check: bool = False, **options: Any) -> PlayResult:
        role = {
            "name": "Build",
            "ansible.builtin.include_role": {"name": "immutable.delivery.image"},
            "vars": {
                "image_name": self.name,
                "image_src": str(self.src),
                "image_registry": self.registry.address,
                "image_record_path": str(self.record),
                **options,
            },
        }
        facts = {
            "name": "Facts",
            "ansible.builtin.debug": {
                "msg": [
                    "{{ image_digest }}",
                    "{{ image_reference }}",
                    "{{ image_tests_reference }}",
                    "{{ image_tag_built }}",
                ]
            },
        }
        return run_play([role, facts], check=check, timeout=300)

    def tags(self, suffix: str = "") -> list[str]:
        answer = requests.get(
            f"http://{self.registry.address}/v2/{self.name}{suffix}/tags/list", timeout=PATIENCE
        )
        return sorted(answer.json().get("tags") or []) if answer.ok else []

    def digest(self, tag: str, suffix: str = "") -> str:
        answer = requests.head(
            f"http://{self.registry.address}/v2/{self.name}{suffix}/manifests/{tag}",
            headers={"Accept": MANIFEST},
            timeout=PATIENCE,
        )
        return answer.headers["Docker-Content-Digest"]


SMALL = "ARG BASE_IMAGE=immutable-base:bookworm\nFROM ${BASE_IMAGE}\nCOPY content /\n"
TESTS = SMALL + 'CMD ["sh", "-c", "cat /content; grep -q good /content"]\n'


@pytest.fixture
def source(tmp_path: Path, prefix: str, registry: Registry, request: Any) -> Source:
    """A service whose tests want its content to be good."""
    number = abs(hash(request.node.name)) % 100_000
    made = Source(tmp_path / "checkout", f"{prefix}-{number}", registry, tmp_path / "record.json")
    made.src.mkdir(parents=True)
    made.git("init", "--quiet")
    made.write(Dockerfile=SMALL, Dockerfile_test=TESTS, content="good\n")
    made.commit()
    return made


def names_of(engine: DockerClient, source: Source) -> list[str]:
    return [tag for image in engine.images.list() for tag in image.tags if source.name in tag]


def test_it_is_built_tested_pushed_and_known_by_its_digest(
    source: Source, engine: DockerClient
) -> None:
    tag = source.git("describe", "--always", "--abbrev=12")
    play = source.build().ok()
    digest, reference, tests, told = play.task("Facts")["msg"]
    assert told == tag
    assert digest == source.digest(tag)
    assert reference == f"{source.registry.address}/{source.name}@{digest}"
    assert tests.endswith(f"-tests@{source.digest(tag, '-tests')}")
    assert json.loads(source.record.read_text()) == {
        "name": source.name,
        "tag": tag,
        "digest": digest,
        "image": reference,
        "tests": tests,
    }
    # By its digest it can be had again where it was lost.
    for name in names_of(engine, source):
        engine.images.remove(name, force=True)
    assert reference in engine.images.pull(reference).attrs["RepoDigests"]


def test_the_same_content_again_changes_nothing(source: Source) -> None:
    first = source.build().ok()
    assert first.changed
    # Neither does a commit that touches another folder.
    (source.folder / "elsewhere").write_text("x")
    source.commit()
    second = source.build().ok()
    assert not second.changed, second.output
    assert second.task("Facts")["msg"] == first.task("Facts")["msg"]
    assert len(source.tags()) == 1
    # What the engine has and the registry has not is not taken for pushed.
    shutil.rmtree(source.registry.folder / "data")
    source.registry.stop()
    source.registry.start()
    assert source.build().ok().changed
    assert len(source.tags()) == 1


def test_every_content_has_a_tag_of_its_own(source: Source) -> None:
    source.git("tag", "v1.0/beta")
    plain = source.build().ok().task("Facts")["msg"][3]
    assert plain == "v1.0-beta"
    source.write(content="good too\n")
    changed = source.build().ok().task("Facts")["msg"][3]
    assert changed.startswith("v1.0-beta-dirty-")
    source.write(more="not tracked")
    untracked = source.build().ok().task("Facts")["msg"][3]
    assert untracked.startswith("v1.0-beta-dirty-")
    committed = source.commit().replace("/", "-")
    assert committed.startswith("v1.0-beta-1-g")
    assert source.build().ok().task("Facts")["msg"][3] == committed
    assert len({plain, changed, untracked, committed}) == 4


def test_other_arguments_are_another_image(source: Source) -> None:
    first = source.build().ok()
    other = source.build(image_build_args={"ANSWER": "42"}).ok()
    assert other.changed
    assert other.task("Facts")["msg"][0] != first.task("Facts")["msg"][0]
    assert not source.build(image_build_args={"ANSWER": "42"}).ok().changed
    assert source.build(image_build_args={"ANSWER": "42"}, image_rebuild=True).ok().changed


@pytest.mark.parametrize("problem", ["build", "tests build", "tests", "time"])
def test_what_fails_is_shown_and_nothing_is_pushed(
    source: Source, engine: DockerClient, problem: str
) -> None:
    options: dict[str, Any] = {}
    if problem == "build":
        source.write(Dockerfile=SMALL + "RUN echo the-last-word && exit 3\n")
    elif problem == "tests build":
        source.write(Dockerfile_test=SMALL + "RUN echo the-last-word && exit 3\n")
    elif problem == "tests":
        source.write(content="the-last-word\n")
    else:
        source.write(Dockerfile_test=SMALL + 'CMD ["sleep", "600"]\n')
        options["image_test_timeout"] = 2
    source.commit()
    play = source.build(**options)
    assert play.rc != 0
    message = play.failures[-1].msg
    assert "Nothing was pushed." in message
    assert ("the-last-word" if problem != "time" else "Timed out") in message
    assert "exit code: 3" in message or problem in ("tests", "time"), message
    assert source.tags() == source.tags("-tests") == []
    assert names_of(engine, source) == []
    left = engine.containers.list(all=True, filters={"name": source.name})
    assert left == []
    assert not source.record.exists()


def test_check_mode_says_whether_there_is_something_to_do_and_does_nothing(
    source: Source, engine: DockerClient
) -> None:
    play = source.build(check=True).ok()
    assert play.changed
    assert source.tags() == []
    assert names_of(engine, source) == []
    source.build().ok()
    assert not source.build(check=True).ok().changed


def test_a_registry_that_is_away_is_named(source: Source, engine: DockerClient) -> None:
    play = source.build(image_registry="127.0.0.1:1")
    assert play.rc != 0
    assert "127.0.0.1:1" in play.failures[0].msg + str(play.failures[0].data)
    assert names_of(engine, source) == []


def test_a_folder_without_history_needs_a_tag(source: Source) -> None:
    shutil.rmtree(source.folder / ".git")
    play = source.build()
    assert "not a git repository" in str(play.failures[0].data)
    play = source.build(image_tag="by-hand").ok()
    assert play.task("Facts")["msg"][3] == "by-hand"
    assert source.tags() == ["by-hand"]


def test_an_image_without_tests_and_one_that_is_not_pushed(source: Source) -> None:
    play = source.build(image_test_dockerfile="").ok()
    assert play.task("Facts")["msg"][2] == ""
    assert source.tags("-tests") == []
    local = f"{source.name}-local"
    options: dict[str, Any] = {"image_name": local, "image_registry": "", "image_push": False}
    play = source.build(**options).ok()
    digest, reference, _tests, tag = play.task("Facts")["msg"]
    assert (digest, reference) == ("", f"{local}:{tag}")
    assert not source.build(**options).ok().changed


def test_the_demo_is_built_by_the_playbook_and_its_unit_tests_count(
    source: Source, app_image: Callable[[str], str]
) -> None:
    app_image("demo-service")
    shutil.rmtree(source.src)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(APPS / "demo-service", source.src, ignore=ignored)
    source.commit("The demo")

    def play(**entry: Any) -> PlayResult:
        image = {"name": source.name, "src": str(source.src), **entry}
        return run_play(
            ROOT / "playbooks" / "build.yml",
            args=["--inventory", "cd,", "--connection", "local"],
            extra_vars={"build_images": [image], "build_registry": source.registry.address},
            timeout=300,
        )

    failed = play(build_args={"VERSION": "no version"})
    assert "FAILED (errors=1)" in failed.failures[-1].msg
    assert "test_the_version_of_this_build_can_be_told" in failed.failures[-1].msg
    assert source.tags() == []
    play().ok()
    assert (
        source.tags()
        == source.tags("-tests")
        == [source.git("describe", "--always", "--abbrev=12")]
    )
    assert not play().ok().changed
    assert (
        "Say what to build" in run_play(ROOT / "playbooks" / "build.yml", args=["-i", "cd,"]).output
    )
