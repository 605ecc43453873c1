# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs projects of the corpus side by side, and says what is wrong with them."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from docker import DockerClient

from tests.support.corpus import CorpusProject, idle_image, read_corpus, version_of
from tests.support.corpus_known import KNOWN_FAILURES
from tests.support.corpus_walk import Walk, compose_version
from tests.support.engine import connect, new_prefix, remove_all

# They wait for the engine most of the time.
AT_ONCE = 4


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a project; in how many seconds it was found."""

    project: CorpusProject
    faults: Sequence[str]
    seconds: float

    def text(self, known: Mapping[str, str] | None = None) -> str:
        """Return what makes a test fail; nothing if the faults are known."""
        name = self.project.name
        known = KNOWN_FAILURES if known is None else known
        if name in known:
            fixed = f"{name} works now: remove it from tests/support/corpus_known.py"
            return "" if self.faults else fixed
        lines = "\n".join(f"  {fault}" for fault in self.faults)
        return f"{name}: {self.project.shows}\n{lines}" if lines else ""


def runnable(engine: DockerClient) -> list[CorpusProject]:
    """Return the projects that compose and the engine know all features of."""
    versions = compose_version(), version_of(str(engine.version()["Version"]))
    return [project for project in read_corpus() if project.can_run(*versions)]


def run_projects(projects: Sequence[CorpusProject], prefix: str) -> Iterator[Verdict]:
    """Run the projects, a few at a time; what they leave on the engine is removed.

    :param prefix: what their names begin with; none may begin with another, since what is to be
        removed is known by how its name begins.
    """
    idle_image()
    # Not threads: the module changes the environment for a moment. It handles signals, too.
    pool = ProcessPoolExecutor(AT_ONCE, get_context("fork"))
    names = [f"{prefix}-{number:03}" for number in range(len(projects))]
    try:
        yield from pool.map(_walk, names, projects, range(len(projects)))
    finally:
        pool.shutdown(cancel_futures=True)


def _walk(name: str, project: CorpusProject, number: int) -> Verdict:
    began = time.monotonic()
    engine = connect()
    with tempfile.TemporaryDirectory() as folder:
        walk = Walk(engine, project, name, Path(folder) / "project", number)
        try:
            faults = walk.run()
        except Exception:
            where = traceback.format_exc()[-2000:]
            faults = [*walk.faults, f"it could not be run: {where}"]
            remove_all(engine, name)
    engine.close()
    return Verdict(project, faults, time.monotonic() - began)


def run_corpus(words: Sequence[str] = ()) -> int:
    """Run all projects, print what is wrong with each, and return how many are not right.

    :param words: only projects whose names contain one of them are run, and no failure is known.
    """
    engine, prefix = connect(), new_prefix()
    known = {} if words else KNOWN_FAILURES
    bad = 0
    try:
        projects = [
            project
            for project in runnable(engine)
            if not words or any(word in project.name for word in words)
        ]
        for verdict in run_projects(projects, prefix):
            text = verdict.text(known)
            bad += bool(text)
            print(text or f"{verdict.project.name}: ok ({verdict.seconds:.1f} s)", flush=True)
    finally:
        remove_all(engine, prefix)
        engine.close()
    version = ".".join(map(str, compose_version()))
    print(f"{len(projects)} projects by compose {version}, {bad} not as they must be")
    return bad
