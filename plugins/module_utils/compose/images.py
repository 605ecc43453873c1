# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images of a project: built and pulled as a change that can be taken back.

What has its own name back has its former containers' configuration back as well, so an undo tags
the former images again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..change import OnUndo, Outcome, Step
from ..engine.errors import EngineError, engine_errors
from ..engine.parallel import patiently
from ..errors import DeliveryError, enumerate_words
from .cli import Compose, ComposeError, Limit
from .diff import short
from .engine_state import Image, image, images
from .image_sources import BUILD, PULL, PULL_OR_BUILD, Policy, Source, find_sources
from .project import Project

if TYPE_CHECKING:
    from docker import DockerClient

# An attestation holds times, so with it each build would give another id on engines that keep
# them (the containerd image store). What the files say of provenance is done all the same.
PLAIN_IMAGES = "BUILDX_NO_DEFAULT_ATTESTATIONS"

SLOW_BUILD = "Raise build_timeout if it needs longer, or find out what the build waits for."
SLOW_PULL = "Raise pull_timeout if it needs longer, or find out why the registry is so slow."


class ImageMissing(DeliveryError):
    """An image is not there, and may be neither built nor pulled."""

    kind = "image_missing"


@dataclass(frozen=True)
class Images:
    """The images that stand, and how they are got.

    :param standing: by service.
    :param named: by name, also those that only a build needs.
    :param ways: how each is got, by name; those are left out that stay as they are.
    :param stale: the services whose image is known to change: it is missing, or its registry has
        another.
    """

    standing: Mapping[str, Image | None]
    named: Mapping[str, Image | None] = field(default_factory=dict)
    ways: Mapping[str, str] = field(default_factory=dict)
    stale: frozenset[str] = frozenset()

    @property
    def built(self) -> list[str]:
        """The names of the images that are built. Only building tells whether they change."""
        return sorted(name for name, way in self.ways.items() if way == BUILD)


