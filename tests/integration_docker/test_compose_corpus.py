# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sample of the corpus of compose projects; `make matrix` runs the whole of it.

To use another version of compose, name a folder whose ``cli-plugins`` has it by DOCKER_CONFIG.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from random import Random

from docker import DockerClient

from tests.support.compose import Stage
from tests.support.container_diff import differences
from tests.support.corpus import idle_image, read_corpus
from tests.support.corpus_known import KNOWN_FAILURES
from tests.support.corpus_run import Verdict, run_projects, runnable
from tests.support.seed import matrix_seed

SAMPLE = 12
# One for each feature of the specification, at least.
LEAST = 60


def test_a_sample_behaves_as_with_compose_itself(engine: DockerClient, prefix: str) -> None:
    seed = matrix_seed()
    chosen = Random(seed).sample(runnable(engine), SAMPLE)
    found = [verdict.text() for verdict in run_projects(chosen, prefix)]
    bad = [text for text in found if text]
    assert not bad, "\n".join([f"MATRIX_SEED={seed}", *bad])


def test_known_failures_are_of_projects_that_exist() -> None:
    names = {project.name for project in read_corpus()}
    assert len(names) >= LEAST
    assert set(KNOWN_FAILURES) <= names


def test_a_project_that_works_is_no_known_failure() -> None:
    (project,) = (one for one in read_corpus() if one.name == "environment")
    works, fails = Verdict(project, [], 1.0), Verdict(project, ["first run: it failed"], 1.0)
    known = {"environment": "a reason"}
    assert "remove it" in works.text(known)
    assert (fails.text(known), works.text({})) == ("", "")
    assert "first run: it failed" in fails.text({})


def test_what_differs_between_containers_is_told() -> None:
    compose = {"web": {"Env": ["A=1"], "Mounts": [{"Target": "/a"}], "Empty": None}}
    ours = {"web": {"Env": ["A=2"], "Mounts": [{"Target": "/a", "Options": {}}], "Empty": []}}
    assert list(differences(compose, ours)) == ["web Env 0: compose has 'A=1', this has 'A=2'"]


def test_docker_compose_ls_shows_the_files(
    engine: DockerClient, prefix: str, tmp_path: Path
) -> None:
    stage = Stage(engine, f"{prefix}-ls", tmp_path / "project")
    stage.folder.mkdir()
    stage.write({"web": {"image": idle_image()}})
    stage.redeploy(soak=0)
    command = ["docker", "compose", "ls", "--format", "json", "--filter", f"name={stage.name}"]
    (listed,) = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert listed["ConfigFiles"] == str(stage.folder / "compose.yaml")
