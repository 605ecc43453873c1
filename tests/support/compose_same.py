# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container of ours beside the one that plain compose makes of the same files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tests.support.engine import PROJECT

# What a name of a volume or an id of a container looks like.
MADE_UP = re.compile(r"\b[0-9a-f]{64}\b")
# Of no order: compose goes through mappings in any.
UNORDERED = {"Env", "Binds", "Mounts", "Aliases", "ExtraHosts", "Links", "Ulimits", "CapAdd"}
LABELS_THAT_MATTER = "com.docker.compose.config-hash", "com.docker.compose.container-number"
# What the engine itself finds out when a container runs, or where it keeps things.
LEFT_OUT = {
    *("Id", "Created", "State", "RestartCount", "GraphDriver", "ResolvConfPath", "HostnamePath"),
    *("HostsPath", "LogPath", "ExecIDs", "AppArmorProfile", "MountLabel", "ProcessLabel"),
}
ENDPOINT = ("IPAMConfig", "Links", "Aliases", "DriverOpts")


def same_container(ours: Mapping[str, Any], composes: Mapping[str, Any]) -> list[str]:
    """Return how two containers differ, as the engine's API shows them.

    Labels other than the hash and number, ids and times do not count. The projects may have
    different names. Anonymous volumes count by their place. An empty list is an absent one.
    """
    return sorted(_differences("", _comparable(ours), _comparable(composes)))


def _comparable(seen: Mapping[str, Any]) -> Any:
    project = seen["Config"]["Labels"][PROJECT]
    labels = {name: seen["Config"]["Labels"].get(name) for name in LABELS_THAT_MATTER}
    config = {**seen["Config"], "Labels": labels}
    # Its own id's beginning, or that of the container whose network it shares.
    if re.fullmatch("[0-9a-f]{12}", config.get("Hostname", "")):
        del config["Hostname"]
    networks = {
        name: {
            key: [one for one in value if one != seen["Id"][:12]] if key == "Aliases" else value
            for key in ENDPOINT
            if (value := values.get(key))
        }
        for name, values in seen["NetworkSettings"]["Networks"].items()
    }
    mounts = [
        {**one, "Source": "" if one["Type"] == "volume" else one["Source"]}
        for one in seen["Mounts"]
    ]
    host = {**seen["HostConfig"]}
    if host.get("Mounts"):
        # An anonymous volume that was taken over is given by its name.
        host["Mounts"] = [_anonymous(one) for one in host["Mounts"]]
    rest = {name: value for name, value in seen.items() if name not in LEFT_OUT}
    made = {
        **rest,
        "Config": config,
        "HostConfig": host,
        "NetworkSettings": networks,
        "Mounts": mounts,
    }
    text = MADE_UP.sub("ID", json.dumps(made, sort_keys=True)).replace(project, "PROJECT")
    return _sorted("", json.loads(text))


def _anonymous(mount: Mapping[str, Any]) -> dict[str, Any]:
    source = mount.get("Source") or ""
    if mount["Type"] != "volume" or (source and not MADE_UP.fullmatch(source)):
        return dict(mount)
    return {"Type": "volume", "Target": mount["Target"], "ReadOnly": mount.get("ReadOnly", False)}


def _sorted(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(key, item) for key, item in value.items() if item not in (None, [])}
    if isinstance(value, list):
        items = [_sorted("", item) for item in value]
        return sorted(items, key=json.dumps) if name in UNORDERED else items
    return value


def _differences(path: str, one: Any, other: Any) -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            text
            for name in {**one, **other}
            for text in _differences(f"{path}.{name}", one.get(name), other.get(name))
        ]
    return [] if one == other else [f"{path[1:]}: ours {one!r}, compose's {other!r}"]
