# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images of a release that comes back: by their ids, and pulled by digest if they are gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..change import OnUndo, Step
from ..engine.errors import engine_errors
from .engine_state import Image, image
from .image_sources import PULL
from .images import ImageMissing, Images, ImagesChange
from .releases import Kept, Release

NAME = "name"


class FormerImages(ImagesChange):
    """Give the images of *release* their names again."""

    def __init__(self, release: Release, *args: Any) -> None:
        super().__init__(*args)
        self.release = release
        # The services whose image has not the name that it had.
        self.unnamed: list[str] = []

    def observe(self) -> Images:
        """Look at the images by their names, and at those of the release."""
        seen = super().observe()
        self.unnamed = [
            name
            for name, kept in self._kept().items()
            if (found := seen.standing.get(name)) is None or found.id != kept.id
        ]
        standing = self.standing()
        gone = frozenset(name for name, found in standing.items() if found is None)
        self.before = replace(seen, standing=standing, ways={}, stale=gone)
        return self.before

    def _kept(self) -> dict[str, Kept]:
        images = self.release.images
        return {name: images[name] for name in self.project.services if name in images}

    def standing(self) -> dict[str, Image | None]:
        """Return the images of the release that the engine has, by service."""
        return {name: image(self.client, kept.id) for name, kept in self._kept().items()}

    def plan(self, observed: Images) -> Sequence[Step]:
        """Return the steps.

        :raises ImageMissing: an image is gone, and was at no registry.
        """
        steps = []
        for kept in {self._kept()[name]: None for name in sorted(self.unnamed)}:
            if image(self.client, kept.id) is None:
                if not kept.digests:
                    raise ImageMissing(
                        f"the image {kept.name} of the former release ({kept.id[7:19]}) is gone, "
                        "and was at no registry",
                        next_step="Build and deploy the former version.",
                    )
                digest = kept.digests[0]
                steps.append(Step(PULL, f"pull {digest}", {"digest": digest}))
            if "@" not in kept.name:
                said = f"name the former image {kept.id[7:19]} {kept.name} again"
                steps.append(Step(NAME, said, {"name": kept.name, "id": kept.id}))
        return steps

    def apply(self, step: Step, on_undo: OnUndo) -> None:
        """Run one step."""
        if step.action == PULL:
            with engine_errors(step.summary):
                self.client.images.pull(step.detail["digest"])
            return
        on_undo(self.tag_back, "The images have the names that they had")
        self._tag(Image(step.detail["id"]), step.detail["name"])

    def verify(self, observed: Images, applied: Sequence[Step]) -> Images:
        """Look again.

        :raises ImageMissing: an image is not the one that was proved.
        """
        after = Images(self.standing(), observed.named)
        for name, kept in self._kept().items():
            found = after.standing.get(name)
            if found is None or found.id != kept.id:
                raise ImageMissing(
                    f"the image {kept.name} of service {name} is not the one of the former release",
                    next_step="Deploy the former version.",
                )
        return after