class ImagesChange:
    """Build and pull what is wanted.

    :param compose: its name is the project that new images are labelled with. Images of one
        content have one id only if that is the same.
    """

    def __init__(
        self, client: DockerClient, compose: Compose, project: Project, policy: Policy
    ) -> None:
        self.client = client
        self.compose = compose
        self.project = project
        self.policy = policy
        self.sources: Mapping[str, Source] = {}
        self.before = Images({})

    def standing(self) -> dict[str, Image | None]:
        """Return the images that the engine has, by service."""
        services = self.project.services
        by_name = images(self.client, (service.image for service in services.values()))
        return {name: by_name[service.image] for name, service in services.items()}

    def observe(self) -> Images:
        """Look at the images, and at registries' digests.

        :raises ComposeError: two services build one name from different things.
        """
        self.sources = find_sources(self.project)
        seen = images(self.client, self.sources)
        now = time.time()
        ways = {
            name: way
            for name, source in self.sources.items()
            if (way := source.way(seen[name], self.policy, now))
        }
        stale = {
            user
            for name, source in self.sources.items()
            if seen[name] is None
            or (ways.get(name) in {PULL, PULL_OR_BUILD} and self._newer(name, seen[name]))
            for user in source.users
        }
        self.before = Images(self._by_service(seen), seen, ways, frozenset(stale))
        return self.before

    def _by_service(self, seen: Mapping[str, Image | None]) -> dict[str, Image | None]:
        return {user: seen[one.image] for one in self.sources.values() for user in one.users}

    def _newer(self, name: str, seen: Image | None) -> bool:
        """Tell whether the registry has another image by that name."""
        try:
            with engine_errors(f"ask for the digest of {name}"):
                told = self.client.images.get_registry_data(name)
        except EngineError:
            return False  # a pull will say it, and by its proper reason
        return not any(known.endswith(f"@{told.id}") for known in (seen.digests if seen else ()))

    def plan(self, observed: Images) -> Sequence[Step]:
        """Return the steps.

        :raises ImageMissing: an image is missing that may not be got.
        """
        for name, source in sorted(self.sources.items()):
            if observed.named[name] is None and name not in observed.ways:
                how = "build" if source.builder else "pull"
                user = next(iter(source.users), source.builder)
                raise ImageMissing(
                    f"the image {name} of service {user} is missing, and must not be "
                    f"{'built' if source.builder else 'pulled'}",
                    next_step=f"Load or build it where the engine is, or allow the {how}.",
                )
        steps = []
        said = {
            PULL: "pull {}",
            PULL_OR_BUILD: "pull {}, or build what cannot be pulled",
            BUILD: "build {}",
        }
        for way, summary in said.items():
            names = sorted(name for name, found in observed.ways.items() if found == way)
            if names:
                steps.append(Step(way, summary.format(_listed(names)), {"images": names}))
        return steps

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step."""
        on_undo(self.tag_back, "The former images have their names back")
        names: Sequence[str] = step.detail["images"]
        if step.action == BUILD:
            self._build(names, step.summary)
            return
        self._pull(names, step.summary, fallible=step.action == PULL_OR_BUILD)
        if step.action == PULL_OR_BUILD:
            self._build([name for name in names if image(self.client, name) is None], step.summary)

    def _pull(self, names: Collection[str], doing: str, *, fallible: bool) -> None:
        specs = {}
        for name in names:
            source = self.sources[name]
            service = source.builder or source.users[0]
            spec = {**self.project.model["services"][service], "image": name}
            # Compose would leave out again what it finds there.
            specs[service] = {**spec, "pull_policy": "always"}
        flags = ["--quiet", *(["--ignore-pull-failures"] if fallible else [])]
        self.compose.run(
            self.project.model_with(specs),
            *("pull", *flags, *sorted(specs)),
            doing=doing,
            limit=Limit(self.policy.pull_timeout, SLOW_PULL),
        )

    def _build(self, names: Collection[str], doing: str) -> None:
        """Build all in one call: compose and its builder put them in their order."""
        specs = {}
        for name in names:
            builder = self.sources[name].builder
            if builder is not None:
                specs[builder] = {**self.project.model["services"][builder], "image": name}
        if not specs:
            return
        plain = {PLAIN_IMAGES: os.environ.get(PLAIN_IMAGES, "1")}
        compose = replace(self.compose, variables={**plain, **self.compose.variables})
        compose.run(
            self.project.model_with(specs),
            *("build", "--quiet", *sorted(specs)),
            doing=doing,
            limit=Limit(self.policy.build_timeout, SLOW_BUILD),
        )

    def tag_back(self) -> None:
        """Give the former images their names back."""
        for name, seen in self.before.named.items():
            if seen is not None and "@" not in name:
                patiently(self._tag, seen, name)

    def _tag(self, seen: Image, name: str) -> None:
        now = image(self.client, name)
        if now is not None and now.id == seen.id:
            return
        # A name's tag is what follows the last colon, unless that is a registry's port.
        repository, colon, tag = name.rpartition(":")
        if not colon or "/" in tag:
            repository, tag = name, "latest"
        with engine_errors(f"tag {name}"):
            self.client.api.tag(seen.id, repository, tag)

    def verify(self, observed: Images, applied: Sequence[Step]) -> Images:
        """Look again.

        :raises ComposeError: an image is still missing.
        """
        seen = images(self.client, self.sources)
        for name, found in seen.items():
            if found is None:
                raise ComposeError(
                    f"the image {name} is missing although docker compose has built or pulled it"
                )
        return Images(self._by_service(seen), seen)

    def describe(self, observed: Images) -> str:
        """Show the images."""
        return self._shown(observed, {})

    def expected(self, observed: Images, steps: Sequence[Step]) -> str:
        """Show what is known of what they will be: only building tells what a build changes."""
        words = {}
        for name, way in observed.ways.items():
            seen = observed.named[name]
            if way == BUILD and seen is not None:
                words[name] = f"{short(seen.id)} (would build; only that tells whether it changes)"
            elif way == BUILD:
                words[name] = "missing (would build)"
            elif seen is None or set(self.sources[name].users) & observed.stale:
                words[name] = "pulled"
        return self._shown(observed, words)

    def _shown(self, observed: Images, words: Mapping[str, str]) -> str:
        lines = []
        for name, source in self.sources.items():
            seen = observed.named[name]
            said = words.get(name) or (short(seen.id) if seen else "missing")
            lines += [f"{user}: image {name} {said}\n" for user in source.users or ("build",)]
        return "".join(sorted(lines))


def _listed(names: Collection[str]) -> str:
    return f"the image{'s' if len(names) > 1 else ''} {enumerate_words(names)}"


def image_ids(got: Outcome[Images], check_mode: bool) -> dict[str, frozenset[str]]:
    """Return the ids of the images that containers may have, by service.

    There are none where an image is going to be another one.
    """
    stale = got.before.stale if check_mode else frozenset()
    return {
        name: frozenset({seen.id} if seen is not None and name not in stale else ())
        for name, seen in got.after.standing.items()
    }
