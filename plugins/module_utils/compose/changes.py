# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What differs between a container and its service, for people: names, never a value. Pure.

Whether it differs is told by compose's hash. What is not compared here is left to that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from posixpath import normpath
from typing import Any

from ..errors import enumerate_words
from .claims import held_ports, wanted_ports
from .service import Service

# Settings that an image has as well, by their names in the compose file and in the container.
OF_IMAGES = {
    "command": "Cmd",
    "entrypoint": "Entrypoint",
    "user": "User",
    "working_dir": "WorkingDir",
}
OWN_LABELS = ("com.docker.compose.", "desktop.docker.io/")


def changes(
    service: Service, model: Mapping[str, Any], seen: Mapping[str, Any], image: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return what is different, such as ``environment LOG_LEVEL``.

    :param model: the project's, with its volumes and networks.
    :param seen: the container, as the engine shows it.
    :param image: the ``Config`` of the container's image.
    """
    config = seen.get("Config") or {}
    spec = _plain(service.spec)
    found = []
    if config.get("Image") not in {service.image, seen.get("Image")}:
        found.append(f"image {config.get('Image')} to {service.image}")
    found += _named("environment", _environment(spec, config, image))
    found += _named("labels", _labels(spec, config, image))
    for key, name in OF_IMAGES.items():
        wish = image.get(name) if spec.get(key) is None else spec[key]
        if (wish or None) != (config.get(name) or None):
            found.append(key)
    if set(wanted_ports(service.spec)) != set(held_ports(seen)):
        found.append("ports")
    found += _named("mounts", _mounts(spec, model, seen))
    found += _named("networks", _networks(spec, model, seen))
    return tuple(found)


def _plain(value: Any) -> Any:
    """Return what containers get: compose renders each ``$`` in a value twice."""
    if isinstance(value, str):
        return value.replace("$$", "$")
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _named(what: str, names: Iterable[str]) -> list[str]:
    known = sorted(names)
    return [f"{what} {enumerate_words(known)}"] if known else []


def _environment(
    spec: Mapping[str, Any], config: Mapping[str, Any], image: Mapping[str, Any]
) -> set[str]:
    has, base = _pairs(config.get("Env")), _pairs(image.get("Env"))
    wish = {
        name: str(value)
        for name, value in (spec.get("environment") or {}).items()
        if value is not None
    }
    return _different({**base, **wish}, has)


def _labels(
    spec: Mapping[str, Any], config: Mapping[str, Any], image: Mapping[str, Any]
) -> set[str]:
    wish = {**(image.get("Labels") or {}), **(spec.get("labels") or {})}
    found = _different(wish, config.get("Labels") or {})
    return {name for name in found if not name.startswith(OWN_LABELS)}


def _mounts(spec: Mapping[str, Any], model: Mapping[str, Any], seen: Mapping[str, Any]) -> set[str]:
    volumes = model.get("volumes") or {}
    wish = {}
    for mount in spec.get("volumes") or ():
        source = mount.get("source")
        if mount.get("type") == "volume" and source:
            source = (volumes.get(source) or {}).get("name") or source
        if mount.get("type") in {"volume", "bind"} and source:
            wish[normpath(mount["target"])] = (str(source), not mount.get("read_only"))
    has = {
        normpath(mount["Destination"]): (
            str(mount.get("Name") or mount.get("Source")),
            bool(mount.get("RW", True)),
        )
        for mount in seen.get("Mounts") or ()
        if mount.get("Type") in {"volume", "bind"}
    }
    # What is in no compose file is the image's, or a config's or secret's.
    return {
        place
        for place in _different(wish, has)
        if place in wish or _named_volume(has[place][0], volumes)
    }


def _named_volume(name: str, volumes: Mapping[str, Any]) -> bool:
    return any((volume or {}).get("name") == name for volume in volumes.values())


def _networks(
    spec: Mapping[str, Any], model: Mapping[str, Any], seen: Mapping[str, Any]
) -> set[str]:
    if spec.get("network_mode"):
        return set()
    networks = model.get("networks") or {}
    wish = {str((networks.get(key) or {}).get("name") or key) for key in spec.get("networks") or ()}
    return wish ^ set((seen.get("NetworkSettings") or {}).get("Networks") or {})


def _different(wish: Mapping[str, Any], has: Mapping[str, Any]) -> set[str]:
    return {name for name in {*wish, *has} if wish.get(name) != has.get(name)}


def _pairs(entries: Iterable[str] | None) -> dict[str, str]:
    return {name: value for name, _is, value in (str(e).partition("=") for e in entries or ())}
