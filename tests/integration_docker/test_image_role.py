# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role that builds, tests and pushes an image, against a real engine and a real registry.

What the role does is done in one run of Ansible for most tests (see ``built``): each start of it
and each module cost more than what they have to do here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from docker import DockerClient

from tests.support.engine import APPS
from tests.support.plays import ROOT, TaskResult, run_play
from tests.support.registry import Registry, start_registry
from tests.support.shipped import CHECKOUT, Shipped

PATIENCE = 60.0
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
SMALL = "ARG BASE_IMAGE=immutable-base:bookworm\nFROM ${BASE_IMAGE}\nCOPY content /\n"
TESTS = SMALL + 'CMD ["sh", "-c", "cat /content; grep -q good /content"]\n'
FAILS = SMALL + "RUN echo the-last-word && exit 3\n"
# What differs from a source that is good, by where it fails.
FAILING = {
    "build": {"Dockerfile": FAILS},
    "tests build": {"Dockerfile_test": FAILS},
    "tests": {"content": "the-last-word\n"},
    "time": {"Dockerfile_test": SMALL + 'CMD ["sleep", "600"]\n'},
}


@dataclass
class Source:
    """A checkout with a folder to build, whose tests want its content to be good."""

    folder: Path
    name: str
    registry: Registry

    def __post_init__(self) -> None:
        self.src.mkdir(parents=True)
        self.git("init", "--quiet")
        self.write(Dockerfile=SMALL, Dockerfile_test=TESTS, content="good\n")
        self.commit()

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
        return self.described()

    def described(self) -> str:
        return self.git("describe", "--always", "--tags", "--abbrev=12")

    def tag(self) -> str:
        """The tag that the role gives to what the folder holds now."""
        done = subprocess.run(
            ["bash", "-c", (ROOT / "roles/image/files/describe.sh").read_text(), "x", self.src],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def variables(self) -> dict[str, Any]:
        """What the role is given to build it."""
        return {
            "image_name": self.name,
            "image_src": str(self.src),
            "image_registry": self.registry.address,
        }

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

    def names(self, engine: DockerClient) -> list[str]:
        """By which the engine knows its images."""
        # Not images.list(): it asks for each, and fails where another test removes one meanwhile.
        tags = [tag for one in engine.api.images() for tag in one["RepoTags"] or []]
        return [tag for tag in tags if self.name in tag]


@dataclass
class Case:
    """What one run of the role came to."""

    results: list[TaskResult]

    @property
    def changed(self) -> list[str]:
        return [result.task for result in self.results if result.changed]

    @property
    def failures(self) -> list[TaskResult]:
        return [result for result in self.results if result.failed]

    @property
    def facts(self) -> list[str]:
        """Digest, reference, reference of the tests, and tag."""
        assert not self.failures, self.failures
        return list(self.results[-1]["msg"])


def build(cases: dict[str, dict[str, Any]], *, check: bool = False) -> dict[str, Case]:
    """Run the role with the variables of each case, one after the other in one run."""
    facts = ("image_digest", "image_reference", "image_tests_reference", "image_tag_built")
    tasks = [
        {
            "name": "Have one after the other",
            "block": [
                {
                    "name": "Build",
                    "ansible.builtin.include_role": {"name": "immutable.delivery.image"},
                    "vars": variables,
                },
                {
                    "name": f"End of {name}",
                    "ansible.builtin.debug": {"msg": [f"{{{{ {fact} }}}}" for fact in facts]},
                },
            ],
            "rescue": [{"name": f"End of {name}", "ansible.builtin.debug": {"msg": "It failed"}}],
        }
        for name, variables in cases.items()
    ]
    done = run_play(tasks, check=check, timeout=600).ok()
    ends = [at for at, one in enumerate(done.results) if one.task.startswith("End of ")]
    assert [done[at].task for at in ends] == [f"End of {name}" for name in cases], done.output
    return {
        name: Case(done.results[begin + 1 : end + 1])
        for name, begin, end in zip(cases, [-1, *ends], ends, strict=False)
    }


@dataclass
class Built:
    """What the one run came to that most tests ask."""

    cases: dict[str, Case]
    sources: dict[str, Source]
    record: Path
    registry: Registry


@pytest.fixture(scope="module")
def built(prefix: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("image")
    with start_registry(tmp_path_factory.mktemp("registry")) as registry:
        sources = {
            name: Source(folder / name, f"{prefix}-{name.replace(' ', '-')}", registry)
            for name in ("life", "elsewhere", "plain", "away", *FAILING)
        }
        # The same content, of a commit that touches another folder.
        later = sources["elsewhere"]
        shutil.rmtree(later.folder)
        shutil.copytree(sources["life"].folder, later.folder)
        later.name = sources["life"].name
        (later.folder / "elsewhere").write_text("x")
        later.commit()
        plain = sources["plain"]
        shutil.rmtree(plain.folder / ".git")
        for name, files in FAILING.items():
            sources[name].write(**files)
            sources[name].commit()
        record = folder / "record.json"

        by_hand = {**plain.variables(), "image_tag": "by-hand", "image_test_dockerfile": ""}
        other = {**by_hand, "image_build_args": {"ANSWER": "42"}}
        local = {
            **sources["life"].variables(),
            "image_name": f"{plain.name}-local",
            "image_registry": "",
            "image_push": False,
            "image_test_dockerfile": "",
        }
        recorded = {"image_record_path": str(record)}
        cases = {
            "first": {**sources["life"].variables(), **recorded},
            "again": {**later.variables(), **recorded},
            "by hand": by_hand,
            "other arguments": other,
            "those again": other,
            "rebuilt": {**other, "image_rebuild": True},
            "local": local,
            "local again": local,
            "no history": plain.variables(),
            "registry away": {**sources["away"].variables(), "image_registry": "127.0.0.1:1"},
            **{
                name: {
                    **sources[name].variables(),
                    "image_record_path": str(folder / f"{name}.json"),
                    "image_test_timeout": 2 if name == "time" else 60,
                }
                for name in FAILING
            },
        }
        yield Built(build(cases), sources, record, registry)


def test_it_is_built_tested_pushed_and_known_by_its_digest(
    built: Built, engine: DockerClient
) -> None:
    source = built.sources["life"]
    tag = source.described()
    digest, reference, tests, told = built.cases["first"].facts
    assert told == tag
    assert digest == source.digest(tag)
    assert reference == f"{source.registry.address}/{source.name}@{digest}"
    assert tests.endswith(f"-tests@{source.digest(tag, '-tests')}")
    assert json.loads(built.record.read_text()) == {
        "name": source.name,
        "tag": tag,
        "digest": digest,
        "image": reference,
        "tests": tests,
    }
    # By its digest it can be had again where it was lost.
    for name in source.names(engine):
        engine.images.remove(name, force=True)
    assert reference in engine.images.pull(reference).attrs["RepoDigests"]


def test_the_same_content_again_changes_nothing(built: Built) -> None:
    first, again = built.cases["first"], built.cases["again"]
    assert first.changed
    assert again.changed == []
    assert again.facts == first.facts
    assert len(built.sources["life"].tags()) == 1


def test_every_content_has_a_tag_of_its_own(built: Built, prefix: str, tmp_path: Path) -> None:
    source = Source(tmp_path / "checkout", f"{prefix}-tags", built.registry)
    source.git("tag", "v1.0/beta")
    plain = source.tag()
    assert plain == "v1.0-beta"
    source.write(content="good too\n")
    changed = source.tag()
    assert changed.startswith("v1.0-beta-dirty-")
    source.write(more="not tracked")
    untracked = source.tag()
    assert untracked.startswith("v1.0-beta-dirty-")
    committed = source.commit().replace("/", "-")
    assert committed.startswith("v1.0-beta-1-g")
    assert source.tag() == committed
    assert len({plain, changed, untracked, committed}) == 4


def test_other_arguments_are_another_image(built: Built) -> None:
    first, other = built.cases["by hand"], built.cases["other arguments"]
    assert other.changed
    assert other.facts[0] != first.facts[0]
    assert built.cases["those again"].changed == []
    assert built.cases["rebuilt"].changed


@pytest.mark.parametrize("problem", FAILING)
def test_what_fails_is_shown_and_nothing_is_pushed(
    built: Built, engine: DockerClient, problem: str
) -> None:
    source = built.sources[problem]
    message = built.cases[problem].failures[-1].msg
    assert "Nothing was pushed." in message
    assert ("the-last-word" if problem != "time" else "Timed out") in message
    assert "exit code: 3" in message or problem in ("tests", "time"), message
    assert source.tags() == source.tags("-tests") == []
    assert source.names(engine) == []
    assert engine.containers.list(all=True, filters={"name": source.name}) == []
    assert not built.record.with_name(f"{problem}.json").exists()


def test_a_registry_that_is_away_is_named(built: Built, engine: DockerClient) -> None:
    failure = built.cases["registry away"].failures[0]
    assert "127.0.0.1:1" in failure.msg + str(failure.data)
    assert built.sources["away"].names(engine) == []


def test_a_folder_without_history_needs_a_tag(built: Built) -> None:
    assert "not a git repository" in str(built.cases["no history"].failures[0].data)
    assert built.cases["by hand"].facts[3] == "by-hand"
    assert built.sources["plain"].tags() == ["by-hand"]


def test_an_image_without_tests_and_one_that_is_not_pushed(built: Built) -> None:
    plain = built.sources["plain"]
    assert built.cases["by hand"].facts[2] == ""
    assert plain.tags("-tests") == []
    digest, reference, _tests, tag = built.cases["local"].facts
    assert (digest, reference) == ("", f"{plain.name}-local:{tag}")
    assert built.cases["local"].changed
    assert built.cases["local again"].changed == []


def test_check_mode_says_whether_there_is_something_to_do_and_does_nothing(
    built: Built, engine: DockerClient, prefix: str, tmp_path: Path
) -> None:
    source = Source(tmp_path / "checkout", f"{prefix}-checked", built.registry)
    stands = {**built.sources["plain"].variables(), "image_tag": "by-hand"}
    stands |= {"image_test_dockerfile": "", "image_build_args": {"ANSWER": "42"}}
    seen = build({"new": source.variables(), "state": stands}, check=True)
    assert seen["new"].changed
    assert seen["state"].changed == []
    assert source.tags() == []
    assert source.names(engine) == []


def test_what_the_engine_has_and_the_registry_has_not_is_not_taken_for_pushed(
    built: Built,
) -> None:
    plain = built.sources["plain"]
    lost = {**plain.variables(), "image_tag": "by-hand", "image_test_dockerfile": ""}
    lost["image_build_args"] = {"ANSWER": "42"}
    shutil.rmtree(built.registry.folder / "data")
    built.registry.stop()
    built.registry.start()
    assert plain.tags() == []
    assert build({"lost": lost})["lost"].changed
    assert plain.tags() == ["by-hand"]


def test_unit_tests_that_fail_fail_the_playbook(built: Built, prefix: str, tmp_path: Path) -> None:
    source = Source(tmp_path / "checkout", f"{prefix}-demo", built.registry)
    shutil.rmtree(source.src)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(APPS / "demo-service", source.src, ignore=ignored)
    source.commit("The demo")
    # That the demo as it is passes them is shown by the walk and by Molecule's pipeline.
    image = {"name": source.name, "src": str(source.src), "build_args": {"VERSION": "no version"}}
    failed = CHECKOUT.play(
        "playbooks/build.yml",
        args=["--inventory", "cd,", "--connection", "local"],
        extra_vars={"build_images": [image], "build_registry": built.registry.address},
        timeout=300,
    )
    assert failed.rc != 0
    assert "FAILED (errors=1)" in failed.failures[-1].msg
    assert "test_the_version_of_this_build_can_be_told" in failed.failures[-1].msg
    assert source.tags() == []


def test_the_playbook_builds_what_it_is_told_to(
    built: Built, prefix: str, tarball: Shipped, tmp_path: Path
) -> None:
    source = Source(tmp_path / "checkout", f"{prefix}-told", built.registry)
    tarball.play(
        "playbooks/build.yml",
        args=["--inventory", "cd,", "--connection", "local"],
        extra_vars={
            "build_name": source.name,
            "build_src": str(source.src),
            "build_registry": built.registry.address,
        },
        timeout=300,
    ).ok()
    assert source.tags() == [source.tag()]


def test_the_playbook_says_what_it_wants_to_know() -> None:
    said = CHECKOUT.play("playbooks/build.yml", args=["-i", "cd,"]).output
    assert "Say what to build" in said
