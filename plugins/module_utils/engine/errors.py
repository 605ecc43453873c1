# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine's failures as ours: one word for plays, and a next step for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ..errors import DeliveryError

with suppress(ImportError):  # client.py reports what is missing
    from docker.errors import APIError, DockerException, NotFound
    from requests.exceptions import RequestException


class EngineError(DeliveryError):
    """The engine refused, or gave no answer."""

    kind = "engine"


class EngineAway(EngineError):
    """The engine cannot be reached, or does not let us in."""

    kind = "engine_away"


class Missing(EngineError):
    """What was asked for is not known to the engine."""

    kind = "missing"


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
def engine_errors(doing: str, *, away: bool = False) -> Iterator[None]:
    """Turn the SDK's failures into ours.

    :param doing: what is tried, for the message: "start web-2".
    :raises Missing: the engine does not know what was named.
    :raises EngineAway: it gave no answer.
    :raises EngineError: it refused.
    """
    try:
        yield
    except NotFound as error:
        raise Missing(f"could not {doing}: {reason(error)}") from error
    except APIError as error:
        kind = EngineAway if away else EngineError
        raise kind(f"could not {doing}: {reason(error)}") from error
    except (DockerException, RequestException, OSError) as error:
        raise EngineAway(
            f"could not {doing}: the engine gave no answer ({innermost(error)})",
            next_step="Make sure that the engine runs and lets this user in, and run this again.",
        ) from error


def reason(error: APIError) -> str:
    """Return the engine's own words, once, without the address of the call."""
    text = str(error.explanation or error).strip()
    half = len(text) // 2 - 1
    first, rest = text[:half], text[half:]
    # Such as "no such image: demo:1: No such image: demo:1".
    said_twice = half > 0 and rest.casefold() == f": {first}".casefold()
    return rest.removeprefix(": ") if said_twice else text


def innermost(error: BaseException) -> str:
    """Return the words of the error that all the others were raised from."""
    while True:
        inner = error.__cause__ or error.__context__
        if inner is None:
            return str(error) or type(error).__name__
        error = inner


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
