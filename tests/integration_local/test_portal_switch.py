# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""portal_switch as a process, between two real stand-in portals and the real proxy."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.front import Forward, Front, Spoil, front_of
from tests.support.modules import Ended, RunningModule, start_module
from tests.support.portal import KEY, Portal
from tests.support.portal_harness import HOST, entities, left_in, running_portal, unlock
from tests.support.proxy import Proxy, start_proxy
from tests.support.waiting import eventually
from tests.unit.plugins.module_utils.loopback import Answer, Seen

PATIENCE = 60.0
NOWHERE = "http://127.0.0.1:9"


@dataclass
class Pair:
    """A live portal and a candidate, each behind a front that can spoil its answers, as the proxy.

    The proxy knows the portals by their fronts' addresses.
    """

    folder: Path
    live: Portal
    candidate: Portal
    proxy: Proxy
    live_front: Front
    candidate_front: Front
    router_front: Front

    @property
    def live_url(self) -> str:
        return self.live_front.of("pass")

    @property
    def candidate_url(self) -> str:
        return self.candidate_front.of("pass")

    def spoil(self, front: Front, spoil: Spoil) -> None:
        front.cases = {"pass": spoil}

    def start(self, *, check: bool = False, **options: Any) -> RunningModule:
        arguments = {
            "api_url": self.live_url,
            "candidate_url": self.candidate_url,
            "host_header": HOST,
            "deployment_key": KEY,
            "archive": self.folder / "archive",
            "router_url": self.router_front.of("pass"),
            "service": "portal",
            "prove_fields": {"version": "v24"},
            "_ansible_check_mode": check,
            **options,
        }
        return start_module(self.folder, "portal_switch", arguments)

    def run(self, **options: Any) -> Ended:
        with self.start(**options) as running:
            return self.end(running)

    def end(self, running: RunningModule) -> Ended:
        ended = running.end()
        assert KEY not in ended.output
        assert [name for name in left_in(self.folder) if name.endswith(".portal-part")] == []
        return ended

    @property
    def exports(self) -> int:
        """How often the live portal was made read-only so far."""
        return self.live.log().count("began; read-only")

    def look(self) -> tuple[str | None, bool, bool, str]:
        """Where the traffic goes, which side is read-only, and what the live portal has."""
        return (
            self.proxy.current("portal"),
            self.live.locked(),
            self.candidate.locked(),
            entities(self.live),
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("switch")
    with (
        running_portal(folder / "live", version="v23") as live,
        running_portal(folder / "candidate", filled=False) as candidate,
        start_proxy(folder) as proxy,
        front_of(live.url) as live_front,
        front_of(candidate.url) as candidate_front,
        front_of(proxy.url) as router_front,
    ):
        yield Pair(folder, live, candidate, proxy, live_front, candidate_front, router_front)


@pytest.fixture
def pair(running: Pair, tmp_path: Path) -> Iterator[Pair]:
    """The pair, with the traffic at the live portal and nobody locked."""
    running.folder = tmp_path
    running.proxy.register("portal", running.live_url)
    for portal in (running.live, running.candidate):
        unlock(portal)
        portal.faults()
        # An import that a test broke off may still go on.
        wait_unlocked(portal)
    for front in (running.live_front, running.candidate_front, running.router_front):
        front.cases = {}
        front.calls.clear()
    yield running


def wait_unlocked(portal: Portal) -> None:
    eventually(lambda: not portal.locked(), "an unlocked portal")


def failed(ended: Ended, kind: str) -> str:
    """The message of a failure of that kind."""
    assert ended.code == 1, ended.output
    assert ended.result["kind"] == kind, ended.output
    return str(ended.result["msg"])


def test_the_data_is_carried_the_traffic_switched_and_the_candidate_opened(pair: Pair) -> None:
    early = pair.live.sign_up("early-bird").json()["id"]
    ended = pair.run()
    assert ended.code == 0, ended.output
    result = ended.result
    assert result["changed"] is True
    assert (result["url"], result["previous_url"]) == (pair.candidate_url, pair.live_url)
    assert pair.proxy.current("portal") == pair.candidate_url
    assert 0 < result["read_only_seconds"] < 60
    assert result["rounds"] == 1
    assert result["size"] == (pair.folder / "archive").stat().st_size
    # Users may write to the candidate, and no longer to the other, by this very export.
    assert pair.live.locked()
    assert pair.live.deploy("GET", f"export/{result['export_id']}/status").status_code == 200
    assert not pair.candidate.locked()
    assert pair.candidate.sign_up("late-bird").status_code == 201
    assert pair.candidate.call("GET", f"/users/{early}").json()["email"] == "early-bird@example.org"
    assert len(result["steps"]) == 12


def test_check_mode_changes_nothing_and_proves_both_keys(pair: Pair) -> None:
    before = (*pair.look(), entities(pair.candidate), pair.proxy.registry.read_bytes())
    ended = pair.run(check=True)
    assert ended.code == 0, ended.output
    assert ended.result["changed"] is True
    assert f"portal goes to {pair.live_url}" in ended.result["diff"]["before"]
    assert f"portal goes to {pair.candidate_url}" in ended.result["diff"]["after"]
    after = (*pair.look(), entities(pair.candidate), pair.proxy.registry.read_bytes())
    assert after == before
    for front in (pair.live_front, pair.candidate_front, pair.router_front):
        calls = front.calls["pass"]
        assert {call.split()[0] for call in calls} == {"GET"}
    assert not (pair.folder / "archive").exists()


def no_candidate_key(seen: Seen, forward: Forward) -> Answer | None:
    return Answer(403) if seen.path.startswith("/deploy/") else forward()


@pytest.mark.parametrize("check", [False, True])
def test_what_can_be_known_before_is_known_before_users_wait(pair: Pair, check: bool) -> None:
    before, exports = pair.look(), pair.exports
    text = failed(pair.run(check=check, candidate_url=pair.live_url), "failed")
    assert "the candidate is live already" in text
    text = failed(pair.run(check=check, candidate_url=NOWHERE, health_timeout=1), "failed")
    assert f"{NOWHERE}/health (Host {HOST}) did not answer as healthy" in text
    text = failed(
        pair.run(check=check, api_url=pair.candidate_url, candidate_url=pair.live.url), "failed"
    )
    assert "so users' writes would not be carried" in text
    text = failed(pair.run(check=check, archive="/nowhere/archive"), "failed")
    assert "/nowhere" in text
    pair.spoil(pair.candidate_front, no_candidate_key)
    text = failed(pair.run(check=check), "failed")
    assert f"the portal at {pair.candidate_url} (Host {HOST}) refuses the deployment key" in text
    assert "Nothing was changed." in text
    assert (pair.look(), pair.exports) == (before, exports)


def test_a_proof_that_fails_is_taken_back(pair: Pair) -> None:
    before = pair.look()
    text = failed(pair.run(prove_fields={"version": "v99"}, prove_timeout=1), "unproved")
    assert "version is v24, not v99" in text
    assert f"portal goes to {pair.live_url}. The candidate's lock is given back" in text
    assert "The live portal's lock is given back" in text
    assert pair.look() == before
    assert pair.live.sign_up("after-failure").status_code == 201


def counting(method: str, spoil: Callable[[int, Forward], Answer | None]) -> Spoil:
    """Spoil the requests of *method*, by their number from 1."""
    count = 0

    def spoiled(seen: Seen, forward: Forward) -> Answer | None:
        nonlocal count
        if seen.method != method:
            return forward()
        count += 1
        return spoil(count, forward)

    return spoiled


def test_a_switch_whose_answers_are_lost_is_taken_back(pair: Pair) -> None:
    before = pair.look()
    switched = []

    def lose(number: int, forward: Forward) -> Answer | None:
        answer = forward()
        switched.append(pair.proxy.current("portal"))
        return answer if number > 3 else None

    pair.spoil(pair.router_front, counting("PUT", lose))
    text = failed(pair.run(), "failed")
    assert "broke during PUT" in text
    assert switched == [pair.candidate_url] * 3 + [pair.live_url]
    assert pair.look() == before


def test_a_router_that_is_gone_after_the_switch_keeps_both_sides_read_only(pair: Pair) -> None:
    gone = threading.Event()

    def leave(seen: Seen, forward: Forward) -> Answer | None:
        if seen.method == "PUT":
            forward()
            gone.set()
        return None if gone.is_set() else forward()

    pair.spoil(pair.router_front, leave)
    text = failed(pair.run(), "failed")
    assert "Could not be rolled back: send portal to" in text
    assert text.count("stays read-only until its lock lapses by itself, at 20") == 2
    assert (pair.live.locked(), pair.candidate.locked()) == (True, True)
    unlock(pair.live)
    unlock(pair.candidate)
    assert not pair.live.locked()


def test_somebody_else_who_switches_meanwhile_is_not_overruled(pair: Pair) -> None:
    def overtake(number: int, forward: Forward) -> Answer | None:
        answer = forward()
        pair.proxy.register("portal", NOWHERE)
        return answer

    pair.spoil(pair.router_front, counting("PUT", overtake))
    text = failed(pair.run(), "overtaken")
    assert f"portal goes to {NOWHERE}" in text
    assert "left as it is" in text
    assert pair.proxy.current("portal") == NOWHERE
    # A request that went to the candidate meanwhile must not be acknowledged there.
    assert "the candidate stays read-only" in text
    assert pair.candidate.locked()


def test_an_opening_that_is_not_confirmed_keeps_the_traffic(pair: Pair) -> None:
    pair.spoil(pair.candidate_front, counting("DELETE", lambda number, forward: None))
    text = failed(pair.run(), "opened")
    assert "did not confirm that users may write to it" in text
    assert "may stay read-only until its lock lapses" in text
    assert pair.proxy.current("portal") == pair.candidate_url
    assert pair.live.locked()


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("locked", signal.SIGTERM),
        ("importing", signal.SIGTERM),
        ("switched", signal.SIGTERM),
        ("switched", signal.SIGINT),
    ],
)
def test_a_pass_that_is_told_to_end_takes_itself_back(
    pair: Pair, moment: str, number: signal.Signals
) -> None:
    before = pair.look()
    reached, opened = threading.Event(), threading.Event()
    ending = {"locked": "/status", "importing": "/status", "switched": "/health"}[moment]

    def hold(seen: Seen, forward: Forward) -> Answer | None:
        told = moment != "switched" or pair.proxy.current("portal") == pair.candidate_url
        if opened.is_set() or not told or not seen.path.endswith(ending):
            return forward()
        if moment == "importing" and "/import/" not in seen.path:
            return forward()
        reached.set()
        if moment != "switched":
            return Answer(204)
        opened.wait(PATIENCE)
        return forward()

    fronts = {"locked": pair.live_front, "importing": pair.candidate_front}
    pair.spoil(fronts.get(moment, pair.router_front), hold)
    with pair.start() as running:
        assert reached.wait(PATIENCE)
        assert pair.live.locked()
        running.process.send_signal(number)
        opened.set()
        ended = pair.end(running)
    text = failed(ended, "interrupted")
    assert text.startswith(f"interrupted by {number.name}. ")
    assert "the live portal's lock is given back" in text.lower()
    assert not pair.live.locked()
    # The candidate may go on importing.
    eventually(lambda: pair.look() == before, "everything as it was before")


