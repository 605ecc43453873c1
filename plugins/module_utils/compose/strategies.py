# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How each service of a project is replaced, and why: pure.

A service that keeps data and runs as one container is replaced in turn, under every strategy: two
containers would write to the same data, or the second would begin without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from posixpath import normpath
from typing import Any

from ..errors import BadOption, enumerate_words
from .engine_state import Image
from .extension import KEY, Extensions
from .project import Project
from .service import Service
from .suitable import Unsuitable

RECREATE = "recreate"
ROLLING = "rolling"
BLUE_GREEN = "blue_green"
STRATEGIES = (RECREATE, ROLLING, BLUE_GREEN)
# Folders of the kernel and of running programs, which monitors mount.
NOT_DATA = ("/proc", "/sys", "/dev", "/run", "/var/run")


@dataclass(frozen=True)
class How:
    """How a service is replaced: ``recreate`` is in turn, each stopped before the next starts.

    :param why: why it is not replaced by the strategy of the run; empty where it is.
    :param data: what it keeps its data in, alone.
    :param folders: the folders of the host among that.
    """

    strategy: str
    why: str = ""
    data: str = ""
    folders: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Given:
    """What the options and the compose files say.

    :param strategy: of the run.
    :param strategies: by service, where it has one of its own.
    :param shared: the services and volumes that several containers may write to at a time.
    :param is_folder: tells whether a path of the host is a folder; None where that is not known.
    :param is_database: tells whether a path of the host is a file with a database.
    :param said: what the compose files alone say.
    """

    strategy: str = RECREATE
    strategies: Mapping[str, str] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    is_folder: Callable[[str], bool | None] = lambda path: None
    is_database: Callable[[str], bool] = lambda path: False
    said: Extensions = field(default_factory=Extensions)


def hows(project: Project, given: Given, images: Mapping[str, Image | None]) -> dict[str, How]:
    """Return how each service is replaced.

    :param images: by service, what it is going to run, as far as that is known.
    :raises DeliveryError: a service cannot be replaced in the way that it asks for.
    """
    check_given(project, given)
    kept = {
        name: data_of(project, service, given, images) for name, service in project.services.items()
    }
    found = {
        name: replace(
            _how(service, given, kept[name]),
            folders=folders_of(service, given) if kept[name] else frozenset(),
        )
        for name, service in project.services.items()
    }
    if given.strategy == BLUE_GREEN:
        found = _beside(project, found)
        _check_base(project, found)
    return found


def check_given(project: Project, given: Given) -> None:
    """Make sure that the strategies and names given are some.

    :raises BadOption: they are not.
    """
    for name, strategy in given.strategies.items():
        if strategy not in STRATEGIES:
            raise BadOption(
                f"the strategy of service {name} is {strategy}",
                next_step=f"Use one of {', '.join(STRATEGIES)}.",
            )
        if strategy == BLUE_GREEN != given.strategy:
            raise BadOption(
                f"the strategy of service {name} is {BLUE_GREEN}, and that of the run "
                f"{given.strategy}",
                next_step=f"Make {BLUE_GREEN} the strategy of the run, and give the other services "
                "one of their own.",
            )
    specs = project.model.get("services") or {}
    known = {*specs, *(project.model.get("volumes") or {})}
    for option, names, there in (
        ("strategies", set(given.strategies), set(specs)),
        ("shared", set(given.shared), known),
    ):
        if unknown := sorted(names - there):
            raise BadOption(
                f"{option} names {enumerate_words(unknown)}, which the compose files do not have",
                next_step=f"They have {enumerate_words(sorted(there)) or 'none'}.",
            )


def data_of(
    project: Project, service: Service, given: Given, images: Mapping[str, Image | None]
) -> str:
    """Return what a service keeps its data in, for people; empty where it keeps none alone.

    Several containers of a service share what they write to already, but for anonymous volumes, of
    which each has its own. A job is done before anybody else begins.
    """
    if service.static or not service.scale or service.name in given.shared:
        return ""
    if service.scale > 1:
        return next(_anonymous(service, images.get(service.name)), "")
    return next(_data_of(project, service, given, images), "")


def folders_of(service: Service, given: Given) -> frozenset[str]:
    """Return the folders, and files with databases, of the host that a service keeps data in."""
    mounts = [one for one in service.spec.get("volumes") or () if one.get("type") == "bind"]
    return frozenset(
        normpath(str(mount.get("source")))
        for mount in mounts
        if not mount.get("read_only") and any(_data_in(mount, given))
    )


