# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an engine's refusals mean to a deploy: one word for plays, and a next step for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..engine.client import EngineAway, EngineError, engine_errors


class Refused(EngineError):
    """The engine refused; ``kind`` says why, as far as its words tell."""

    def __init__(self, message: str, kind: str, next_step: str) -> None:
        super().__init__(message, next_step=next_step)
        self.kind = kind


@dataclass(frozen=True)
class _Meaning:
    kind: str
    words: tuple[str, ...]
    next_step: str


# In this order: what a registry says of an image that is missing may begin like a refusal.
_MEANINGS = (
    _Meaning(
        "disk_full",
        ("no space left on device", "disk quota exceeded"),
        "Make room on the engine's disk, then run this again.",
    ),
    _Meaning(
        "port_taken",
        ("port is already allocated", "address already in use"),
        "Find out who listens there, or give another published_port.",
    ),
    _Meaning(
        "image_missing",
        (
            "manifest unknown",
            "manifest for",
            "not found",
            "no such image",
            "does not exist",
            "name unknown",
            "name_unknown",
        ),
        "Check the image's name, and that its build was pushed.",
    ),
    _Meaning(
        "registry_denied",
        ("unauthorized", "authentication required", "access denied", "no basic auth"),
        "Log in to the registry on the machine that this runs on, or give registry_username and "
        "registry_password.",
    ),
    _Meaning(
        "registry_away",
        (
            "connection refused",
            "no such host",
            "i/o timeout",
            "no route to host",
            "network is unreachable",
            "connection reset",
            "handshake",
            "certificate",
            "server gave http response",
            "deadline exceeded",
            "awaiting headers",
            "bad gateway",
            "service unavailable",
            "eof",
        ),
        "Make sure that the engine reaches the registry, then run this again.",
    ),
)


def meaning(error: EngineError) -> EngineError:
    """Return *error* as what its words mean, or as it is."""
    text = error.message.lower()
    for known in _MEANINGS:
        if any(word in text for word in known.words):
            return Refused(error.message, known.kind, known.next_step)
    return error


@contextmanager
def refusals(doing: str) -> Iterator[None]:
    """Turn the SDK's failures into ours, with what they mean.

    :raises Refused: the engine gave a reason that is known here.
    :raises EngineError: it gave another one, or no answer.
    """
    try:
        with engine_errors(doing):
            yield
    except EngineAway:
        raise
    except EngineError as error:
        raise meaning(error) from error.__cause__
