# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a repair makes of what the engine says, and the request for a container like another."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.engine.inspect import parse_time
from ansible_collections.immutable.delivery.plugins.module_utils.errors import BadOption
from ansible_collections.immutable.delivery.plugins.module_utils.service.heal_engine import (
    config_like,
    further_networks,
)
from ansible_collections.immutable.delivery.plugins.module_utils.service.heal_model import (
    SPARE,
    Condition,
    instance_of,
)
from ansible_collections.immutable.delivery.plugins.module_utils.service.heal_options import (
    OPTIONS,
    counts_of,
    router_of,
)
from ansible_collections.immutable.delivery.plugins.module_utils.service.model import (
    HELPS,
    INSTANCES,
    RELEASE,
    RESTART,
    ROUTE,
)

NOW = parse_time("2026-01-02T03:04:05Z")
EARLIER = "2026-01-02T03:00:00.123456789Z"


def attributes(status: str = "running", health: str = "", **more: Any) -> dict[str, Any]:
    """A container as the engine shows it."""
    return {
        "Id": "4f1d5b6a7c8d" * 5,
        "Name": "/demo-r-1",
        "Created": EARLIER,
        "State": {
            "Status": status,
            "StartedAt": EARLIER,
            "ExitCode": 137,
            **({"Health": {"Status": health}} if health else {}),
        },
        "Config": {
            "Image": "cd:5000/demo@sha256:1",
            "Hostname": "4f1d5b6a7c8d",
            "Env": ["SECRET=swordfish"],
            "Labels": {RELEASE: "r", INSTANCES: "2", ROUTE: "demo"},
        },
        "HostConfig": {
            "NetworkMode": "default",
            "PortBindings": {"8080/tcp": [{"HostIp": "", "HostPort": ""}]},
            "RestartPolicy": {"Name": "unless-stopped"},
        },
        "NetworkSettings": {
            "Ports": {"8080/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32770"}]},
            "Networks": {"bridge": {}, "shop": {}},
        },
        **more,
    }


@pytest.mark.parametrize(
    ("status", "health", "ill", "condition"),
    [
        ("running", "", None, Condition.WELL),
        ("running", "healthy", None, Condition.WELL),
        ("running", "starting", None, Condition.STARTING),
        # An answer counts before the engine's own check has a result, and cannot outdo its no.
        ("running", "starting", "", Condition.WELL),
        ("running", "starting", "status 503", Condition.STARTING),
        ("running", "unhealthy", "", Condition.ILL),
        ("running", "healthy", "status 503", Condition.ILL),
        ("restarting", "", None, Condition.ILL),
        ("dead", "", None, Condition.ILL),
        ("paused", "healthy", None, Condition.PAUSED),
        ("exited", "unhealthy", None, Condition.STOPPED),
        ("created", "", None, Condition.STOPPED),
    ],
)
def test_conditions(status: str, health: str, ill: str | None, condition: Condition) -> None:
    seen = instance_of(attributes(status, health), "prod", NOW, ill)
    assert seen.condition is condition
    assert seen.says and "\n" not in seen.says
    assert (seen.release, seen.wanted, seen.route) == ("r", 2, "demo")
    assert (seen.url, seen.fixed) == ("http://prod:32770", False)


def test_one_that_cannot_be_asked_has_to_run_for_a_moment() -> None:
    seen = attributes()
    seen["State"]["StartedAt"] = "2026-01-02T03:04:04.5Z"
    assert instance_of(seen, "prod", NOW).condition is Condition.STARTING


def test_a_port_that_was_given_is_fixed() -> None:
    host = {"PortBindings": {"8080/tcp": [{"HostIp": "", "HostPort": "8000"}]}}
    assert instance_of(attributes(HostConfig=host), "prod", NOW).fixed


def test_what_only_a_deploy_makes_is_told_from_what_was_left() -> None:
    def named(name: str, status: str, began: str = EARLIER) -> bool:
        seen = attributes(status, Name=name)
        seen["State"]["StartedAt"] = began
        return instance_of(seen, "prod", NOW).coming

    never = "0001-01-01T00:00:00Z"
    assert named("/demo-r-1.candidate", "running")
    assert named("/demo-r-1.candidate", "created", never)
    # Refused, and kept for whoever wants to know why.
    assert not named("/demo-r-1.candidate", "exited")
    assert not named("/demo-r-1", "running")
    spare = attributes("created")
    spare["Config"]["Labels"][HELPS] = SPARE
    assert not instance_of(spare, "prod", NOW).coming


def test_a_container_like_another_differs_in_name_and_labels_only() -> None:
    seen = attributes()
    seen["Config"]["Labels"][HELPS] = SPARE
    made = config_like(seen, 3, "")
    assert "Hostname" not in made and HELPS not in made["Labels"]
    assert made["Labels"] == {
        RELEASE: "r",
        INSTANCES: "3",
        ROUTE: "demo",
        RESTART: "unless-stopped",
    }
    assert made["Env"] == ["SECRET=swordfish"] and made["Image"] == "cd:5000/demo@sha256:1"
    assert made["HostConfig"] == {**seen["HostConfig"], "RestartPolicy": {"Name": "no"}}
    assert config_like(seen, 3, SPARE)["Labels"][HELPS] == SPARE
    # What was named on purpose stays.
    seen["Config"]["Hostname"] = "demo"
    assert config_like(seen, 3, "")["Hostname"] == "demo"


def test_networks_beside_the_first_are_joined_as_well() -> None:
    seen = attributes()
    assert further_networks(seen) == ["shop"]
    seen["HostConfig"]["NetworkMode"] = "shop"
    assert further_networks(seen) == ["bridge"]


def test_options_that_cannot_be_used_are_refused_before_anything_is_asked() -> None:
    assert counts_of({"demo": "3", "other": 1}) == {"demo": 3, "other": 1}
    for count in ("many", 0, -1, None, 1.5):
        with pytest.raises(BadOption, match="demo"):
            counts_of({"demo": count})
    params = {name: spec.get("default") for name, spec in OPTIONS.items()}
    assert router_of(params) is None
    with pytest.raises(BadOption):
        router_of({**params, "router": "registry", "api_url": "http://h", "router_timeout": 0})
