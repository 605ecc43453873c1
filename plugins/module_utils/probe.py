# Copyright: (c) 2026, immutable.delivery contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asking a server whether it is well, and whether it is the one that is meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .deadline import Deadline, Pace, wait_for
from .errors import DeliveryError, TimeoutExceeded
from .http import ConnectionBroken, Http, HttpError, Unreachable


class Unhealthy(DeliveryError):
    """A server does not answer as a healthy one would."""


@dataclass(frozen=True)
class Expectation:
    """What a healthy answer looks like.

    :param path: asked for with GET.
    :param status: the statuses that count as healthy; empty for any 2xx.
    :param fields: JSON fields (dots descend) that must have these values, compared as text.
    :param headers: sent with the request.
    """

    path: str = "/health"
    status: tuple[int, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def look_up(document: Any, dotted: str) -> Any:
    """Return the value at *dotted* in nested JSON objects, or None."""
    for part in dotted.split("."):
        if not isinstance(document, Mapping) or part not in document:
            return None
        document = document[part]
    return document


def as_text(value: Any) -> str:
    """Return a field's value as it is compared: truth values as JSON writes them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def shortcoming(http: Http, expected: Expectation, deadline: Deadline) -> str:
    """Ask once; return what is wrong with the answer, or an empty string.

    A server that cannot be reached is a shortcoming too, so that it can be waited for. A TLS
    failure or an unusable address raises :class:`HttpError`: waiting would not mend it.
    """
    try:
        response = http.request(
            "GET",
            expected.path,
            deadline=deadline.within(10),
            headers=expected.headers,
            repeat=False,
        )
    except (Unreachable, ConnectionBroken, TimeoutExceeded) as error:
        return error.message
    if expected.status:
        if response.status_code not in expected.status:
            return f"status {response.status_code}"
    elif not response.ok or response.is_redirect:
        return f"status {response.status_code}"
    if not expected.fields:
        return ""
    try:
        document = http.json(response)
    except HttpError as error:
        return error.message
    for name, value in expected.fields.items():
        seen = look_up(document, name)
        if seen is None:
            return f"{name} is missing, and should be {value}"
        # YAML and templates write a truth value as True, JSON as true.
        wanted = value.lower() if isinstance(seen, bool) else value
        if as_text(seen) != wanted:
            return f"{name} is {as_text(seen)}, not {value}"
    return ""


def wait_healthy(
    http: Http,
    expected: Expectation,
    *,
    deadline: Deadline,
    successes: int = 1,
    pace: Pace = Pace(interval=1.0, first=0.0),  # noqa: B008 - frozen
    watch: Callable[[], object] = lambda: None,
) -> None:
    """Wait for *successes* healthy answers in a row.

    :param watch: called before each look; it may raise to end the wait.
    :raises Unhealthy: the deadline passed first; the error says what was seen last.
    """
    last = ""

    def look() -> bool | None:
        nonlocal last
        watch()
        for _attempt in range(successes):
            last = shortcoming(http, expected, deadline)
            if last:
                return None
        return True

    try:
        wait_for(look, deadline=deadline, pace=pace, what="health", last_seen=lambda: last)
    except TimeoutExceeded as error:
        raise Unhealthy(
            f"{http.at(expected.path)} did not answer as healthy "
            f"within {deadline.seconds:.0f} s: {last}",
            next_step="See that server's own log.",
        ) from error
