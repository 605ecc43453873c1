# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The load generator against a service that stalls, locks, breaks and forgets."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.errors import DeliveryError
from ansible_collections.immutable.delivery.plugins.module_utils.traffic import readback
from ansible_collections.immutable.delivery.plugins.module_utils.traffic.load import Identity, Load
from ansible_collections.immutable.delivery.plugins.module_utils.traffic.readback import (
    ReadBack,
    Written,
    read_back,
)
from ansible_collections.immutable.delivery.plugins.module_utils.traffic.settings import (
    Settings,
    Writes,
)
from ansible_collections.immutable.delivery.tests.support.certificates import Authority

from ..loopback import refusing
from .service import Service, running_service

USERS = Writes(
    path="/users",
    body={"firstName": "Probe", "lastName": "{n}", "email": "probe-{run}-{n}@example.org"},
)


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as service:
        yield service


def offer(
    settings: Settings, limit: int = 500
) -> tuple[dict[str, Any], list[tuple[int, Identity]], str]:
    """Run the load to its end; return its report, the acknowledged writes and why it ended."""
    acknowledged: list[tuple[int, Identity]] = []

    async def play() -> tuple[dict[str, Any], str]:
        load = Load(settings, "r1", lambda *write: acknowledged.append(write), limit)
        ended = await load.run()
        return load.report(), ended

    report, ended = asyncio.run(play())
    return report, acknowledged, ended


