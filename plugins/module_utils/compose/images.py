# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images of a project: built and pulled as a change that can be taken back.

What has its own name back has its former containers' configuration back as well, so an undo tags
the former images again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..change import OnUndo, Step
from ..engine.errors import EngineError, engine_errors
from ..engine.parallel import patiently
from ..errors import DeliveryError, enumerate_words
from .cli import Compose, ComposeError, Limit
from .context import LABEL, context_digest
from .diff import short
from .engine_state import Image, image, images
from .project import Project
from .service import Service

if TYPE_CHECKING:
    from docker import DockerClient

BUILD = "build"
PULL = "pull"

CHANGED = "changed"
ALWAYS = "always"
MISSING = "missing"
NEVER = "never"

SLOW_BUILD = "Raise build_timeout if it needs longer, or find out what the build waits for."
SLOW_PULL = "Raise pull_timeout if it needs longer, or find out why the registry is so slow."


class ImageMissing(DeliveryError):
    """An image is not there, and may be neither built nor pulled."""

    kind = "image_missing"


@dataclass(frozen=True)
class Images:
    """The images that stand, by service, and which services' are going to change.

    :param digests: of what is to be built from, by service.
    :param stale: the services whose image a build or a pull would change.
    """

    standing: Mapping[str, Image | None]
    digests: Mapping[str, str | None] = field(default_factory=dict)
    stale: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Policy:
    """When to build and when to pull.

    :param build: ``changed`` where what it is built from is not what the image bears; ``always``;
        ``missing`` where there is no image; ``never``.
    :param pull: ``always``, ``missing`` or ``never``.
    :param build_timeout: the seconds that a build may take.
    :param pull_timeout: the seconds that a pull may take.
    """

    build: str = CHANGED
    pull: str = MISSING
    build_timeout: float = 3600.0
    pull_timeout: float = 1800.0


class ImagesChange:
    """Build and pull what is wanted.

    :param satisfied: tells whether a service already runs what a build from that digest would
        give, so that nothing needs to be built under another name.
    """

    def __init__(
        self,
        client: DockerClient,
        compose: Compose,
        project: Project,
        policy: Policy,
        *,
        satisfied: Callable[[str, str], bool] = lambda service, digest: False,
    ) -> None:
        self.client = client
        self.compose = compose
        self.project = project
        self.policy = policy
        self.satisfied = satisfied
        self.before = Images({})

    def observe(self) -> Images:
        """Look at the images, at what they are built from, and at registries' digests."""
        services = self.project.services
        by_name = images(self.client, (service.image for service in services.values()))
        standing = {name: by_name[service.image] for name, service in services.items()}
        digests: dict[str, str | None] = {}
        stale = set()
        for name, service in services.items():
            seen = standing[name]
            if service.built:
                digests[name] = context_digest(service.spec["build"], self._id_of)
                if self._stale_build(name, seen, digests[name]):
                    stale.add(name)
            elif self._stale_pull(service, seen):
                stale.add(name)
        self.before = Images(standing, digests, frozenset(stale))
        return self.before

    def _id_of(self, name: str) -> str | None:
        seen = image(self.client, name)
        return seen.id if seen else None

    def _stale_build(self, name: str, seen: Image | None, digest: str | None) -> bool:
        if digest is not None and self.satisfied(name, digest):
            return False
        if seen is None:
            return True
        if self.policy.build in {MISSING, NEVER}:
            return False
        return digest is None or seen.labels.get(LABEL) != digest

    def _stale_pull(self, service: Service, seen: Image | None) -> bool:
        if seen is None:
            return True
        if self.policy.pull != ALWAYS or service.spec.get("pull_policy") == NEVER:
            return False
        try:
            with engine_errors(f"ask for the digest of {service.image}"):
                told = self.client.images.get_registry_data(service.image)
        except EngineError:
            return False  # a pull will say it, and by its proper reason
        return not any(known.endswith(f"@{told.id}") for known in seen.digests)

    def plan(self, observed: Images) -> Sequence[Step]:
        """Return the steps.

        :raises ImageMissing: an image is missing that may not be got.
        """
        build, pull = [], []
        for name, service in self.project.services.items():
            missing = observed.standing[name] is None
            if service.built:
                if missing and self.policy.build == NEVER and name in observed.stale:
                    raise ImageMissing(
                        f"the image {service.image} of service {name} is missing, and must not be "
                        "built",
                        next_step="Load or build it where the engine is, or allow the build.",
                    )
                if name in observed.stale or self.policy.build == ALWAYS:
                    build.append(name)
            elif missing and NEVER in {self.policy.pull, service.spec.get("pull_policy")}:
                raise ImageMissing(
                    f"the image {service.image} of service {name} is missing, and must not be "
                    "pulled",
                    next_step="Load or build it where the engine is, or allow the pull.",
                )
            elif name in observed.stale or self._pulled_anyway(service):
                pull.append(name)
        steps = []
        if pull:
            steps.append(Step(PULL, f"pull {self._names(pull)}", {"services": pull}))
        if build:
            steps.append(Step(BUILD, f"build {self._names(build)}", {"services": build}))
        return steps

    def _pulled_anyway(self, service: Service) -> bool:
        return self.policy.pull == ALWAYS and service.spec.get("pull_policy") != NEVER

    def _names(self, services: Collection[str]) -> str:
        names = dict.fromkeys(self.project.services[name].image for name in sorted(services))
        return f"the image{'s' if len(names) > 1 else ''} {enumerate_words(names)}"

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step."""
        on_undo(self.tag_back, "The former images have their names back")
        names = sorted(step.detail["services"])
        if step.action == PULL:
            self.compose.run(
                self.project.model_with({}),
                *("pull", "--quiet", *names),
                doing=step.summary,
                limit=Limit(self.policy.pull_timeout, SLOW_PULL),
            )
            return
        specs = {}
        for name in names:
            spec = dict(self.project.services[name].spec)
            digest = self.before.digests[name]
            build = dict(spec["build"])
            if digest is not None:
                build["labels"] = {**(build.get("labels") or {}), LABEL: digest}
            specs[name] = {**spec, "build": build}
        self.compose.run(
            self.project.model_with(specs),
            *("build", "--quiet", *names),
            doing=step.summary,
            limit=Limit(self.policy.build_timeout, SLOW_BUILD),
        )

    def tag_back(self) -> None:
        """Give the former images their names back."""
        for name, seen in self.before.standing.items():
            wanted = self.project.services[name].image
            if seen is not None and "@" not in wanted:
                patiently(self._tag, seen, wanted)

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
        by_name = images(self.client, (one.image for one in self.project.services.values()))
        standing = {name: by_name[one.image] for name, one in self.project.services.items()}
        for name, seen in standing.items():
            if seen is None and (name in observed.stale or not self.project.services[name].built):
                raise ComposeError(
                    f"the image {self.project.services[name].image} is missing although docker "
                    "compose has built or pulled it"
                )
        return Images(standing, observed.digests, frozenset())

    def describe(self, observed: Images) -> str:
        """Show the images."""
        return "".join(
            f"{name}: image {self.project.services[name].image} "
            f"{short(seen.id) if seen else 'missing'}\n"
            for name, seen in sorted(observed.standing.items())
        )

    def expected(self, observed: Images, steps: Sequence[Step]) -> str:
        """Show what they will be."""
        lines = []
        for name, seen in sorted(observed.standing.items()):
            now = f"{short(seen.id) if seen else 'missing'}"
            if name in observed.stale:
                now = "built anew" if self.project.services[name].built else "pulled"
            lines.append(f"{name}: image {self.project.services[name].image} {now}\n")
        return "".join(lines)
