# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module traffic_probe, against a service on loopback.

Through ansible-playbook where that matters: in what a play does with it, in check mode, and where
the play has to end beside the probe. The rest is the module's own, which is run as a process.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.traffic.control import (
    end,
    observe,
)
from ansible_collections.immutable.delivery.plugins.module_utils.traffic.folder import Folder
from tests.support.modules import call_task
from tests.support.plays import TaskResult, run_play
from tests.support.waiting import eventually
from tests.unit.plugins.module_utils.traffic.service import Service, running_service

USERS = {
    "path": "/users",
    "body": {"firstName": "Probe", "lastName": "{n}", "email": "probe-{run}-{n}@example.org"},
}


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as service:
        yield service


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A probe's folder; what still runs there at the end is ended."""
    folder = tmp_path / "lab" / "probe"
    yield folder
    end(observe(Folder(str(folder))))


def probe(folder: Path, **options: Any) -> dict[str, Any]:
    """A task."""
    name = f"{options['state']} the probe"
    return {"name": name, "immutable.delivery.traffic_probe": {"dir": str(folder), **options}}


def started(folder: Path, service: Service, **options: Any) -> dict[str, Any]:
    wanted = {"url": service.url, "rate": 60, "writes": USERS, "max_seconds": 120, **options}
    return probe(folder, state="started", **wanted)


def run(*tasks: dict[str, Any], check: bool = False) -> list[TaskResult]:
    return run_play(list(tasks), check=check).results


def one(task: dict[str, Any], check: bool = False) -> TaskResult:
    (result,) = run(task, check=check)
    return result


def calls(*tasks: dict[str, Any]) -> list[TaskResult]:
    """Run the module once for each of them, one after the other."""
    return [call_task(task) for task in tasks]


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def test_start_report_stop(service: Service, folder: Path) -> None:
    first, again, other = run(
        started(folder, service),
        started(folder, service),
        {**started(folder, service, rate=61), "ignore_errors": True},
    )
    assert first.changed
    assert first["running"] is True
    assert not again.changed
    assert again["pid"] == first["pid"]
    assert other.failed
    assert "other options (rate) already runs" in other.msg
    # The load is offered while no task runs.
    service.wait_for_requests(60)
    (so_far,) = run(probe(folder, state="reported", max_failed=0, max_lost_writes=0))
    assert not so_far.changed
    assert so_far["report"]["ended"] == "running"
    assert so_far["report"]["sent"] >= 59
    assert so_far["report"]["writes"]["checked"] > 20
    stopped, again = run(
        probe(folder, state="stopped", max_failed=0, max_lost_writes=0),
        probe(folder, state="stopped"),
    )
    assert stopped.changed
    assert not again.changed
    report = stopped["report"]
    assert report == again["report"]
    assert gone(first["pid"])
    assert report["ended"] == "stopped"
    assert report["failed"] == 0
    assert report["sent"] == report["answered"]
    assert report["writes"]["acknowledged"] == len(service.users)
    assert report["writes"]["checked"] == len(service.users)
    assert report["writes"]["lost"] == report["writes"]["unchecked"] == 0
    assert [entry["version"] for entry in report["versions"]] == ["v1"]
    assert service.counts["POST /users"] == len(service.users)
    assert (folder / "probe.log").read_text() == ""


def test_a_lost_write_fails_the_task_which_still_reports(service: Service, folder: Path) -> None:
    call_task(started(folder, service))
    service.wait_for_requests(40)
    call_task(probe(folder, state="stopped", verify_writes=False))
    service.users.pop("u3")
    passed, failed = calls(
        probe(folder, state="stopped", max_failed=0, max_lost_writes=1),
        probe(folder, state="stopped", max_lost_writes=0),
    )
    assert not passed.failed
    assert passed["report"]["writes"]["lost_ids"] == ["u3"]
    assert failed.failed
    assert "1 of" in failed.msg
    assert "acknowledged writes are lost" in failed.msg
    assert failed["report"]["writes"]["lost"] == 1


def test_too_many_failures_fail_the_task(service: Service, folder: Path) -> None:
    call_task(started(folder, service))
    service.breaking = 2
    service.wait_for_requests(40)
    passed, failed = calls(
        probe(folder, state="reported", max_failed=2),
        probe(folder, state="stopped", max_failed=1),
    )
    assert not passed.failed
    assert failed.failed
    assert "requests failed (2 reset), and at most 1 may" in failed.msg
    assert failed.changed
    assert failed["report"]["writes"]["unknown"] == 2
    assert failed["running"] is False


def test_a_read_only_service_refuses_writes_and_nothing_has_failed(
    service: Service, folder: Path
) -> None:
    call_task(started(folder, service))
    service.wait_for_requests(20)
    service.locked = True
    service.wait_for_requests(len(service.requests) + 40)
    service.locked = False
    service.wait_for_requests(len(service.requests) + 20)
    stopped = call_task(probe(folder, state="stopped", max_failed=0, max_lost_writes=0))
    report = stopped["report"]
    assert report["refused"] >= 15
    assert report["read_only_seconds"] > 0.25
    assert len(report["read_only_windows"]) == 1


def test_a_probe_that_is_killed_is_said_to_be_and_its_writes_are_known(
    service: Service, folder: Path
) -> None:
    pid = call_task(started(folder, service))["pid"]
    service.wait_for_requests(60)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: gone(pid), "its process ends")
    there = len(service.users)
    plain, gated, again = calls(
        probe(folder, state="stopped"),
        probe(folder, state="stopped", max_failed=1000),
        started(folder, service),
    )
    assert not plain.changed
    report = plain["report"]
    assert report["ended"] == "killed"
    # Every write but those whose answer was on its way is remembered.
    assert there - 5 <= report["writes"]["checked"] <= there
    assert report["writes"]["acknowledged"] == report["writes"]["checked"]
    assert report["writes"]["lost"] == 0
    assert gated.failed
    assert "incomplete: its process ended after" in gated.msg
    assert again.changed
    assert again["pid"] != pid


