#!/usr/bin/python
# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: traffic_probe
short_description: Offer load while something is replaced, and say what was lost
version_added: 0.1.0
description:
  - Starts a process in the background that sends requests at a steady rate, and counts what
    becomes of each. Ends it again, and reports.
  - All requests are GET, unless O(writes) asks for writes. Then half of them are POST.
  - The load is open-loop. Each request is sent when it is due, whatever became of those before it,
    and response times count from when it was due. A server that stalls is offered no less, and
    what it does to the requests that come meanwhile is seen.
  - No request is ever repeated. What breaks once is a failure.
  - Every acknowledged write is remembered on disk at once, and read back when the probe is stopped.
  - The process ends by itself after O(max_seconds).
author:
  - immutable.delivery contributors (@immutable-delivery)
requirements:
  - python >= 3.11
  - Linux
notes:
  - It needs no Python library beyond the standard one.
  - At most 2000 requests are under way at once, or fewer where the limit of open files is lower.
    One more is not sent and counts as failed, kind C(overload).
extends_documentation_fragment:
  - immutable.delivery.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  dir:
    description:
      - The folder in which the probe keeps its record, its numbers and its log. It is made, mode
        0700, where it is missing. Each probe needs its own.
    type: path
    required: true
  state:
    description:
      - V(started) starts a probe. One that runs already is left alone if it has the same options,
        and otherwise the task fails.
      - V(stopped) ends it once the requests under way are answered, and reports.
      - V(reported) reports and lets it run.
      - A probe that was started by something else is never touched, even if it got the process id
        of one that has ended.
    type: str
    choices: [started, stopped, reported]
    default: started
  url:
    description:
      - The address below which all paths are. Required if O(state=started).
    type: str
  host_header:
    description:
      - The host name to ask for, where O(url) has another one. Over TLS it is also the name that
        the certificate must be made for.
    type: str
  rate:
    description:
      - Requests a second. With O(writes), half of them are POST.
    type: float
    default: 10
  reads:
    description:
      - The paths to GET, in turn. Only answers with a status from 200 to 299 are good.
    type: list
    elements: str
    default: [/health]
  writes:
    description:
      - What to write with POST. Without it, the probe sends GET only and writes nothing.
    type: dict
    suboptions:
      path:
        description:
          - Where to POST.
        type: str
        required: true
      body:
        description:
          - The JSON body. In its text values, at any depth, C({n}) is replaced by the write's
            number and C({run}) by a text that no other run has.
        type: dict
        required: true
      id_field:
        description:
          - The field of the answer that identifies what was written.
        type: str
        default: id
      read_path:
        description:
          - Where a write is read back. C({id}) stands for what O(writes.id_field) said.
        type: str
        default: /users/{id}
      refused_status:
        description:
          - The statuses by which a service that is read-only refuses a write. They are counted,
            but not as failures.
        type: list
        elements: int
        default: [423]
      compare_fields:
        description:
          - The fields of O(writes.body) that must read back as they were sent; all where none is
            given.
        type: list
        elements: str
        default: []
  version_header:
    description:
      - The response header that tells which version answered.
    type: str
    default: X-Portal-Version
  connections:
    description:
      - So many connections are kept alive and used in turn. More are opened while all are busy.
    type: int
    default: 8
  max_seconds:
    description:
      - The probe ends by itself after so many seconds.
    type: float
    default: 900
  timeout:
    description:
      - The seconds that a request may take from when it was due.
    type: float
    default: 10
  check_first:
    description:
      - Whether to ask for each of O(reads) once and not to start where one is not answered well.
    type: bool
    default: true
  validate_certs:
    description:
      - Whether to check the TLS certificate.
    type: bool
    default: true
  ca_path:
    description:
      - A file or folder of CA certificates to trust instead of the system's.
    type: path
  verify_writes:
    description:
      - Whether to read every acknowledged write back through O(url).
      - By default so with O(state=stopped), and with O(state=reported) if O(max_lost_writes) is
        given.
    type: bool
  verify_timeout:
    description:
      - The seconds that reading back may take. What has not been read by then is unchecked.
    type: float
    default: 60
  max_failed:
    description:
      - With O(state=stopped) or O(state=reported), fail if more requests failed.
      - Numbers that are not complete pass no gate. The task fails as well if the probe was killed,
        if it ended by itself before it was stopped, or if it has not sent a request.
    type: int
  max_lost_writes:
    description:
      - As O(max_failed), for acknowledged writes that are lost. One that could not be read back
        counts as lost here.
    type: int
"""

EXAMPLES = r"""
- name: Offer load through the router
  immutable.delivery.traffic_probe:
    state: started
    dir: /var/tmp/portal-probe
    url: http://127.0.0.1:8000/portal
    host_header: portal.example.org
    rate: 40
    reads:
      - /health
      - /apis
    writes:
      path: /users
      body:
        firstName: Probe
        lastName: "{n}"
        email: "probe-{run}-{n}@example.org"

