# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images by digest: what a tag means at the registry, whether the engine has it, and pulling it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Thread
from typing import Any

from ..deadline import Deadline, Pace, wait_for
from ..errors import DeliveryError, TimeoutExceeded
from .errors import EngineError, Missing, Refused, engine_errors, meaning, refusals

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# The engine's own words for a reference; it is strict, so this need not be.
PULL_PACE = Pace(interval=0.2)
REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,400}")


@dataclass(frozen=True)
class Reference:
    """An image as it is written: ``registry:5000/demo:1.2``, with or without ``@sha256:...``."""

    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def of(cls, text: str) -> Reference:
        """Read it.

        :raises DeliveryError: it is none.
        """
        name, _at, digest = text.partition("@")
        if not REFERENCE.fullmatch(text) or not name or (_at and not DIGEST.fullmatch(digest)):
            raise DeliveryError(
                f"{text!r} is no image",
                next_step="Give it as [REGISTRY/]NAME[:TAG] or [REGISTRY/]NAME@sha256:DIGEST.",
            )
        if DIGEST.fullmatch(text):
            return cls("", digest=text)
        path, colon, last = name.rpartition(":")
        # A colon before a slash belongs to the registry's port.
        if not colon or "/" in last:
            path, last = name, ""
        return cls(path, "" if digest else (last or "latest"), digest)

    @property
    def name(self) -> str:
        """Return it by tag, for questions to the registry and to people."""
        return f"{self.repository}:{self.tag}" if self.tag else self.pinned(self.digest)

    def pinned(self, digest: str) -> str:
        """Return it by *digest*, which cannot come to mean something else."""
        return f"{self.repository}@{digest}" if self.repository else digest


@dataclass(frozen=True)
class Images:
    """The images of one engine.

    :param auth: user name and password of the registry; None for what the docker configuration of
        this host has.
    :param local: whether images are those that the engine has, with no registry asked.
    :param engine: the engine's address, for messages.
    """

    # The SDK's types do not cover the calls for images.
    client: Any
    auth: Mapping[str, str] | None = None
    local: bool = False
    engine: str = ""

    def resolve(self, reference: Reference) -> str:
        """Return the digest that *reference* means now; asks the registry where it must.

        :raises DeliveryError: there is no such image, or the registry cannot be asked.
        """
        if self.local:
            return self._resolve_here(reference)
        if reference.digest:
            return reference.digest
        with refusals(f"ask the registry for {reference.name}"):
            auth = dict(self.auth) if self.auth else None
            answer = self.client.api.inspect_distribution(reference.name, auth_config=auth)
        digest = str((answer.get("Descriptor") or {}).get("digest", ""))
        if not DIGEST.fullmatch(digest):
            raise EngineError(f"the registry named no digest for {reference.name}")
        return digest

    def _resolve_here(self, reference: Reference) -> str:
        try:
            with engine_errors(f"look for the image {reference.name}"):
                return str(self.client.api.inspect_image(reference.name)["Id"])
        except Missing as error:
            engine = f"the engine {self.engine}" if self.engine else "the engine"
            raise Refused(
                f"the image {reference.name} is not on {engine}",
                "image_missing",
                "Pull or build it there, or set pull to missing."
                if reference.repository
                else "Pull or build it there.",
            ) from error.__cause__

    def name(self, reference: Reference, digest: str) -> str:
        """Return the name by which the engine runs the image."""
        return digest if self.local else reference.pinned(digest)

    def has(self, name: str) -> bool:
        """Tell whether the engine has the image."""
        try:
            with engine_errors(f"look for the image {name}"):
                self.client.api.inspect_image(name)
        except Missing:
            return False
        return True

    def pull(self, name: str, deadline: Deadline) -> None:
        """Pull an image by its digest.

        The SDK waits for a pull as long as it takes. So it runs in a thread that nobody waits for
        at the end: an engine ends a pull whose caller is gone.

        :raises Refused: the registry or the engine's disk would not have it.
        :raises TimeoutExceeded: the deadline passed.
        """
        ended: list[Exception | None] = []

        def run() -> None:
            try:
                self._pull(name)
            except Exception as error:
                ended.append(error)
            else:
                ended.append(None)

        Thread(target=run, daemon=True).start()
        try:
            wait_for(
                lambda: True if ended else None,
                deadline=deadline.within(deadline.remaining),
                pace=PULL_PACE,
                what="the pull",
            )
        except TimeoutExceeded as error:
            raise TimeoutExceeded(
                f"pulling {name} took longer than {deadline.seconds:.0f} s",
                next_step="Check how the engine reaches the registry, or give a longer "
                "pull_timeout.",
            ) from error
        if ended[0] is not None:
            raise ended[0]

    def _pull(self, name: str) -> None:
        with refusals(f"pull {name}"):
            auth = dict(self.auth) if self.auth else None
            # The engine answers 200 before it begins, and says in the stream what went wrong.
            for line in self.client.api.pull(name, stream=True, decode=True, auth_config=auth):
                if line.get("error"):
                    raise meaning(EngineError(f"could not pull {name}: {line['error']}"))

    def forget(self, name: str) -> str:
        """Remove the engine's reference to an image; what else uses it keeps it.

        :returns: what became of it, for people; empty where there was none, or it is in use.
        """
        try:
            with engine_errors(f"remove the image {name}"):
                self.client.api.remove_image(name, noprune=False)
        except EngineError:
            return ""
        return f"The image {name} was removed"
