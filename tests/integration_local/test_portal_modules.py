# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""portal_export, portal_import and portal_lock through ansible-playbook, on real portals."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority
from tests.support.front import Front, front_of
from tests.support.plays import PlayResult, run_play
from tests.support.portal import KEY, Portal
from tests.support.portal_harness import (
    COUNTS,
    HOST,
    entities,
    left_in,
    look,
    running_portal,
)

COLLECTION = "immutable.delivery"


def task(name: str, module: str, url: str, **options: Any) -> dict[str, Any]:
    """Return a task of a portal module, its failure ignored: tests read it from the result."""
    keywords = {word: options.pop(word) for word in ("check_mode",) if word in options}
    common = {"api_url": url, "deployment_key": "{{ key }}", "host_header": HOST}
    return {
        "name": name,
        f"{COLLECTION}.{module}": {**common, **options},
        "ignore_errors": True,
        "register": name.replace(" ", "_"),
        **keywords,
    }


@dataclass
class Story:
    """One play on two portals, what it returned, and what stood after each of its tasks."""

    played: PlayResult
    blue: Portal
    green: Portal
    front: Front
    folder: Path
    data: str

    def __getitem__(self, name: str) -> Any:
        return self.played.task(name)


def tasks(blue: Front, green: str, dest: Path) -> list[dict[str, Any]]:
    lock_of_keep = {
        "export_id": "{{ keep.export_id }}",
        "expires_at": "{{ keep.lock.expires_at }}",
    }
    src = {"src": str(dest / "released")}
    plan = {"check_mode": True}
    return [
        task("plan", "portal_export", blue.of("plan"), dest=str(dest / "plan"), **plan),
        task("release", "portal_export", blue.of("release"), dest=str(dest / "released")),
        task("keep", "portal_export", blue.of("keep"), dest=str(dest / "kept"), lock="keep"),
        task("conflict", "portal_export", blue.of("conflict"), dest=str(dest / "conflict")),
        task("held", "portal_lock", blue.of("held"), min_remaining=5, **lock_of_keep),
        task("too short", "portal_lock", blue.of("short"), min_remaining=61, **lock_of_keep),
        task("plan back", "portal_lock", blue.of("p"), state="released", **lock_of_keep, **plan),
        task("back", "portal_lock", blue.of("back"), state="released", **lock_of_keep),
        task("back again", "portal_lock", blue.of("again"), state="released", **lock_of_keep),
        task("lapsed", "portal_lock", blue.of("lapsed"), **lock_of_keep),
        task(
            "unproved",
            "portal_export",
            blue.of("unproved"),
            dest=str(dest / "released"),
            verify_archive=False,
        ),
        task("plan import", "portal_import", blue.of("plan_import"), **src, **plan),
        task("import", "portal_import", green, sha256="{{ unproved.sha256 | upper }}", **src),
        task("import keep", "portal_import", green, sha256="", lock="keep", **src),
    ]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("portals")
    dest = folder / "dest"
    dest.mkdir()
    with (
        running_portal(folder / "blue") as blue,
        running_portal(folder / "green", filled=False) as green,
        front_of(blue.url, look=lambda _case: look(blue)) as front,
    ):
        data = entities(blue)
        played = run_play(
            tasks(front, green.url, dest), extra_vars={"key": KEY}, args=["-vvv", "--diff"]
        )
        front.begin("")
        yield Story(played, blue, green, front, dest, data)


def test_no_task_shows_the_key(story: Story) -> None:
    assert len(story.played.results) == 14, story.played.output
    assert KEY not in story.played.stdout + story.played.stderr


def test_no_task_changes_the_data_that_is_exported(story: Story) -> None:
    assert story.front.stood
    assert {data for _locked, data in story.front.stood.values()} == {story.data}


def test_check_mode_proves_the_key_and_starts_nothing(story: Story) -> None:
    assert story["plan"].changed
    assert story["plan"]["export_id"] == ""
    assert story["plan"]["steps"][0]["step"].startswith("start an export")
    [call] = story.front.calls["plan"]
    assert call.startswith("GET /deploy/v1/export/")
    assert story.front.stood["plan"] == (False, story.data)
    assert "plan" not in left_in(story.folder)
    assert "a new archive of the portal at" in story["plan"]["diff"]["after"]


