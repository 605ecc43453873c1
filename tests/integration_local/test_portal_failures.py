# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the portal's modules do when something is wrong: told in a sentence, nothing left."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import tar_of
from tests.support.front import Front, Spoil, after, front_of, on
from tests.support.made_archives import encrypted
from tests.support.plays import PlayResult, run_play
from tests.support.portal import EXPORT, KEY, Portal
from tests.support.portal_harness import (
    HOST,
    entities,
    left_in,
    look,
    running_portal,
    unlock,
)
from tests.support.waiting import eventually
from tests.unit.plugins.module_utils.loopback import Answer

PAGE = Answer(200, {"Content-Type": "text/html"}, b"<html><body>Welcome!</body></html>")
RUNNING = Answer(204)
OTHER_KEY = encrypted(b"no tar at all", "another-key")
GIVEN_BACK = "The lock is given back. "
NO_PART = "No partial file is left. The lock is given back. "
CONFLICT = Answer(409, {"Content-Type": "application/json"}, b'{"message": "busy"}')


def message(status: int, said: str) -> Answer:
    return Answer(
        status, {"Content-Type": "application/json"}, b'{"message": "%s"}' % said.encode()
    )


def cut(answer: Answer) -> Answer:
    """Promise a body and send half of it."""
    body = bytes(answer.body)
    half = body[: len(body) // 2]
    return replace(answer, body=half, headers={**answer.headers, "Content-Length": str(len(body))})


def with_hash(answer: Answer, sha256: str) -> Answer:
    return replace(answer, headers={**answer.headers, "X-SHA256-Hash": sha256})


def another(answer: Answer) -> Answer:
    """Send, with its right hash, an archive that was encrypted with another key."""
    return with_hash(replace(answer, body=OTHER_KEY), hashlib.sha256(OTHER_KEY).hexdigest())


def no_hash(answer: Answer) -> Answer:
    headers = {name: told for name, told in answer.headers.items() if name != "X-SHA256-Hash"}
    return replace(answer, headers=headers)


def broken_off(answer: Answer) -> None:
    """Answer nothing, though the server has done what it was asked for."""


@dataclass(frozen=True)
class Case:
    """One task that goes wrong (or right in the end, where *told* is empty).

    :param told: a pattern for the whole message; ``@`` stands for how the portal is named.
    :param locked: whether it is left locked: only where nobody could know that it is.
    """

    told: str
    spoil: Spoil | None = None
    options: dict[str, Any] = field(default_factory=dict)
    kind: str = "failed"
    locked: bool = False


CHECK = "Check that api_url and host_header name the portal's API, below which /deploy/v1 lies."
EXPORTS: dict[str, Case] = {
    "wrong_key": Case(
        "@ refuses the deployment key (403). Give the key of this portal as deployment_key; both "
        "instances of a blue/green deploy must have the same one.",
        options={"deployment_key": "not-the-key-at-all"},
    ),
    "empty_key": Case(
        "deployment_key is empty.", options={"deployment_key": "  "}, kind="bad_option"
    ),
    "unsendable_key": Case(
        "deployment_key has characters that an HTTP header cannot carry.",
        options={"deployment_key": "k3y\nX-Evil: 1"},
        kind="bad_option",
    ),
    "wrong_host": Case(
        "@ answers 503. It is starting or has no instance for this Host: give the portal's API "
        "host name as host_header.",
        options={"host_header": "other.example"},
    ),
    "host_is_an_address": Case(
        "host_header 'https://api.example' is not a host name. Give it as HOST[:PORT], in ASCII.",
        options={"host_header": "https://api.example"},
    ),
    "no_scheme": Case(
        "api_url 'api.example' is not an http or https address. "
        "Give it as https://HOST[:PORT][/PATH].",
        options={"api_url": "api.example"},
    ),
    "missing_ca": Case(
        "ca_path does not exist: /no/such/ca.pem.", options={"ca_path": "/no/such/ca.pem"}
    ),
    "poll_too_often": Case(
        "poll_interval must be at least 2 seconds, not 1. "
        "The portal takes 25 calls a minute and refuses the rest.",
        options={"poll_interval": 1},
        kind="bad_option",
    ),
    "no_time": Case(
        "timeout must be more than 0 seconds, not 0.", options={"timeout": 0}, kind="bad_option"
    ),
    "lock_for_ever": Case(
        "lock_seconds must be more than 0 and at most 86400, not 1e+300.",
        options={"lock_seconds": 1e300},
        kind="bad_option",
    ),
    "dest_in_a_missing_folder": Case(
        "the folder of dest does not exist: .*/nowhere. Nothing was changed. Make it first.",
        options={"dest": "nowhere/archive"},
    ),
    "dest_is_a_folder": Case(
        "dest is a folder: .*. Nothing was changed. Give a file's path.", options={"dest": "."}
    ),
    "html": Case(
        "@ answered 200 to starting an export. " + CHECK, spoil=lambda seen, forward: PAGE
    ),
    "html_404": Case(
        "@ answered 404 to POST export, with a web page. " + CHECK,
        spoil=lambda seen, forward: replace(PAGE, status=404),
    ),
    "redirect": Case(
        "@ redirects to https://login.example/, which is not followed with the key. "
        "Give the final address as api_url.",
        spoil=on("POST", "/export", Answer(302, {"Location": "https://login.example/"})),
    ),
    "conflict_stays": Case(
        "@ has another export under way, still after 3 s. Wait until it is given back or lapses "
        "(60 s), or give a longer conflict_timeout.",
        spoil=on("POST", "/export", CONFLICT),
        options={"conflict_timeout": 3},
        kind="conflict",
    ),
    "conflict_ends": Case(
        "", spoil=on("POST", "/export", CONFLICT, times=1), options={"conflict_timeout": 60}
    ),
    "too_many_calls": Case(
        "", spoil=on("GET", "/status", Answer(429, {"Retry-After": "1"}), times=1)
    ),
    "too_many_calls_for_long": Case(
        "@@ answers 429: too many calls a minute; gave up waiting for @@ to take calls again: "
        r"3600 s more were asked for, .* s were left of 30 s. "
        + GIVEN_BACK
        + "Wait a minute, or give a longer timeout.",
        spoil=on("GET", "/status", Answer(429, {"Retry-After": "3600"})),
        options={"timeout": 30},
        kind="timeout",
    ),
    "slow_cancellation": Case("", spoil=on("DELETE", "", Answer(202), times=2)),
    "never_done": Case(
        "gave up waiting for @ to finish the export after 6 s; last seen: still processing. "
        + GIVEN_BACK
        + "Give a longer timeout.",
        spoil=on("GET", "/status", RUNNING),
        # Long enough for a busy machine to be asked at least once.
        options={"timeout": 6},
        kind="timeout",
    ),
    "portal_fails_it": Case(
        "@ failed the export: no space. " + GIVEN_BACK,
        spoil=on("GET", "/status", message(422, "no space")),
        kind="refused",
    ),
    "cancelled_by_somebody": Case(
        "the export at @ was cancelled by somebody else. " + GIVEN_BACK,
        spoil=on("GET", "/status", message(410, "Cancelled")),
    ),
    "lapsed_meanwhile": Case(
        "@ no longer knows the export: its lock lapsed before the archive was made. "
        + GIVEN_BACK
        + "Try again; a portal that takes longer than 60 s to export cannot hold its lock.",
        spoil=on("GET", "/status", message(404, "no such export")),
        kind="lapsed",
    ),
    "a_look_breaks_off": Case("", spoil=on("GET", "/status", None, times=1)),
    "truncated": Case(
        r"the body from @@ ended early: \d+ bytes came, \d+ more were due. " + NO_PART,
        spoil=on("GET", "/data", after(cut)),
    ),
    "wrong_hash": Case(
        f"the archive from @ has SHA-256 .{{64}}, but its X-SHA256-Hash says {'0' * 64}. "
        + NO_PART
        + "Nothing was kept of it; try again.",
        spoil=on("GET", "/data", after(lambda answer: with_hash(answer, "0" * 64))),
    ),
    "no_hash": Case(
        "@ sent an archive without X-SHA256-Hash, so it cannot be proved whole. " + GIVEN_BACK,
        spoil=on("GET", "/data", after(no_hash)),
    ),
    "not_ready": Case(
        "@ answered 400 to the archive's download: not done. " + GIVEN_BACK,
        spoil=on("GET", "/data", message(400, "not done")),
    ),
    "another_key": Case(
        "the archive cannot be decrypted with this deployment key .*. " + NO_PART,
        spoil=on("GET", "/data", after(another)),
    ),
    "broken_after_the_start": Case(
        "the connection to @@ broke during POST /deploy/v1/export: Remote end closed connection "
        "without response. The portal may be read-only until its lock lapses (60 s after the "
        "call).",
        spoil=on("POST", "/export", after(broken_off)),
        locked=True,
    ),
}
IMPORTS: dict[str, Case] = {
    "import_wrong_key": Case(
        EXPORTS["wrong_key"].told, options={"deployment_key": "not-the-key-at-all"}
    ),
    "src_missing": Case(
        "src is not a file: .*/missing. Nothing was changed.", options={"src": "missing"}
    ),
    "src_is_a_folder": Case("src is not a file: .*. Nothing was changed.", options={"src": "."}),
    "src_empty": Case("src is empty: .*/empty. Nothing was changed.", options={"src": "empty"}),
    "wrong_sha256": Case(
        "/.* has SHA-256 .{64}, not 1234. Nothing was sent. The file was changed or cut off after "
        "it was exported; export again.",
        options={"sha256": "1234"},
    ),
    "import_wrong_host": Case(EXPORTS["wrong_host"].told, options={"host_header": "other.example"}),
    "import_html": Case(
        "@ answered 200 to starting an import. " + CHECK, spoil=lambda seen, forward: PAGE
    ),
    "import_conflict": Case(
        "@ has another import or export under way. "
        "Wait until it is done, or give a longer conflict_timeout.",
        spoil=on("POST", "/import", CONFLICT),
        kind="conflict",
    ),
    "hash_refused": Case(
        "@ answered 400 to starting an import: the hash is wrong.",
        spoil=on("POST", "/import", message(400, "the hash is wrong")),
    ),
    # Not after one whose import goes on: waiting for that would be taken from its time.
    "import_never_done": Case(
        "gave up waiting for @ to finish the import after 6 s; last seen: still processing. "
        "The portal may go on importing all the same. Give a longer timeout.",
        spoil=on("GET", "/status", RUNNING),
        # Long enough for a busy machine to be asked at least once.
        options={"timeout": 6},
        kind="timeout",
    ),
    "import_forgotten": Case(
        "@ no longer knows the import. The portal may go on importing all the same. "
        "It may have been restarted; see its log, then import again.",
        spoil=on("GET", "/status", message(404, "no such import")),
    ),
    "import_page_for_an_answer": Case(
        r"@@ answered 200 with \d+ bytes (text/html) that are not JSON. The portal may go on "
        "importing all the same. Check that the address is the API's own and not a web page "
        "before it.",
        spoil=on("GET", "/status", PAGE),
    ),
    "unsafe_members": Case(
        "@ failed the import: .*'../../evil.json' is unsafe. The earlier data is in place.",
        options={"src": "unsafe"},
        kind="refused",
    ),
    "import_with_another_key": Case(
        "@ failed the import: The archive is refused: .*. The earlier data is in place.",
        options={"src": "another-key"},
        kind="refused",
    ),
    "not_an_archive": Case(
        "@ failed the import: The archive is refused: .*. The earlier data is in place.",
        options={"src": "junk"},
        kind="refused",
    ),
}


USUAL_STEPS = [
    "Correct the option, then run this again.",
    "Fix the cause, then run this again.",
    "See the server's log, then run this again.",
]


def plain(text: str, case: Case) -> str:
    """Return a message without the state and the next step that any failure of its kind has."""
    for step in USUAL_STEPS:
        text = text.removesuffix(f" {step}")
    text = re.sub(r" (Done|Not completed): [^.]*\.", "", text)
    if "Nothing was changed." in case.told:
        return text
    return text.replace(" Nothing was changed.", "")


@dataclass
class Story:
    """All the cases in one play."""

    played: PlayResult
    portal: Portal
    front: Front
    dests: Path
    data: str

    def pattern(self, name: str, case: Case) -> str:
        """Return *told* as a regular expression; its own are a few that prose does not have."""
        host = case.options.get("host_header", HOST)
        named = f"{self.front.of(name)} (Host {host})"
        told = case.told.rstrip().replace("@@", "\0").replace("@", "the portal at \0")
        escaped = re.escape(told.replace("\0", named))
        for ours in (".*", r"\d+", ".{64}"):
            escaped = escaped.replace(re.escape(ours), ours)
        return escaped


def write_sources(folder: Path) -> None:
    folder.mkdir()
    (folder / "empty").touch()
    (folder / "junk").write_bytes(b"no archive at all" * 100)
    (folder / "right").write_bytes(EXPORT.read_bytes())
    (folder / "another-key").write_bytes(OTHER_KEY)
    (folder / "unsafe").write_bytes(
        encrypted(tar_of({"users/a.json": b"{}", "../../evil.json": b"{}"}))
    )


def tasks(front: Front, dests: Path, sources: Path) -> list[dict[str, Any]]:
    made = []
    for name, case in (EXPORTS | IMPORTS).items():
        common = {"api_url": front.of(name), "deployment_key": "{{ key }}", "host_header": HOST}
        options = {**common, **case.options}
        if name in EXPORTS:
            module, dest = "portal_export", dests / name
            dest.mkdir()
            options["dest"] = str(dest / case.options.get("dest", "archive"))
        else:
            module = "portal_import"
            options["src"] = str(sources / case.options.get("src", "right"))
        made.append({"name": name, f"immutable.delivery.{module}": options, "ignore_errors": True})
    return made


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("failures")
    dests = folder / "dests"
    dests.mkdir()
    write_sources(folder / "sources")
    cases = {name: case.spoil for name, case in (EXPORTS | IMPORTS).items() if case.spoil}
    with running_portal(folder / "portal") as portal:

        def stands(name: str) -> tuple[bool, str]:
            if "may go on importing" in (EXPORTS | IMPORTS)[name].told:
                eventually(lambda: not portal.locked(), "the import that goes on to end")
            seen = look(portal)
            unlock(portal)
            return seen

        with front_of(portal.url, cases, look=stands) as front:
            data = entities(portal)
            played = run_play(
                tasks(front, dests, folder / "sources"), extra_vars={"key": KEY}, args=["-vvv"]
            )
            front.begin("")
            yield Story(played, portal, front, dests, data)


def test_all_cases_ran_and_none_showed_a_key(story: Story) -> None:
    assert len(story.played.results) == len(EXPORTS) + len(IMPORTS), story.played.output
    shown = story.played.stdout + story.played.stderr
    assert not [key for key in (KEY, "not-the-key-at-all", "k3y") if key in shown]
    assert "Traceback" not in shown


@pytest.mark.parametrize("name", EXPORTS | IMPORTS)
def test_what_went_wrong_is_told(story: Story, name: str) -> None:
    case = (EXPORTS | IMPORTS)[name]
    result = story.played.task(name)
    assert result.failed is bool(case.told), result.data
    if case.told:
        assert re.fullmatch(story.pattern(name, case), plain(result.msg, case)), result.msg
        assert result["next_step"] and result["msg"].endswith(result["next_step"])
        assert result["kind"] == case.kind


@pytest.mark.parametrize("name", EXPORTS | IMPORTS)
def test_the_portal_is_as_it_was(story: Story, name: str) -> None:
    """Unlocked and with its data, but where the modules could not know that it is locked."""
    case = (EXPORTS | IMPORTS)[name]
    if name in story.front.stood:
        assert story.front.stood[name] == (case.locked, story.data)
    else:
        assert case.told, "the portal was never asked, yet the task succeeded"
    assert look(story.portal) == (False, story.data)


@pytest.mark.parametrize("name", EXPORTS)
def test_nothing_is_left_beside_dest(story: Story, name: str) -> None:
    assert left_in(story.dests / name) == ([] if EXPORTS[name].told else ["archive"])


def test_what_can_be_waited_out_is_waited_out(story: Story) -> None:
    calls = story.front.calls
    assert calls["conflict_ends"].count("POST /deploy/v1/export") == 2
    assert calls["conflict_stays"].count("POST /deploy/v1/export") <= 3
    deleted = [call for call in calls["slow_cancellation"] if call.startswith("DELETE")]
    assert len(deleted) == 3


def test_a_start_that_may_have_happened_is_not_repeated(story: Story) -> None:
    assert story.front.calls["broken_after_the_start"] == ["POST /deploy/v1/export"]
