# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports and imports that are told to end in the middle: the lock is given back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.front import Forward, front_of
from tests.support.modules import start_module
from tests.support.plays import start_play
from tests.support.portal import EXPORT, KEY, Portal
from tests.support.portal_harness import (
    COUNTS,
    HOST,
    entities,
    left_in,
    look,
    running_portal,
    unlock,
)
from tests.support.waiting import eventually
from tests.unit.plugins.module_utils.loopback import Answer, Seen

PATIENCE = 60.0


class Gate:
    """Holds one moment of a conversation, until it is opened: there the signal is sent.

    :param moment: ``starting`` (the portal is locked, its answer on the way), ``waiting`` (for the
        archive), ``downloading`` (half of it is here) or ``releasing`` (the lock is given back,
        the answer on the way); for an import ``uploading`` and ``importing``.
    """

    def __init__(self, moment: str) -> None:
        self.moment = moment
        self.reached = threading.Event()
        self.opened = threading.Event()

    def hold(self) -> None:
        self.reached.set()
        self.opened.wait(PATIENCE)

    def __call__(self, seen: Seen, forward: Forward) -> Answer | None:
        last = seen.path.rsplit("/", 1)[-1]
        if self.opened.is_set():
            return forward()
        if self.moment in ("waiting", "importing") and last == "status":
            # The answer is not withheld: it is between the looks that the signal comes.
            self.reached.set()
            return Answer(204)
        answer = forward()
        if (self.moment, seen.method, last) in (
            ("starting", "POST", "export"),
            ("uploading", "POST", "import"),
        ) or (self.moment == "releasing" and seen.method == "DELETE"):
            self.hold()
        if self.moment == "downloading" and last == "data":
            return self._half(answer)
        return answer

    def _half(self, answer: Answer) -> Answer:
        body = bytes(answer.body)

        def pieces() -> Iterator[bytes]:
            yield body[: len(body) // 2]
            self.hold()
            yield body[len(body) // 2 :]

        return replace(
            answer, body=pieces(), headers={**answer.headers, "Content-Length": str(len(body))}
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    with running_portal(tmp_path_factory.mktemp("interrupted") / "portal") as running:
        yield running


@pytest.fixture
def portal(shared: Portal) -> Iterator[Portal]:
    """The portal, unlocked."""
    yield shared
    unlock(shared)


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    folder = tmp_path / "dest"
    folder.mkdir()
    return folder / "archive"


def arguments(url: str, **options: Any) -> dict[str, Any]:
    return {"api_url": url, "host_header": HOST, "deployment_key": KEY, **options}


@pytest.mark.parametrize(
    "case",
    [
        ("starting", signal.SIGTERM, "release"),
        ("waiting", signal.SIGTERM, "keep"),
        ("waiting", signal.SIGINT, "release"),
        ("waiting", signal.SIGHUP, "release"),
        ("downloading", signal.SIGTERM, "keep"),
        ("downloading", signal.SIGINT, "release"),
        ("releasing", signal.SIGTERM, "release"),
    ],
    ids=lambda case: f"{case[0]}-{case[1].name}-{case[2]}",
)
def test_an_export_that_is_interrupted_gives_the_lock_back(
    portal: Portal, tmp_path: Path, dest: Path, case: tuple[str, signal.Signals, str]
) -> None:
    moment, number, lock = case
    data = entities(portal)
    gate = Gate(moment)
    with (
        front_of(portal.url, {"case": gate}) as front,
        start_module(
            tmp_path, "portal_export", arguments(front.of("case"), dest=dest, lock=lock)
        ) as running,
    ):
        assert gate.reached.wait(PATIENCE)
        running.process.send_signal(number)
        gate.opened.set()
        ended = running.end()
    assert ended.code == 1, ended.output
    assert ended.result["kind"] == "interrupted"
    assert ended.result["msg"].startswith(f"interrupted by {number.name}. ")
    assert "the lock is given back" in ended.result["msg"].lower()
    assert left_in(dest.parent) == []
    assert look(portal) == (False, data)


def test_a_second_signal_does_not_hurry_the_giving_back(
    portal: Portal, tmp_path: Path, dest: Path
) -> None:
    first, second = Gate("waiting"), Gate("releasing")

    def both(seen: Seen, forward: Forward) -> Answer | None:
        return second(seen, forward) if seen.method == "DELETE" else first(seen, forward)

    with (
        front_of(portal.url, {"case": both}) as front,
        start_module(tmp_path, "portal_export", arguments(front.of("case"), dest=dest)) as running,
    ):
        assert first.reached.wait(PATIENCE)
        running.process.send_signal(signal.SIGTERM)
        assert second.reached.wait(PATIENCE)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            running.process.send_signal(number)
        second.opened.set()
        ended = running.end()
    assert ended.result["msg"] == "interrupted by SIGTERM. The lock is given back. Run this again."
    assert not portal.locked()


def test_an_earlier_archive_outlives_an_interrupted_export(
    portal: Portal, tmp_path: Path, dest: Path
) -> None:
    dest.write_bytes(b"the archive of yesterday")
    gate = Gate("downloading")
    with (
        front_of(portal.url, {"case": gate}) as front,
        start_module(tmp_path, "portal_export", arguments(front.of("case"), dest=dest)) as running,
    ):
        assert gate.reached.wait(PATIENCE)
        running.process.send_signal(signal.SIGTERM)
        running.end()
    assert dest.read_bytes() == b"the archive of yesterday"
    assert left_in(dest.parent) == ["archive"]


@pytest.mark.parametrize("moment", ["uploading", "importing"])
def test_an_import_that_is_interrupted_says_that_it_may_go_on(
    portal: Portal, tmp_path: Path, moment: str
) -> None:
    gate = Gate(moment)
    with (
        front_of(portal.url, {"case": gate}) as front,
        start_module(tmp_path, "portal_import", arguments(front.of("case"), src=EXPORT)) as running,
    ):
        assert gate.reached.wait(PATIENCE)
        running.process.send_signal(signal.SIGTERM)
        ended = running.end()
        gate.opened.set()
    assert ended.result["msg"] == (
        "interrupted by SIGTERM. The portal may go on importing all the same. Run this again."
    )
    eventually(lambda: not portal.locked(), "the import that goes on to end")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_play_that_is_ended_leaves_an_unlocked_portal(
    portal: Portal, dest: Path, number: signal.Signals
) -> None:
    """Whether its module is ended with it or goes on alone, it gives the lock back."""
    data = entities(portal)
    gate = Gate("waiting")
    with front_of(portal.url, {"case": gate}) as front:
        options = arguments(front.of("case"), dest=str(dest), deployment_key="{{ key }}")
        tasks = [{"name": "export", "immutable.delivery.portal_export": options}]
        with start_play(tasks, extra_vars={"key": KEY}) as play:
            eventually(gate.reached.is_set, "the export to be waited for")
            assert portal.locked()
            play.process.send_signal(number)
            play.process.wait(PATIENCE)
            gate.opened.set()
            eventually(lambda: not portal.locked(), "the lock to be given back")
            eventually(
                lambda: left_in(dest.parent) in ([], ["archive"]), "the partial file to be gone"
            )
    assert play.process.returncode != 0
    assert look(portal) == (False, data)


@pytest.mark.parametrize("moment", ["waiting", "downloading"])
def test_what_comes_after_a_kill_is_a_whole_export(
    portal: Portal, tmp_path: Path, dest: Path, moment: str
) -> None:
    """Nobody can undo after SIGKILL: the lock lapses by itself, and the next run is like any."""
    gate = Gate(moment)
    with front_of(portal.url, {"case": gate}) as front:
        options = arguments(front.of("case"), dest=dest)
        with start_module(tmp_path, "portal_export", options) as running:
            assert gate.reached.wait(PATIENCE)
            if moment == "downloading":
                eventually(lambda: left_in(dest.parent), "the archive to be written")
            running.process.kill()
            assert running.end().code == -signal.SIGKILL
        assert portal.locked()
        assert len(left_in(dest.parent)) == (moment == "downloading")
        unlock(portal)
        gate.opened.set()
        with start_module(tmp_path, "portal_export", options) as running:
            assert running.end().result["contents"] == COUNTS
    assert left_in(dest.parent) == ["archive"]
