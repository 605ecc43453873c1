# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A promotion behind a load balancer: alb_switch beside amazon.aws.elb_application_lb.

Both make the same change to listeners that are alike, each in a process of its own, against moto's
server over HTTP. elb_application_lb is given the whole listener, as it wants it: every rule of it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# The parts that are shared with the tests import the collection by its full name.
sys.path.append(str(Path(__file__).resolve().parents[1] / ".build" / "collections"))

from benchmarks import harness
from tests.support.moto_server import REGION, Moto, Stage, moto_server, stage

ROOT = Path(__file__).resolve().parents[1]
OURS = "immutable.delivery.alb_switch"
THEIRS = "amazon.aws.elb_application_lb"
PROMOTED = ("v2", "404", "v2")
RULES = (5, 50, 100)
MOST_CALLS = 6.0


def run_module(moto: Moto, folder: Path, name: str, options: dict[str, Any]) -> float:
    """Run a module in a process of its own; returns its seconds."""
    collection, _dot, module = name.rpartition(".")
    connection = {
        "endpoint_url": moto.url,
        "region": REGION,
        "access_key": "test",
        "secret_key": "test",
    }
    file = folder / "options.json"
    file.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": {**connection, **options}}))
    python_path = str(ROOT / ".build" / "collections")
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", f"ansible_collections.{collection}.plugins.modules.{module}", file],
        env={**os.environ, "PYTHONPATH": python_path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    seconds = time.monotonic() - started
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stdout} {done.stderr}")
    return seconds


def staged(moto: Moto, folder: Path, rules: int) -> Stage:
    """Make a listener with that many rules, two of them ours, and v2 as the candidate."""
    at = stage(moto, foreign=range(10, 10 + rules - 2))
    options = {
        "listener_arn": at.listener,
        "target_group": at.groups["v2"],
        "state": "staged",
    }
    run_module(moto, folder, OURS, options)
    moto.reset_calls()
    return at


def whole_listener(at: Stage) -> dict[str, Any]:
    """Describe the load balancer as elb_application_lb is to make it, for the same promotion."""
    elb = at.moto.client("elbv2")
    balancer = elb.describe_load_balancers(Names=[at.name])["LoadBalancers"][0]
    forward = {"Type": "forward", "TargetGroupArn": at.groups["v2"]}
    missing = {
        "Type": "fixed-response",
        "FixedResponseConfig": {"StatusCode": "404", "ContentType": "text/plain"},
    }
    rules = []
    for page in elb.get_paginator("describe_rules").paginate(ListenerArn=at.listener):
        for rule in page["Rules"]:
            if rule["IsDefault"]:
                continue
            header = rule["Conditions"][0].get("HttpHeaderConfig")
            mode = header["Values"][0] if header else ""
            actions = {"blue": [forward], "green": [missing]}.get(mode, rule["Actions"])
            rules.append(
                {
                    "Priority": rule["Priority"],
                    "Conditions": rule["Conditions"],
                    "Actions": actions,
                }
            )
    return {
        "name": at.name,
        "subnets": [zone["SubnetId"] for zone in balancer["AvailabilityZones"]],
        "security_groups": balancer.get("SecurityGroups") or [],
        "listeners": [
            {"Protocol": "HTTP", "Port": 80, "DefaultActions": [forward], "Rules": rules}
        ],
    }


def promote(moto: Moto, folder: Path, rules: int, name: str) -> tuple[float, int]:
    """Promote v2 of a new listener with the module *name*; returns its seconds and calls."""
    at = staged(moto, folder, rules)
    if name == OURS:
        options: dict[str, Any] = {"listener_arn": at.listener, "state": "promoted"}
    else:
        options = whole_listener(at)
    seconds = run_module(moto, folder, name, options)
    if at.routes() != PROMOTED:
        raise RuntimeError(f"{name} left the listener at {at.routes()}")
    return seconds, len(moto.calls)


def run(quick: bool) -> harness.Table:
    """Promote with both in turn, and compare the medians."""
    rounds = 1 if quick else 3
    table = harness.Table(f"Promotion behind a load balancer, median of {rounds}")
    with tempfile.TemporaryDirectory() as name, moto_server() as moto:
        folder = Path(name)
        # elb_application_lb reads one page of rules, and fails where moto's page does not hold all.
        moto.rules_a_page = 2 * max(RULES)
        for rules in (5,) if quick else RULES:
            seconds: dict[str, list[float]] = {OURS: [], THEIRS: []}
            calls: dict[str, int] = {}
            for _round in range(rounds):
                for module, taken in seconds.items():
                    spent, calls[module] = promote(moto, folder, rules, module)
                    taken.append(spent)
            table.rows.append(
                harness.Row(
                    f"API calls, {rules} rules",
                    "calls",
                    harness.LOWER,
                    calls[OURS],
                    {THEIRS: calls[THEIRS]},
                    MOST_CALLS,
                )
            )
            table.rows.append(
                harness.Row(
                    f"seconds, {rules} rules",
                    "s",
                    harness.LOWER,
                    statistics.median(seconds[OURS]),
                    {THEIRS: statistics.median(seconds[THEIRS])},
                )
            )
    table.note = (
        "Against moto on loopback, where a call takes a few ms; seconds include Python's start. "
        "Ours also checks the targets' health."
    )
    return table


if __name__ == "__main__":
    sys.exit(harness.main(run("--quick" in sys.argv)))
