# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a pass is done again, what its options may be, and what is returned of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.change import Outcome
from ansible_collections.immutable.delivery.plugins.module_utils.errors import (
    DeliveryError,
    Interrupted,
)
from ansible_collections.immutable.delivery.plugins.module_utils.portal.client import (
    Conflict,
    Lapsed,
    PortalError,
    Refused,
)
from ansible_collections.immutable.delivery.plugins.module_utils.portal.handover import Handover
from ansible_collections.immutable.delivery.plugins.module_utils.portal.importing import Imported
from ansible_collections.immutable.delivery.plugins.module_utils.portal.jobs import Lock
from ansible_collections.immutable.delivery.plugins.module_utils.routers.base import Route
from ansible_collections.immutable.delivery.plugins.modules import portal_switch

OPTIONS = {
    "api_url": "http://live.test",
    "candidate_url": "http://candidate.test",
    "deployment_key": "secret-key",
    "host_header": None,
    "validate_certs": True,
    "ca_path": None,
    "timeout": 300.0,
    "poll_interval": 2.0,
    "conflict_timeout": 0.0,
    "lock_seconds": 60.0,
    "archive": "/nowhere/archive",
    "router": "registry",
    "router_url": "http://router.test",
    "service": "portal",
    "health_path": "/health",
    "health_timeout": 30.0,
    "prove_path": "/health",
    "prove_fields": {},
    "prove_count": 3,
    "prove_timeout": 10.0,
    "min_remaining": 5.0,
    "drain_timeout": 30.0,
    "rounds": 3,
}
BEFORE = Handover(Route("portal", ("http://live.test",)))
LOCK = Lock("abc", datetime(2026, 1, 2, tzinfo=UTC))
AFTER = Handover(
    Route("portal", ("http://candidate.test",)), LOCK, Imported(7, "f00d", "1", "", LOCK), 1.23456
)
DONE = Outcome(True, BEFORE, AFTER, [{"step": "one", "seconds": 1.0}], {"before": "", "after": ""})

Scripted = Callable[..., list[Any]]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """Say how the passes end, each with an error or an outcome; returns those that were begun."""

    def script(*ends: Any, quiet: bool = True, stayed: bool = False) -> list[Any]:
        begun: list[Any] = []

        def change_from(params: dict[str, Any], check_mode: bool) -> Any:
            begun.append(SimpleNamespace(quiet=quiet, stayed=stayed))
            return begun[-1]

        def run(change: Any, *, check_mode: bool) -> Any:
            end = ends[min(len(begun), len(ends)) - 1]
            if isinstance(end, Exception):
                raise end
            return end

        monkeypatch.setattr(portal_switch, "change_from", change_from)
        monkeypatch.setattr(portal_switch, "run", run)
        return begun

    return script


def test_what_a_pass_returns(passes: Scripted) -> None:
    begun = passes(DONE)
    assert portal_switch.switch(OPTIONS, False) == {
        "changed": True,
        "steps": [{"step": "one", "seconds": 1.0}],
        "diff": {"before": "", "after": ""},
        "url": "http://candidate.test",
        "previous_url": "http://live.test",
        "export_id": "abc",
        "sha256": "f00d",
        "size": 7,
        "rounds": 1,
        "read_only_seconds": 1.235,
    }
    assert len(begun) == 1


def test_what_check_mode_returns(passes: Scripted) -> None:
    passes(Outcome(True, BEFORE, BEFORE, [], {}))
    seen = portal_switch.switch(OPTIONS, True)
    assert (seen["url"], seen["previous_url"]) == ("http://live.test", "http://live.test")
    assert (seen["export_id"], seen["sha256"], seen["size"]) == ("", "", 0)
    assert seen["read_only_seconds"] == 0


def test_a_lock_that_lapsed_is_gone_round_again(passes: Scripted) -> None:
    begun = passes(Lapsed("gone"), Lapsed("gone"), DONE)
    assert portal_switch.switch(OPTIONS, False)["rounds"] == 3
    assert len({id(change) for change in begun}) == 3


def test_the_rounds_come_to_an_end_and_the_error_counts_them(passes: Scripted) -> None:
    begun = passes(Lapsed("gone"))
    with pytest.raises(Lapsed, match=r"gone \(in pass 3 of 3\)"):
        portal_switch.switch(OPTIONS, False)
    assert len(begun) == 3


def test_an_error_in_a_later_pass_names_the_pass(passes: Scripted) -> None:
    passes(Lapsed("gone"), Refused("no room"))
    with pytest.raises(Refused, match=r"no room \(in pass 2 of 3\)"):
        portal_switch.switch(OPTIONS, False)