def test_a_probe_that_was_started_by_something_else_is_left_alone(
    service: Service, folder: Path
) -> None:
    pid = call_task(started(folder, service))["pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: gone(pid), "its process ends")
    record = json.loads((folder / "probe.json").read_text())
    # As if our own pid had been the probe's, and had been given to us after it had ended.
    record["process"]["pid"] = os.getpid()
    (folder / "probe.json").write_text(json.dumps(record))
    stopped, again = calls(probe(folder, state="stopped"), started(folder, service))
    assert not stopped.changed
    assert stopped["running"] is False
    assert stopped["report"]["ended"] == "killed"
    assert again.changed


def test_a_probe_that_ends_by_itself_vouches_for_nothing_later(
    service: Service, folder: Path
) -> None:
    pid = call_task(started(folder, service, max_seconds=0.5))["pid"]
    eventually(lambda: gone(pid), "its process ends")
    plain, gated = calls(
        probe(folder, state="stopped"), probe(folder, state="stopped", max_failed=0)
    )
    assert plain["report"]["ended"] == "expired"
    assert plain["report"]["sent"] == 30
    assert gated.failed
    assert "ended by itself after max_seconds (0.5 s)" in gated.msg


def test_a_probe_that_was_not_asked_to_write_only_reads(service: Service, folder: Path) -> None:
    call_task(started(folder, service, writes=None))
    service.wait_for_requests(60)
    stopped = call_task(probe(folder, state="stopped", max_failed=0, max_lost_writes=0))
    assert not stopped.failed, stopped.msg
    assert {request.method for request in service.requests} == {"GET"}
    assert stopped["report"]["writes"]["acknowledged"] == 0


def test_nothing_was_started(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    stopped, reported = calls(
        probe(nowhere, state="stopped", verify_writes=False), probe(nowhere, state="reported")
    )
    assert not stopped.failed
    assert not stopped.changed
    assert stopped["running"] is False
    assert "report" not in stopped.data
    assert reported.failed
    assert "no traffic probe was started" in reported.msg
    gated = call_task(probe(nowhere, state="stopped", max_failed=0))
    assert gated.failed
    assert not nowhere.exists()


def test_check_mode_starts_and_ends_nothing(service: Service, folder: Path) -> None:
    begin, report, over = run(
        started(folder, service),
        probe(folder, state="reported", max_failed=0),
        probe(folder, state="stopped", max_failed=0),
        check=True,
    )
    assert begin.changed
    assert not report.failed
    assert not over.changed
    assert not folder.exists()
    assert not service.requests
    call_task(started(folder, service))
    over = one(probe(folder, state="stopped", max_failed=0, max_lost_writes=0), check=True)
    assert over.changed
    assert over["running"] is True
    assert call_task(probe(folder, state="reported"))["running"] is True


def test_what_cannot_be_started_leaves_nothing(service: Service, folder: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"url": "nonsense"}, "url 'nonsense' is not an http or https address"),
        ({"url": None}, "url"),
        ({"reads": ["/missing"]}, "does not answer as it should before any load: status 404"),
        ({"max_failed": 0}, "being started"),
        ({"rate": 0}, "rate"),
        ({"writes": {**USERS, "body": {"a": "same"}}}, "{n}"),
    ]
    tasks = [started(folder, service, **options) for options, _words in wrong]
    for (options, words), result in zip(wrong, calls(*tasks), strict=True):
        assert result.failed, options
        assert words in result.msg
    assert not folder.exists()


def test_what_goes_wrong_in_the_background_is_said_by_the_task(
    service: Service, folder: Path
) -> None:
    options = {"url": "https://127.0.0.1:1", "ca_path": "/nowhere.pem", "check_first": False}
    failed, stopped = calls(
        started(folder, service, **options),
        probe(folder, state="stopped"),
    )
    assert failed.failed
    assert "did not start: ca_path /nowhere.pem cannot be used" in failed.msg
    assert stopped["running"] is False


def test_a_service_that_is_down_can_be_probed_when_asked_for(
    service: Service, folder: Path
) -> None:
    service.status = 503
    refused, begun = calls(
        started(folder, service),
        started(folder, service, check_first=False),
    )
    assert refused.failed
    assert "No probe was started" in refused.msg
    assert begun.changed
    service.wait_for_requests(20)
    report = call_task(probe(folder, state="reported"))["report"]
    assert report["failures"].keys() == {"status_5xx"}
    assert report["answered"] == 0


def test_the_module_does_not_wait_for_the_probe_it_started(service: Service, folder: Path) -> None:
    # Ansible reads a task's output to its end: a process that kept it open would hang the play.
    pid = one(started(folder, service))["pid"]
    process = Path(f"/proc/{pid}")
    assert process.joinpath("cwd").readlink() == Path("/")
    outputs = {process.joinpath("fd", name).readlink() for name in "12"}
    assert outputs == {folder / "probe.log"}
    links = [str(process.joinpath("fd", name).readlink()) for name in open_files(process)]
    assert not [link for link in links if link.startswith("pipe:")]
    assert str(folder / "lock") not in links


def open_files(process: Path) -> list[str]:
    """The numbers of the files that a process keeps open; connections come and go meanwhile."""
    return [
        entry.name
        for entry in (process / "fd").iterdir()
        if int(entry.name) < 10 and lasting(entry)
    ]


def lasting(entry: Path) -> bool:
    try:
        return not str(entry.readlink()).startswith("socket:")
    except FileNotFoundError:
        return False
