# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands: a project's containers and images, as the engine shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from posixpath import normpath
from typing import TYPE_CHECKING, Any

from ..engine.errors import Missing, engine_errors
from ..engine.inspect import EXITED, Container, container_of, parse_time
from .claims import Port, held_ports

if TYPE_CHECKING:
    from docker import DockerClient

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
NUMBER = "com.docker.compose.container-number"
VOLUME = "com.docker.compose.volume"
HASH = "com.docker.compose.config-hash"
FILES = "com.docker.compose.project.config_files"
ONEOFF = "com.docker.compose.oneoff"
ANONYMOUS = 64  # the length of a name that the engine made up
GRACE = 10


@dataclass(frozen=True)
class Mount:
    """A volume in a container: its name and its place, normalised.

    :param anonymous: the engine made the name up.
    :param read_only: the container cannot write to it.
    """

    name: str
    place: str
    anonymous: bool = False
    read_only: bool = False


@dataclass(frozen=True)
class Instance:
    """One container of a service.

    :param volumes_from: the ids of the containers that its volumes come from.
    :param shares: the ids of the containers whose namespaces it shares, by kind.
    :param grace: the seconds it has to end.
    :param ports: the host's ports that it holds while it runs.
    :param folders: the host's folders and files that it may write to, normalised.
    :param changes: what of its configuration is not as it should be, as far as that is known.
    :param due: the hash that compose would give it now; empty if it refers to other containers
        than the files say, or if nobody has asked.
    """

    container: Container
    project: str
    service: str
    number: int
    hash: str
    mounts: tuple[Mount, ...] = ()
    volumes_from: tuple[str, ...] = ()
    shares: Mapping[str, str] = field(default_factory=dict)
    grace: int = GRACE
    ports: tuple[Port, ...] = ()
    folders: frozenset[str] = frozenset()
    changes: tuple[str, ...] = ()
    due: str = ""

    @property
    def id(self) -> str:
        """The container's id."""
        return self.container.id

    @property
    def name(self) -> str:
        """The container's name."""
        return self.container.name

    @property
    def starting(self) -> bool:
        """Whether its health is not known yet."""
        return self.container.running and self.container.health == "starting"

    def good(self, ends: bool) -> bool:
        """Whether it does its work, or has done it where it *ends*."""
        seen = self.container
        return seen.well or (ends and seen.status == EXITED and seen.exit_code == 0)


@dataclass(frozen=True)
class Image:
    """An image: its id, labels, places of volumes (normalised), digests at registries.

    :param tagged: when it was last given a name, in nanoseconds since 1970; each build does.
    """

    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    tagged: int = field(default=0, compare=False)


def instance_of(attributes: Mapping[str, Any]) -> Instance:
    """Read what the engine says of a container of compose's."""
    container = container_of(attributes)
    labels = container.labels
    host = attributes.get("HostConfig") or {}
    kinds = {"network_mode": "NetworkMode", "ipc": "IpcMode", "pid": "PidMode"}
    modes = {kind: str(host.get(key) or "") for kind, key in kinds.items()}
    number = labels.get(NUMBER, "")
    grace = (attributes.get("Config") or {}).get("StopTimeout")
    return Instance(
        container=container,
        project=labels.get(PROJECT, ""),
        service=labels.get(SERVICE, ""),
        number=int(number) if number.isdecimal() else 0,
        hash=labels.get(HASH, ""),
        mounts=tuple(
            Mount(
                mount["Name"],
                normpath(mount["Destination"]),
                anonymous=len(mount["Name"]) == ANONYMOUS,
                read_only=not mount.get("RW", True),
            )
            for mount in attributes.get("Mounts") or ()
            if mount.get("Type") == "volume"
        ),
        volumes_from=tuple(entry.split(":")[0] for entry in host.get("VolumesFrom") or ()),
        shares={
            kind: mode.partition(":")[2]
            for kind, mode in modes.items()
            if mode.startswith("container:")
        },
        grace=GRACE if grace is None else int(grace),
        ports=held_ports(attributes),
        folders=frozenset(
            normpath(mount["Source"])
            for mount in attributes.get("Mounts") or ()
            if mount.get("Type") == "bind" and mount.get("RW", True)
        ),
    )


def instances(client: DockerClient, project: str) -> dict[str, list[Instance]]:
    """Return a project's containers by service, in the order of their numbers."""
    with engine_errors(f"list the containers of {project}"):
        listed = client.api.containers(
            all=True, filters={"label": [f"{PROJECT}={project}", f"{ONEOFF}=False"]}
        )
    found: dict[str, list[Instance]] = {}
    for entry in listed:
        try:
            with engine_errors(f"inspect the container {entry['Id'][:12]}"):
                seen = instance_of(client.api.inspect_container(entry["Id"]))
        except Missing:  # removed meanwhile
            continue
        found.setdefault(seen.service, []).append(seen)
    for ones in found.values():
        ones.sort(key=lambda one: (one.number, one.container.created))
    return found


def image(client: DockerClient, name: str) -> Image | None:
    """Return an image, or None where the engine does not have it."""
    try:
        with engine_errors(f"inspect the image {name}"):
            seen = client.images.get(name).attrs
    except Missing:
        return None
    config = seen.get("Config") or {}
    return Image(
        id=seen["Id"],
        labels=config.get("Labels") or {},
        volumes=tuple(normpath(place) for place in config.get("Volumes") or ()),
        digests=tuple(seen.get("RepoDigests") or ()),
        tagged=parse_time((seen.get("Metadata") or {}).get("LastTagTime") or ""),
    )


def images(client: DockerClient, names: Iterable[str]) -> dict[str, Image | None]:
    """Return the images of those names."""
    return {name: image(client, name) for name in sorted(set(names))}