def test_one_round_says_nothing_of_passes(passes: Scripted) -> None:
    passes(Lapsed("gone"))
    with pytest.raises(Lapsed, match=r"^gone\.$"):
        portal_switch.switch({**OPTIONS, "rounds": 1}, False)


@pytest.mark.parametrize(
    "error", [PortalError("no"), Conflict("no"), Refused("no"), Interrupted("no")]
)
def test_another_failure_is_not_tried_again(passes: Scripted, error: DeliveryError) -> None:
    begun = passes(error, DONE)
    with pytest.raises(type(error)):
        portal_switch.switch(OPTIONS, False)
    assert len(begun) == 1


def test_nothing_is_tried_while_requests_may_be_under_way_at_the_candidate(
    passes: Scripted,
) -> None:
    begun = passes(Lapsed("gone"), DONE, quiet=False)
    with pytest.raises(Lapsed):
        portal_switch.switch(OPTIONS, False)
    assert len(begun) == 1


@pytest.mark.parametrize("error", [Lapsed("gone"), Interrupted("told to end")])
def test_a_candidate_that_keeps_the_traffic_is_told_by_the_kind(
    passes: Scripted, error: DeliveryError
) -> None:
    begun = passes(error, DONE, quiet=False, stayed=True)
    with pytest.raises(type(error)) as raised:
        portal_switch.switch(OPTIONS, False)
    assert raised.value.kind == "opened"
    assert len(begun) == 1


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("rounds", 0, "rounds must be at least 1"),
        ("rounds", -1, "rounds must be at least 1"),
        ("api_url", "live.test", "api_url 'live.test' is not an http"),
        ("candidate_url", "", "candidate_url '' is not an http"),
        ("candidate_url", "http://candidate.test/?x", "must not have a query"),
        ("router_url", "ftp://router", "router_url 'ftp://router' is not an http"),
        ("deployment_key", " ", "deployment_key is empty"),
        ("min_remaining", -1.0, "min_remaining must be at least 0 and less than lock_seconds"),
        ("min_remaining", 60.0, "min_remaining must be at least 0 and less than lock_seconds"),
        ("min_remaining", float("nan"), "min_remaining must be at least 0"),
        ("lock_seconds", float("nan"), "lock_seconds"),
        ("poll_interval", 1.0, "poll_interval must be at least 2"),
        ("timeout", 0.0, "timeout must be more than 0"),
        ("prove_count", 0, "prove_count must be at least 1"),
        ("prove_path", "health", "prove_path must begin with a slash"),
        ("health_path", "health", "health_path must begin with a slash"),
        ("drain_timeout", -1.0, "drain_timeout must not be less than 0"),
        ("drain_timeout", float("inf"), "drain_timeout must not be less than 0 seconds, nor"),
        ("ca_path", "/nowhere/ca.pem", "ca_path does not exist"),
        ("host_header", "http://x", "host_header 'http://x' is not a host name"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(option: str, value: Any, message: str) -> None:
    with pytest.raises(DeliveryError) as raised:
        portal_switch.switch({**OPTIONS, option: value}, False)
    assert message in str(raised.value)
    assert "secret-key" not in str(raised.value)


def test_a_proof_of_fields_without_a_path_is_refused() -> None:
    options = {**OPTIONS, "prove_path": "", "prove_fields": {"version": "v24"}}
    with pytest.raises(DeliveryError, match="prove_fields needs prove_path"):
        portal_switch.switch(options, False)


def test_the_options_reach_the_parts_of_the_pass() -> None:
    change = portal_switch.change_from({**OPTIONS, "drain_timeout": 7.0}, False)
    assert change.export.client.http.base_url == "http://live.test"
    assert change.import_.client.http.base_url == "http://candidate.test"
    assert (change.export.wanted.dest, change.import_.wanted.src) == ("/nowhere/archive",) * 2
    assert change.export.wanted.keep_lock and change.import_.wanted.keep_lock
    assert not change.export.check_key and change.import_.check_key
    assert (change.min_remaining, change.drain_timeout) == (5.0, 7.0)
    assert portal_switch.change_from(OPTIONS, True).export.check_key


@pytest.mark.parametrize("url", ["http://live.test", "http://LIVE.test:80/"])
def test_the_live_portal_is_known_however_it_is_spelled(url: str) -> None:
    change = portal_switch.change_from(OPTIONS, False)
    assert change.check_route(Route("portal", (url,))) is None


@pytest.mark.parametrize("url", ["http://third.test", None])
def test_what_has_not_the_traffic_is_not_carried(url: str | None) -> None:
    change = portal_switch.change_from(OPTIONS, False)
    with pytest.raises(DeliveryError, match=r"not to api_url http://live\.test, so"):
        change.check_route(Route("portal", () if url is None else (url,)))