- name: Switch
  immutable.delivery.proxy_register:
    router: registry
    api_url: http://127.0.0.1:8000
    service: portal
    url: http://127.0.0.1:3002

- name: See how it goes
  immutable.delivery.traffic_probe:
    state: reported
    dir: /var/tmp/portal-probe
  register: so_far

- name: Fail if a request or an acknowledged write was lost
  immutable.delivery.traffic_probe:
    state: stopped
    dir: /var/tmp/portal-probe
    max_failed: 0
    max_lost_writes: 0
"""

RETURN = r"""
dir:
  description: The probe's folder.
  returned: always
  type: str
running:
  description: Whether the probe runs now.
  returned: success
  type: bool
pid:
  description: The process id of the probe that was started last.
  returned: when one was started in O(dir)
  type: int
report:
  description: What was lost, and when. All times are ISO 8601 in UTC.
  returned: >-
    with O(state=stopped) and O(state=reported), where a probe was started in O(dir); also where
    the task fails because of O(max_failed) or O(max_lost_writes)
  type: dict
  contains:
    ended:
      description:
        - V(running), V(stopped), V(expired) after O(max_seconds), V(killed) where the process ended
          without writing its last numbers, or V(error) where it broke off.
      type: str
      returned: always
    ended_because:
      description: The same in words.
      type: str
      returned: always
    started:
      description: When the first request was due.
      type: str
      returned: always
    as_of:
      description: When these numbers were written.
      type: str
      returned: always
    seconds:
      description: For how long load was offered.
      type: float
      returned: always
    rate_offered:
      description: Requests a second that were offered in fact.
      type: float
      returned: always
    sent:
      description: Requests that were due.
      type: int
      returned: always
    answered:
      description: Those that were answered well, writes refused while read-only included.
      type: int
      returned: always
    in_flight:
      description: Those under way.
      type: int
      returned: always
    in_flight_limit:
      description: How many may be under way.
      type: int
      returned: always
    failed:
      description: Those that failed.
      type: int
      returned: always
    failures:
      description:
        - How many failed in which way. C(connect) no connection, C(tls) no trust, C(reset) the
          connection broke after the request was sent, C(timeout), C(status_4xx) and the like,
          C(wrong_body) a write was acknowledged without an identity, C(malformed) not HTTP,
          C(overload) not sent because too many were under way.
      type: dict
      returned: always
    refused:
      description: Writes that were refused because the service was read-only.
      type: int
      returned: always
    longest_gap_seconds:
      description: The longest time without any good answer.
      type: float
      returned: always
    longest_gap_at:
      description: When that began.
      type: str
      returned: always
    longest_write_gap_seconds:
      description: The longest time without an acknowledged write.
      type: float
      returned: always
    read_only_seconds:
      description: The longest time from a refused write to the next acknowledged one.
      type: float
      returned: always
    read_only_windows:
      description: Each such time, with when it began, and how many writes were refused in it.
      type: list
      elements: dict
      returned: always
    p50_ms:
      description: The median response time of good answers, in ms, from when they were due.
      type: float
      returned: always
    p99_ms:
      description: The response time that 99 of 100 good answers had at most.
      type: float
      returned: always
    max_ms:
      description: The longest response time of a good answer.
      type: float
      returned: always
    probe_lag_ms:
      description:
        - How late the probe itself sent a request at worst. Where this is large, the machine was
          busy, and the response times include it.
      type: float
      returned: always
    writes:
      description:
        - How many writes were acknowledged, refused, failed, or are unknown (no answer, so that
          they may or may not have been done). Of the acknowledged ones, how many were checked,
          are lost, or are unchecked; lost_ids has the first 20 identities of the lost ones.
      type: dict
      returned: always
    versions:
      description: Each version that answered, in order, with first, last and answers.
      type: list
      elements: dict
      returned: always
    samples_of_failures:
      description: The first ten failures, with time, method, path and kind.
      type: list
      elements: dict
      returned: always
steps:
  description: Each step, with its name (C(step)) and how long it took (C(seconds)).
  returned: success
  type: list
  elements: dict