def test_an_export_is_whole_and_proved_and_for_its_owner_only(story: Story) -> None:
    result = story["unproved"]
    file = story.folder / "released"
    assert result["size"] == file.stat().st_size
    assert result["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert result["contents"] == {}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert story["release"]["contents"] == COUNTS
    assert story["release"]["dest"] == str(file)
    assert f"users: {COUNTS['users']}" in story["release"]["diff"]["after"]


def test_nothing_is_left_beside_the_archives(story: Story) -> None:
    assert left_in(story.folder) == ["kept", "released"]


def test_a_lock_is_given_back_by_default(story: Story) -> None:
    assert story["release"]["lock"]["held"] is False
    assert story["release"]["lock"]["expires_at"] == ""
    assert story.front.stood["release"] == (False, story.data)
    assert story.front.calls["release"][0] == "POST /deploy/v1/export"
    assert story.front.calls["release"][-1].startswith("DELETE ")


def test_an_export_makes_few_calls(story: Story) -> None:
    """The portal takes 25 a minute, and a deploy exports twice."""
    assert len(story.front.calls["release"]) <= 7


def test_a_lock_can_be_kept(story: Story) -> None:
    lock = story["keep"]["lock"]
    assert lock["held"] is True
    assert lock["export_id"] == story["keep"]["export_id"]
    left = (datetime.fromisoformat(lock["expires_at"]) - datetime.now(UTC)).total_seconds()
    assert left <= 60
    assert story["keep"]["contents"] == COUNTS
    assert story.front.stood["keep"] == (True, story.data)


def test_another_export_meanwhile_is_refused_at_once(story: Story) -> None:
    conflict = story["conflict"]
    assert conflict.failed
    assert conflict["kind"] == "conflict"
    assert "has another export under way." in conflict.msg
    assert conflict["next_step"].startswith("Wait until it is given back")
    assert story.front.calls["conflict"] == ["POST /deploy/v1/export"]
    assert story.front.stood["conflict"] == (True, story.data), "somebody else's lock is kept"


def test_a_lock_that_is_held_is_proved_without_a_change(story: Story) -> None:
    held = story["held"]
    assert not held.failed
    assert not held.changed
    assert held["held"] is True
    assert 5 < held["remaining"] <= 60
    assert story.front.stood["held"] == (True, story.data)


def test_a_lock_that_does_not_last_long_enough_is_a_failure(story: Story) -> None:
    short = story["too short"]
    assert short.failed
    assert short["kind"] == "lapsed"
    assert "s, and 61.0 s are wanted. Nothing was changed. Export again" in short.msg


def test_a_lock_is_given_back_once(story: Story) -> None:
    assert story["plan back"].changed
    assert story.front.stood["p"] == (True, story.data), "check mode gave it back"
    assert story["back"].changed
    assert story["back"]["held"] is False
    assert story["back"]["remaining"] == -1
    assert story.front.stood["back"] == (False, story.data)
    assert not story["back again"].failed
    assert not story["back again"].changed
    assert [call.split()[0] for call in story.front.calls["again"]] == ["GET"]


def test_a_lock_that_is_gone_is_a_failure(story: Story) -> None:
    lapsed = story["lapsed"]
    assert lapsed.failed
    assert lapsed["kind"] == "lapsed"
    assert "the portal may have taken writes since the export" in lapsed.msg


def test_check_mode_imports_nothing(story: Story) -> None:
    plan = story["plan import"]
    assert plan.changed
    assert plan["import_id"] == ""
    assert plan["sha256"] == story["unproved"]["sha256"]
    [call] = story.front.calls["plan_import"]
    assert call.startswith("GET /deploy/v1/export/")


def test_an_import_carries_everything_over(story: Story) -> None:
    imported = story["import"]
    assert imported.changed
    assert imported["import_id"]
    assert imported["sha256"] == story["unproved"]["sha256"]
    assert f"{COUNTS['users']} users" in imported["message"]
    assert imported["lock"] == {"held": False, "export_id": "", "expires_at": ""}
    assert entities(story.green) == story.data


def test_an_import_can_leave_its_portal_locked(story: Story) -> None:
    assert story["import keep"]["lock"]["held"] is True
    assert story.green.locked()
    export_id = story["import keep"]["lock"]["export_id"]
    assert story.green.deploy("GET", f"export/{export_id}/status").status_code in (200, 204)


def test_over_tls_the_portal_is_asked_for_by_its_own_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    other = Authority(tmp_path, "other CA")
    dest = tmp_path / "dest"
    dest.mkdir()
    with (
        running_portal(tmp_path / "portal") as portal,
        front_of(
            portal.url, look=lambda _case: look(portal), context=authority.context(HOST)
        ) as front,
        front_of(portal.url, context=authority.context("elsewhere.example")) as wrong,
    ):
        before = entities(portal)
        played = run_play(
            [
                task(name, "portal_export", url, dest=str(dest / name), ca_path=str(ca.path))
                for name, url, ca in (
                    ("right", front.of("right"), authority),
                    ("wrong_ca", front.of("wrong_ca"), other),
                    ("wrong_name", wrong.of("wrong_name"), authority),
                )
            ],
            extra_vars={"key": KEY},
        )
        assert front.stood == {} or front.stood["right"] == (False, before)
        assert look(portal) == (False, before)
    assert played.task("right")["contents"] == COUNTS, played.output
    for name, told in (
        ("wrong_ca", "failed: unable to get local issuer certificate."),
        ("wrong_name", f"failed: hostname '{HOST}' doesn't match 'elsewhere.example'."),
    ):
        assert played.task(name).failed
        assert told in played.task(name).msg
        assert played.task(name)["next_step"].startswith("Check ca_path")
    assert wrong.calls == {}, "a request was sent before the certificate was proved"
    assert left_in(dest) == ["right"]
