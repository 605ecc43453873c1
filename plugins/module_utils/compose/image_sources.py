# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where each image of a project comes from, and whether it is built or pulled now: pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import enumerate_words
from .cli import ComposeError
from .engine_state import Image
from .project import Project

ALWAYS = "always"
MISSING = "missing"
NEVER = "never"

BUILD = "build"
PULL = "pull"
PULL_OR_BUILD = "pull_or_build"

# What pull_policy may say besides: an age after which an image is pulled again.
AGES = {"daily": "1d", "weekly": "1w"}
AGE_PARTS = re.compile(r"(\d+)([wdhms])")
SECONDS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
# Compose's own names of what is pulled unless it is there.
IF_MISSING = ("missing", "if_not_present")
# How the files name an image that another service of theirs builds.
OF_SERVICE = "service:"


@dataclass(frozen=True)
class Policy:
    """When to build and when to pull.

    :param build: ``always``, ``missing`` (only what is not there) or ``never``.
    :param pull: the same words; None to do what the files say.
    :param build_timeout: the seconds that all builds together may take.
    :param pull_timeout: the seconds that all pulls together may take.
    """

    build: str = ALWAYS
    pull: str | None = None
    build_timeout: float = 3600.0
    pull_timeout: float = 1800.0


@dataclass(frozen=True)
class Source:
    """Where one image comes from.

    :param image: its name, as the files write it.
    :param users: the services of the run that use it; none for one that only a build needs.
    :param builder: the service by whose ``build`` it is built; None for one from a registry.
    :param named: whether the files name it. A name that compose made up is at no registry.
    :param pull_policy: as the files have it.
    """

    image: str
    users: tuple[str, ...] = ()
    builder: str | None = None
    named: bool = True
    pull_policy: str = ""

    def way(self, seen: Image | None, policy: Policy, now: float) -> str:
        """Return how it is got now: :data:`BUILD`, :data:`PULL`, both words, or not at all."""
        if self.builder is None or self._registry_first(policy):
            due = is_due(pull_rule(self.pull_policy, policy.pull), seen, now)
            if not due:
                return ""
            return PULL if self.builder is None else PULL_OR_BUILD
        if policy.build == ALWAYS or (policy.build == MISSING and seen is None):
            return BUILD
        return ""

    def _registry_first(self, policy: Policy) -> bool:
        """Whether what could be built is pulled if it can be: the files say so."""
        said = self.pull_policy not in {"", NEVER, BUILD}
        return said and self.named and policy.pull != NEVER


def pull_rule(said: str, option: str | None) -> str:
    """Return by which word an image is pulled.

    What the files say is at no registry (``never``, ``build``) is not looked for there, whatever
    the option says. All else the option decides if it is given, or else the files.
    """
    if said in {NEVER, BUILD}:
        return NEVER
    return option or said or MISSING


def is_due(rule: str, seen: Image | None, now: float) -> bool:
    """Tell whether to pull, by :func:`pull_rule`, at *now* (seconds since 1970)."""
    if rule == NEVER:
        return False
    if seen is None or rule in {ALWAYS, "refresh"}:
        return True
    if rule in IF_MISSING:
        return False
    age = AGES.get(rule, rule.removeprefix("every_"))
    seconds = sum(int(count) * SECONDS[unit] for count, unit in AGE_PARTS.findall(age))
    return seen.tagged / 1e9 + seconds < now


def find_sources(project: Project) -> dict[str, Source]:
    """Return where each image of the run comes from, by its name.

    An image that one service builds and another only names is built, also if the one that builds
    it is not of the run. Images that a build takes from another service's are built with it.

    :raises ComposeError: two services build one name from different things.
    """
    specs: Mapping[str, Mapping[str, Any]] = project.model.get("services") or {}
    built = _builders(project, specs)
    found: dict[str, Source] = {}
    left = list(project.services)
    for name in left:
        image = _image(project, specs, name)
        key = normal(image)
        builder = built.get(key)
        if key in found:
            if name in project.services and name not in found[key].users:
                users = (*found[key].users, name)
                found[key] = replace(found[key], users=users)
            continue
        spec = specs[builder or name]
        found[key] = Source(
            image=image,
            users=(name,) if name in project.services else (),
            builder=builder,
            named=bool(spec.get("image")),
            pull_policy=str(spec.get("pull_policy") or ""),
        )
        if builder is not None:
            left += [other for other in bases(spec) if other in specs]
    return {source.image: source for source in found.values()}


def bases(spec: Mapping[str, Any]) -> list[str]:
    """Return the services whose images a service's build takes as contexts."""
    contexts = (spec.get("build") or {}).get("additional_contexts") or {}
    return [
        place.removeprefix(OF_SERVICE)
        for place in map(str, contexts.values())
        if place.startswith(OF_SERVICE)
    ]


def _builders(project: Project, specs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return by which service each image is built; the first of those that build it alike."""
    found: dict[str, str] = {}
    for name in sorted(specs):
        if not specs[name].get("build"):
            continue
        image = _image(project, specs, name)
        first = found.setdefault(normal(image), name)
        if specs[first]["build"] != specs[name]["build"]:
            raise ComposeError(
                f"services {enumerate_words([first, name])} build {image} from different things, "
                "so it is not known which of the two images the name means",
                next_step="Give one of them another image name.",
            )
    return found


def _image(project: Project, specs: Mapping[str, Mapping[str, Any]], name: str) -> str:
    if name in project.services:
        return project.services[name].image
    return str(specs[name].get("image") or f"{project.name}-{name}")


def normal(image: str) -> str:
    """Return an image's name so that two names of one image are the same text."""
    image = image.removeprefix("docker.io/").removeprefix("library/")
    if "@" in image or ":" in image.rpartition("/")[2]:
        return image
    return f"{image}:latest"