def _data_of(
    project: Project, service: Service, given: Given, images: Mapping[str, Image | None]
) -> Iterator[str]:
    filled = {
        mount.get("source")
        for one in project.services.values()
        if one.static
        for mount in one.spec.get("volumes") or ()
    }
    mounts = service.spec.get("volumes") or ()
    for mount in mounts:
        if not mount.get("read_only") and mount.get("source") not in given.shared | filled:
            yield from _data_in(mount, given)
    yield from _anonymous(service, images.get(service.name))
    for source, writes in service.volumes_of_others:
        other = project.services.get(source)
        if not writes or (other is not None and other.static):
            continue
        if other is None:
            yield f"the volumes of {source}"
        elif said := data_of(project, other, given, images):
            yield said


def _anonymous(service: Service, image: Image | None) -> Iterator[str]:
    mounts = service.spec.get("volumes") or ()
    for mount in mounts:
        if mount.get("type") == "volume" and not mount.get("source"):
            yield f"a volume at {mount.get('target')}"
    declared = {normpath(place) for place in (image.volumes if image else ())}
    for place in sorted(service.anonymous_places(declared) & declared):
        yield f"the volume that its image declares ({place})"


def _data_in(mount: Mapping[str, Any], given: Given) -> Iterator[str]:
    kind, source, target = mount.get("type"), mount.get("source"), mount.get("target")
    if kind == "volume":
        yield f"the volume {source} ({target})" if source else f"a volume at {target}"
    path = str(source or "/dev")
    if kind == "bind" and not _not_data(path):
        if given.is_folder(path) is not False:
            yield f"the folder {source} ({target})"
        elif given.is_database(path):
            yield f"the database {source} ({target})"


def _not_data(path: str) -> bool:
    place = normpath(path)
    inside = any(place == one or place.startswith(f"{one}/") for one in NOT_DATA)
    return inside or place.endswith(".sock")


def _how(service: Service, given: Given, data: str) -> How:
    asked = given.strategies.get(service.name)
    if data and asked not in {None, RECREATE}:
        doing = "two containers would write to it at a time"
        raise Unsuitable(
            f"service {service.name} keeps data in {data}, so with strategy {asked} {doing}, or "
            "one would begin without it",
            next_step=f"Remove its strategy, so that it is replaced in turn. If several may write "
            f"to it, write `{KEY}: {{shared: true}}` below {service.name}, or `shared: "
            f"[{service.name}]` in the task.",
        )
    if asked is not None:
        return How(asked, "" if asked == given.strategy else "its own strategy says so", data)
    if data and given.strategy != RECREATE:
        return How(RECREATE, f"it keeps data in {data}", data)
    return How(given.strategy, data=data)


def _beside(project: Project, found: Mapping[str, How]) -> dict[str, How]:
    """Return which services are not doubled: those that keep data, and what is one with them.

    A job is done once a deploy, unless it waits for a service that is doubled.
    """
    hows_now = dict(found)
    for name, service in project.services.items():
        waits = {n for n in service.depends_on if n in found and found[n].strategy == BLUE_GREEN}
        waits -= {n for n in waits if project.services[n].ends}
        if service.ends and not service.static and not waits:
            hows_now[name] = How(RECREATE, "it is done once a deploy")
    while True:
        follows = {
            (one, other)
            for name, service in project.services.items()
            for other in service.references
            for one, other in ((name, other), (other, name))
            if other in hows_now
            and hows_now[one].strategy == BLUE_GREEN != hows_now[other].strategy
        }
        if not follows:
            return hows_now
        for one, other in sorted(follows):
            hows_now[one] = How(RECREATE, f"it is one with {other}, which is not doubled")


def _check_base(project: Project, found: Mapping[str, How]) -> None:
    """Make sure that nobody who is not doubled needs one who is.

    :raises Unsuitable: somebody does.
    """
    for name, how in found.items():
        if how.strategy == BLUE_GREEN:
            continue
        for other in project.services[name].depends_on:
            if other in found and found[other].strategy == BLUE_GREEN:
                raise Unsuitable(
                    f"service {name} is not doubled ({how.why}), and depends on {other}, which "
                    f"strategy {BLUE_GREEN} doubles: it could not tell the two apart",
                    next_step=f"Write `{KEY}: {{strategy: recreate}}` below {other}, or "
                    f"`{KEY}: {{shared: true}}` below {name} if two containers of it may run at a "
                    "time.",
                )