"""

from typing import Any

from ..module_utils.change import run
from ..module_utils.delivery_module import DeliveryModule
from ..module_utils.errors import BadOption, DeliveryError
from ..module_utils.traffic.control import Observed, ProbeChange, make_report
from ..module_utils.traffic.folder import Folder
from ..module_utils.traffic.report import verdict
from ..module_utils.traffic.settings import Settings, Writes
from ..module_utils.wiring import fail

WRITES_SPEC: dict[str, Any] = {
    "path": {"type": "str", "required": True},
    "body": {"type": "dict", "required": True},
    "id_field": {"type": "str", "default": "id"},
    "read_path": {"type": "str", "default": "/users/{id}"},
    "refused_status": {"type": "list", "elements": "int", "default": [423]},
    "compare_fields": {"type": "list", "elements": "str", "default": []},
}


def settings_of(params: dict[str, Any]) -> Settings:
    """Return what the options ask for. :raises DeliveryError: they cannot be used."""
    given = params["writes"]
    writes = None
    if given is not None:
        writes = Writes(
            path=given["path"],
            body=given["body"],
            id_field=given["id_field"],
            read_path=given["read_path"],
            refused_status=tuple(given["refused_status"]),
            compare_fields=tuple(given["compare_fields"]),
        )
    settings = Settings(
        url=(params["url"] or "").rstrip("/"),
        rate=params["rate"],
        host_header=params["host_header"] or None,
        reads=tuple(params["reads"]),
        writes=writes,
        version_header=params["version_header"],
        max_seconds=params["max_seconds"],
        timeout=params["timeout"],
        connections=params["connections"],
        validate_certs=params["validate_certs"],
        ca_path=params["ca_path"] or None,
    )
    settings.check()
    return settings


def check_gates(params: dict[str, Any]) -> None:
    """:raises DeliveryError: a gate is given that nothing could be held against."""
    gates = [name for name in ("max_failed", "max_lost_writes") if params[name] is not None]
    if any(params[name] < 0 for name in gates):
        raise BadOption("max_failed and max_lost_writes cannot be negative")
    if gates and params["state"] == "started":
        raise BadOption(
            f"{gates[0]} says nothing about a probe that is being started",
            next_step="Give it where the probe is stopped or reported.",
        )
    if params["max_lost_writes"] is not None and params["verify_writes"] is False:
        raise BadOption(
            "max_lost_writes needs the writes to be read back",
            next_step="Leave verify_writes out, or set it to true.",
        )


def report_of(
    params: dict[str, Any], folder: Folder, observed: Observed, check_mode: bool
) -> dict[str, Any] | None:
    """Return the report, where there is one to be made."""
    if params["state"] == "started":
        return None
    verify = params["verify_writes"]
    if verify is None:
        verify = params["state"] == "stopped" or params["max_lost_writes"] is not None
    if check_mode and observed.running and params["state"] == "stopped":
        # Writes go on being acknowledged: what would be read back is not known yet.
        verify = False
    report = make_report(folder, observed, verify, params["verify_timeout"])
    gated = params["max_failed"] is not None or params["max_lost_writes"] is not None
    if report is None and not check_mode and (gated or params["state"] == "reported"):
        raise DeliveryError(
            f"no traffic probe was started in {folder.path}",
            next_step="Start it first, with the same dir.",
        )
    return report


def main() -> None:
    """Run the module."""
    module = DeliveryModule(
        argument_spec={
            "dir": {"type": "path", "required": True},
            "state": {
                "type": "str",
                "choices": ["started", "stopped", "reported"],
                "default": "started",
            },
            "url": {"type": "str"},
            "host_header": {"type": "str"},
            "rate": {"type": "float", "default": 10.0},
            "reads": {"type": "list", "elements": "str", "default": ["/health"]},
            "writes": {"type": "dict", "options": WRITES_SPEC},
            "version_header": {"type": "str", "default": "X-Portal-Version"},
            "connections": {"type": "int", "default": 8},
            "max_seconds": {"type": "float", "default": 900.0},
            "timeout": {"type": "float", "default": 10.0},
            "check_first": {"type": "bool", "default": True},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
            "verify_writes": {"type": "bool"},
            "verify_timeout": {"type": "float", "default": 60.0},
            "max_failed": {"type": "int"},
            "max_lost_writes": {"type": "int"},
        },
        required_if=[("state", "started", ["url"])],
        supports_check_mode=True,
    )
    params = module.params
    folder = Folder(params["dir"])
    values: dict[str, Any] = {"dir": str(folder.path)}
    try:
        check_gates(params)
        settings = settings_of(params) if params["state"] == "started" else None
        change = ProbeChange(folder, params["state"], settings, params["check_first"])
        outcome = run(change, check_mode=module.check_mode)
        values.update(outcome.result())
        seen = outcome.after
        values["running"] = seen.running
        if seen.record is not None:
            values["pid"] = seen.record.process.pid
        report = report_of(params, folder, seen, module.check_mode)
        if report is not None:
            values["report"] = report
            objection = verdict(report, params["max_failed"], params["max_lost_writes"])
            if objection is not None and not module.check_mode:
                raise DeliveryError(
                    objection,
                    state="The probe still runs." if seen.running else "The probe has ended.",
                    next_step=f"The report has the details; the probe's files are in {folder.path}",
                )
    except Exception as error:
        fail(module, error, **values)
    module.exit_json(**values)


if __name__ == "__main__":
    main()
