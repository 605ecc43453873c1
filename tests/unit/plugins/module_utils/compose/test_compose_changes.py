# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a diff says of a container whose configuration changed: names, never a value."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.immutable.delivery.plugins.module_utils.compose.changes import changes

from .world import service

MODEL = {
    "volumes": {"data": {"name": "p_data"}},
    "networks": {"default": {"name": "p_default"}, "back": {"name": "p_back"}},
}
IMAGE = {"Env": ["PATH=/bin"], "Cmd": ["serve"], "Labels": {"made": "here"}, "WorkingDir": "/app"}
SPEC = {
    "environment": {"LEVEL": "info", "PRICE": "5$$", "EMPTY": ""},
    "labels": {"team": "shop"},
    "networks": {"default": None},
    "ports": [{"target": 80, "published": "8080", "protocol": "tcp", "host_ip": "127.0.0.1"}],
    "volumes": [{"type": "volume", "source": "data", "target": "/data"}],
}
SEEN = {
    "Image": "sha256:1",
    "Config": {
        "Image": "web",
        "Env": ["PATH=/bin", "LEVEL=info", "PRICE=5$", "EMPTY="],
        "Cmd": ["serve"],
        "WorkingDir": "/app",
        "Labels": {"made": "here", "team": "shop", "com.docker.compose.project": "p"},
    },
    "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}},
    "Mounts": [
        {"Type": "volume", "Name": "p_data", "Destination": "/data", "RW": True},
        {"Type": "volume", "Name": "f" * 64, "Destination": "/cache", "RW": True},
    ],
    "NetworkSettings": {"Networks": {"p_default": {}}},
}


def told(**more: Any) -> tuple[str, ...]:
    spec = {name: value for name, value in {**SPEC, **more}.items() if value is not None}
    return changes(service("web", **spec), MODEL, SEEN, IMAGE)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, ()),
        (
            {"environment": {"LEVEL": "debug", "NEW": "secret", "EMPTY": ""}},
            ("environment LEVEL, NEW and PRICE",),
        ),
        ({"environment": {**SPEC["environment"], "PATH": "/usr/bin"}}, ("environment PATH",)),
        ({"labels": None}, ("labels team",)),
        ({"command": ["other"]}, ("command",)),
        ({"user": "1000"}, ("user",)),
        ({"ports": None}, ("ports",)),
        ({"volumes": None}, ("mounts /data",)),
        ({"volumes": [{**SPEC["volumes"][0], "read_only": True}]}, ("mounts /data",)),
        (
            {"volumes": [*SPEC["volumes"], {"type": "bind", "source": "/f", "target": "/f/"}]},
            ("mounts /f",),
        ),
        ({"networks": {"back": None}}, ("networks p_back and p_default",)),
        ({"networks": None, "network_mode": "host"}, ()),
        # What is not compared is told by compose's hash alone.
        ({"stop_grace_period": "5s"}, ()),
    ],
)
def test_what_changed(more: dict[str, Any], said: tuple[str, ...]) -> None:
    assert told(**more) == said


def test_another_image() -> None:
    other = {**SEEN, "Config": {**SEEN["Config"], "Image": "web:0"}}
    assert changes(service("web", **SPEC), MODEL, other, IMAGE) == ("image web:0 to web",)