def at(service: Service, **options: Any) -> Settings:
    """A hundred requests, unless *options* say otherwise."""
    values = {"url": service.url, "rate": 500.0, "writes": USERS, "max_seconds": 0.2, **options}
    settings = Settings(**values)
    settings.check()
    return settings


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reading back try again at once."""
    monkeypatch.setattr(readback, "ROUND_WAIT", 0.01)


def found_again(settings: Settings, acknowledged: list[tuple[int, Identity]]) -> ReadBack:
    written = [Written(*write) for write in acknowledged]
    return asyncio.run(read_back(settings, "r1", written, 30))


def test_half_of_the_requests_are_posts_and_each_is_sent_once(service: Service) -> None:
    settings = at(service, reads=("/health", "/users/none"), host_header="portal.example.org")
    report, acknowledged, ended = offer(settings)
    assert ended == "expired"
    assert report["sent"] == 100
    assert report["in_flight"] == 0
    assert service.counts == {"GET /health": 25, "GET /users/none": 25, "POST /users": 50}
    assert report["failures"] == {"status_4xx": 25}
    assert len({user["email"] for user in service.users.values()}) == 50
    assert service.users["u1"]["firstName"] == "Probe"
    assert [number for number, _identity in sorted(acknowledged)] == list(range(50))
    assert {request.headers["host"] for request in service.requests} == {"portal.example.org"}
    assert report["writes"]["acknowledged"] == 50


def test_connections_are_kept_alive_and_used_in_turn(service: Service) -> None:
    offer(at(service, connections=3))
    used = Counter(request.connection for request in service.requests)
    # More may have been opened where all were busy on a slow machine, and each used less often.
    assert len(used) >= 3
    assert max(used.values()) > 1


def test_load_goes_on_while_nothing_is_answered(service: Service) -> None:
    service.flowing.clear()
    release = threading.Timer(0.6, service.flowing.set)
    release.start()
    report, _acknowledged, _ended = offer(at(service, rate=50.0, max_seconds=1.0))
    release.join()
    assert report["sent"] == 50
    assert report["failed"] == 0
    # The first was due 0.6 s before the service answered anything, and it counts from there; a
    # client that waits for each answer would have sent one such request, not some thirty.
    assert report["max_ms"] >= 550
    assert report["p50_ms"] >= 50
    assert report["longest_gap_seconds"] >= 0.55
    assert service.connections >= 25


def test_what_is_not_answered_in_time_counts_as_failed(service: Service) -> None:
    service.flowing.clear()
    report, acknowledged, _ended = offer(at(service, timeout=0.3, rate=50.0, max_seconds=0.4))
    assert report["sent"] == 20
    assert report["failures"] == {"timeout": 20}
    assert report["writes"]["unknown"] == 10
    assert report["answered"] == 0
    assert acknowledged == []


def test_beyond_the_limit_a_request_fails_and_is_not_held_back(service: Service) -> None:
    service.flowing.clear()
    settings = at(service, timeout=1.0, rate=50.0, max_seconds=0.4)
    report, _acknowledged, _ended = offer(settings, limit=5)
    assert report["sent"] == 20
    assert report["failures"] == {"overload": 15, "timeout": 5}
    assert report["writes"]["failed"] + report["writes"]["unknown"] == 10


def test_a_refused_write_is_no_failure_and_makes_the_read_only_window(service: Service) -> None:
    def lock(_request: object) -> None:
        service.locked = 20 <= len(service.requests) < 60

    service.on_request = lock
    report, acknowledged, _ended = offer(at(service, rate=100.0, max_seconds=1.0))
    assert report["failed"] == 0
    assert report["refused"] == report["writes"]["refused"]
    assert 15 <= report["refused"] <= 25
    assert report["refused"] + len(acknowledged) == 50
    assert len(report["read_only_windows"]) == 1
    assert report["read_only_windows"][0]["ended"]
    assert report["read_only_seconds"] > 0.2
    assert report["longest_write_gap_seconds"] >= report["read_only_seconds"]
    assert report["longest_gap_seconds"] < report["read_only_seconds"]


def test_a_post_whose_connection_breaks_is_unknown_and_never_repeated(service: Service) -> None:
    service.breaking = 7
    report, acknowledged, _ended = offer(at(service))
    assert report["failures"] == {"reset": 7}
    assert report["writes"] == {"acknowledged": 43, "refused": 0, "failed": 0, "unknown": 7}
    assert len(acknowledged) == 43
    bodies = [json.loads(request.body) for request in service.requests if request.body]
    assert len(bodies) == 50
    assert len({body["email"] for body in bodies}) == 50


def test_a_read_whose_kept_connection_breaks_is_not_repeated_either(service: Service) -> None:
    offer(at(service, rate=100.0))
    before = len(service.requests)
    service.raw = b""
    report, _acknowledged, _ended = offer(at(service, rate=100.0))
    assert report["failures"] == {"reset": 20}
    assert len(service.requests) - before == 20


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "reset"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "reset"),
        (b"HTTP/1.1 20", "reset"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "malformed"),
        (b"HTTP/1.1 502 Bad\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "status_5xx"),
        (
            b"HTTP/1.1 301 Moved\r\nConnection: close\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
            "status_3xx",
        ),
    ],
)
def test_kinds_of_failure(service: Service, raw: bytes, kind: str) -> None:
    service.raw = raw
    report, acknowledged, _ended = offer(at(service, max_seconds=0.02))
    assert report["failures"] == {kind: 10}
    assert acknowledged == []
    assert report["samples_of_failures"][0]["kind"] == kind


def test_a_write_without_an_identity_is_not_taken_for_done(service: Service) -> None:
    service.raw = b"HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    report, acknowledged, _ended = offer(at(service, max_seconds=0.02))
    assert report["failures"] == {"wrong_body": 5}
    assert report["writes"]["unknown"] == 5
    assert acknowledged == []


def test_nobody_listens() -> None:
    with refusing() as url:
        report, _acknowledged, _ended = offer(Settings(url, rate=100.0, max_seconds=0.2))
    assert report["failures"] == {"connect": 20}
    assert report["longest_gap_seconds"] > 0
    assert report["longest_gap_seconds"] == pytest.approx(report["seconds"], abs=0.15)


def test_without_writes_it_only_reads(service: Service) -> None:
    report, acknowledged, _ended = offer(at(service, writes=None, reads=("/health", "/sink")))
    assert report["failed"] == 0
    assert service.counts == {"GET /health": 50, "GET /sink": 50}
    assert report["writes"] == {"acknowledged": 0, "refused": 0, "failed": 0, "unknown": 0}
    assert acknowledged == []


def test_the_version_that_answered(service: Service) -> None:
    def switch(_request: object) -> None:
        service.version = "v1" if len(service.requests) <= 50 else "v2"

    service.on_request = switch
    report, _acknowledged, _ended = offer(at(service))
    first, second = report["versions"]
    assert (first["version"], second["version"]) == ("v1", "v2")
    assert first["answers"] + second["answers"] == 100
    assert first["first"] <= first["last"]
    assert first["first"] < second["first"] <= second["last"]


def test_every_acknowledged_write_is_found_again_or_called_lost(service: Service) -> None:
    settings = at(service)
    _report, acknowledged, _ended = offer(settings)
    assert found_again(settings, acknowledged) == ReadBack(checked=50)
    del service.users["u7"]
    service.users["u9"]["email"] = "other@example.org"
    service.users["u11"]["added"] = "by the service"
    found = found_again(settings, acknowledged)
    assert found.checked == 50
    assert sorted(map(str, found.lost)) == ["u7", "u9"]
    assert found.unchecked == 0


@pytest.mark.usefixtures("soon")
def test_what_cannot_be_read_back_is_neither_fine_nor_lost(service: Service) -> None:
    settings = at(service)
    _report, acknowledged, _ended = offer(settings)
    service.status = 503
    assert found_again(settings, acknowledged) == ReadBack(unchecked=50)


@pytest.mark.usefixtures("soon")
def test_reading_back_is_tried_again(service: Service) -> None:
    settings = at(service)
    _report, acknowledged, _ended = offer(settings)
    begun = len(service.requests)

    def recover(_request: object) -> None:
        service.status = 503 if len(service.requests) <= begun + 50 else None

    service.on_request = recover
    assert found_again(settings, acknowledged) == ReadBack(checked=50)


def test_over_tls_the_certificate_is_checked_against_the_host_asked_for(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with running_service(authority.context("portal.example.org")) as service:
        base = {"ca_path": str(authority.path), "max_seconds": 0.04}
        report, _acknowledged, _ended = offer(at(service, host_header="portal.example.org", **base))
        assert report["failures"] == {}
        assert report["answered"] == 20
        report, _acknowledged, _ended = offer(at(service, host_header="other.example.org", **base))
        assert report["failures"] == {"tls": 20}
        report, _acknowledged, _ended = offer(at(service, max_seconds=0.04))
        assert report["failures"] == {"tls": 20}
        report, _acknowledged, _ended = offer(at(service, validate_certs=False, max_seconds=0.04))
        assert report["failures"] == {}


def test_a_ca_path_that_is_none(tmp_path: Path) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("nothing of the kind")
    for path in (broken, tmp_path / "missing"):
        with pytest.raises(DeliveryError, match="cannot be used"):
            Load(Settings("https://127.0.0.1:1", ca_path=str(path)), "r", lambda *_write: None)


def test_stopping_waits_for_what_is_under_way(service: Service) -> None:
    service.flowing.clear()

    async def play() -> dict[str, Any]:
        load = Load(at(service, max_seconds=60.0), "r1", lambda *_write: None)
        work = asyncio.create_task(load.run())
        await asyncio.to_thread(service.wait_for_requests, 5)
        load.stop()
        await asyncio.sleep(0)
        assert not work.done()
        service.flowing.set()
        assert await work == "stopped"
        return load.report()

    report = asyncio.run(play())
    assert report["failed"] == 0
    assert report["answered"] == report["sent"] == len(service.requests)


def test_a_write_that_cannot_be_remembered_ends_the_run(service: Service) -> None:
    def full(_number: int, _identity: Identity) -> None:
        raise OSError(28, "No space left on device")

    async def play() -> None:
        await Load(at(service, max_seconds=60.0), "r1", full).run()

    with pytest.raises(OSError, match="No space left"):
        asyncio.run(play())