def test_a_lock_that_lapses_before_the_switch_is_gone_round_again(pair: Pair) -> None:
    signed_up: list[str] = []

    def lapse(number: int, forward: Forward) -> Answer | None:
        answer = forward()
        if number == 1:
            unlock(pair.live)
            pair.live.faults()
            signed_up.append(pair.live.sign_up("in-between").json()["id"])
        return answer

    pair.spoil(pair.candidate_front, counting("POST", lapse))
    ended = pair.run()
    assert ended.code == 0, ended.output
    assert ended.result["rounds"] == 2
    assert pair.candidate.call("GET", f"/users/{signed_up[0]}").status_code == 200
    assert (pair.live.locked(), pair.candidate.locked()) == (True, False)


def test_a_lock_that_never_lasts_leaves_the_live_portal_open(pair: Pair) -> None:
    before = pair.look()

    def lapse(number: int, forward: Forward) -> Answer | None:
        answer = forward()
        unlock(pair.live)
        pair.live.faults()
        return answer

    pair.spoil(pair.candidate_front, counting("POST", lapse))
    text = failed(pair.run(rounds=2), "lapsed")
    assert "the lock has lapsed" in text
    assert "(in pass 2 of 2)" in text
    assert pair.look() == before


def test_a_second_caller_is_refused_or_waits(pair: Pair) -> None:
    pair.live.begin_export()
    text = failed(pair.run(), "conflict")
    assert "has another export under way" in text
    assert pair.proxy.current("portal") == pair.live_url
    assert pair.live.locked()

    def end_the_other(number: int, forward: Forward) -> Answer | None:
        answer = forward()
        if number == 1:
            unlock(pair.live)
            pair.live.faults()
        return answer

    pair.spoil(pair.live_front, counting("POST", end_the_other))
    ended = pair.run(conflict_timeout=30)
    assert ended.code == 0, ended.output
    assert pair.proxy.current("portal") == pair.candidate_url
